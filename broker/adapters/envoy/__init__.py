"""Envoy as the provider: its token endpoint and its webhooks.

wire.py and webhooks.py do no I/O: they turn bytes into the domain's words and back. client.py sends.
"""
