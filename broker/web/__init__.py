"""HTTP: Envoy's webhooks in, and whether the broker is up."""
