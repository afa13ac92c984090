"""The engine: continuous batching over a paged KV cache, sampling, incremental text; knows no callers and no keys."""
