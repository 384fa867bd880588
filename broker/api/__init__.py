"""gRPC: proto to domain and back, and nothing else."""
