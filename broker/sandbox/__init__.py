"""What `make run` needs and a deployment does not: embedded Postgres, the simulated Envoy, the demo."""
