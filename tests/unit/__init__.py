"""Rules and use cases over fakes: no sockets, no processes, no waiting."""
