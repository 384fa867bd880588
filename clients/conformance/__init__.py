"""What a client is: a table of behaviour, and what plays it with each client."""
