"""Outcrop: an open stack from silicon to service.

The rooms, from the foundation up: ``base``, ``trust``, ``models``, ``training``, ``inference``,
``service`` and ``cli``. ``docs/structure.md`` says what each is for and which way imports run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.silicon import nki

__version__ = "0.1.0"
__all__ = ["__version__", "nki"]


def __getattr__(name: str) -> Any:
    """``outcrop.nki`` is the kernel language, imported when it is asked for: it needs NumPy."""
    if name == "nki":
        return importlib.import_module("outcrop.silicon.nki")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
