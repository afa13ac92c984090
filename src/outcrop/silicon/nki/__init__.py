"""The kernel language: ``jit`` makes a kernel of a function, ``simulate`` runs it on the simulated device.

``outcrop.silicon.nki.language`` and ``.isa`` are the vendor's modules of those names; ``activate`` installs all of them
under the vendor's import names for a block. ``run`` gives the trace, the memory use and the warnings with the result.

Names are imported when they are first asked for: the parts of this package import each other's modules.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.silicon.nki import isa, language, typing
    from outcrop.silicon.nki.activate import activate
    from outcrop.silicon.nki.defaults import Options, defaults, recording
    from outcrop.silicon.nki.launch import Kernel, jit, simulate
    from outcrop.silicon.nki.objects import NKIObject
    from outcrop.silicon.nki.run import PerRank, Run, Warned, run

__all__ = [
    "Kernel",
    "NKIObject",
    "Options",
    "PerRank",
    "Run",
    "Warned",
    "activate",
    "defaults",
    "isa",
    "jit",
    "language",
    "recording",
    "run",
    "simulate",
    "typing",
]

_HOMES = {
    "Kernel": "launch",
    "NKIObject": "objects",
    "Options": "defaults",
    "PerRank": "run",
    "Run": "run",
    "Warned": "run",
    "activate": "activate",
    "defaults": "defaults",
    "jit": "launch",
    "recording": "defaults",
    "run": "run",
    "simulate": "launch",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    elif name in __all__ or name in ("collectives", "legacy"):
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Keeps ``run`` and ``activate`` functions where importing the modules of these names would bind those instead."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
