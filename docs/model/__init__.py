"""The refresh protocol as a Promela model, and its check."""
