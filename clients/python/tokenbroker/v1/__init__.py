"""tokenbroker.v1: the messages and services, generated."""
