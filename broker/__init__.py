"""Envoy Token Broker: keeps Envoy's OAuth tokens, and hands out valid ones over gRPC."""

__version__ = "0.1.0"
