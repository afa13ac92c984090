"""A small trainer in plain PyTorch: packed shards, exact resume, a schedule, metrics as JSON lines."""
