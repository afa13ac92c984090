"""The engine: continuous batching over a paged KV cache, sampling, incremental text; knows no callers and no keys.

Full blocks of a common beginning are computed once for all requests of one opaque scope (``prefix_cache``), and never
shared beyond it.
"""
