"""The token broker's callers: `client`, which keeps valid tokens at hand, and `v1`, the stubs of the API."""
