"""An OTLP receiver for tests: over gRPC and over HTTP, with real sockets, and what it got."""
