"""The documentation's site: what zensical builds it from, and what is drawn for it."""
