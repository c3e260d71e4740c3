"""gRPC services: the edge where messages become domain values and errors become statuses."""
