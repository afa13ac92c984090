"""The foundation: names and ARNs, the error tree, limits, the clock and randomness ports, tables, atomic files.

Everything else may import this room; it imports nothing of ours and nothing outside the standard library.
"""
