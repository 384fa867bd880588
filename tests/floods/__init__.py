"""Floods of our own: what a hostile client sends to a broker's ports, for a few seconds and over loopback only.

Each runs as a process by itself (`python -m tests.floods`), so that it takes none of the time of the callers whose
latency is measured.
"""
