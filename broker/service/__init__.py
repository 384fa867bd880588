"""The use cases, one a file, named as the RPC."""
