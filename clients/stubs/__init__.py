"""Stubs for each language: the recipes that docs/stubs.md prints, and `make stubs-smoke`, which follows them."""
