"""Interleavings, deaths and herds, in an order that the test decides."""
