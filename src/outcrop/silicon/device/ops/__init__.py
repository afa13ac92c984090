"""The instructions, one function each: check, compute, write, record. Their public face is ``silicon.nki``."""

from __future__ import annotations
