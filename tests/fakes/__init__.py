"""Stand-ins for the ports, held to the same contracts as the adapters (see tests/contract)."""
