"""What deploys a broker: the Helm chart, compose, alerts and dashboards; and what checks them."""
