"""Stubs of the token broker's API. Generated from proto/tokenbroker by `make proto`."""
