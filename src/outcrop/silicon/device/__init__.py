"""The device: byte-addressed memories and instructions with their exact values, poison, bounds and capacity.

A kernel runs eagerly on a ``Core``: each instruction checks its operands, computes with NumPy, and leaves a record that
``silicon.timing`` can replay. Start reading at ``core``; ``ops`` has the instructions, ``rules`` what they refuse.
"""

from __future__ import annotations
