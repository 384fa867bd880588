"""Each port's contract, run against its fake and its adapter."""
