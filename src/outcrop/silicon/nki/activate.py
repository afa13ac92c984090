"""The vendor's import names, for a block: ``with activate():`` makes ``import nki`` find this package.

Installed are ``nki`` with its modules, ``nki_cpu_simulator`` (by which the vendor's kernel library finds a simulator),
and ``neuronxcc.nki``, the front of the language before 0.2. Nothing is installed where one of the vendor's packages is
importable, unless asked: a shadow of the real compiler on a Neuron host would be a trap. Modules imported within the
block keep what they imported when it ends.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.chip import TARGET_VARIABLE, Chip
from outcrop.silicon.device.rules import relaxed_names
from outcrop.silicon.nki.defaults import current_options, defaults

_HERE = "outcrop.silicon.nki"
VENDOR_PACKAGES = ("nki", "neuronxcc", "nki_cpu_simulator")
LIBRARY_TARGET_VARIABLE = "NKI_NC_VERSION"  # how the vendor's kernel library names the target to its simulator


@contextmanager
def activate(
    target: Chip | str | None = None,
    relaxed: bool | Collection[str] | None = None,
    seed: int | None = None,
    *,
    shadow: bool = False,
) -> Iterator[None]:
    """Within the block, the vendor's import names are this package's modules.

    ``target``, ``relaxed`` and ``seed`` are the defaults of kernels called within. ``shadow=True`` installs the names
    even where the vendor's package is present. Blocks nest; leaving one restores what was imported before.
    """
    if not shadow:
        _refuse_shadowing()
    modules = _modules()
    roots = {name.partition(".")[0] for name in modules}
    before = {name: sys.modules[name] for name in list(sys.modules) if name.partition(".")[0] in roots}
    for name in before:
        del sys.modules[name]
    sys.modules.update(modules)
    try:
        with defaults(target, relaxed, None, seed):
            yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in roots]:
            del sys.modules[name]
        sys.modules.update(before)


def _refuse_shadowing() -> None:
    for name in VENDOR_PACKAGES:
        present = sys.modules.get(name)
        if present is not None:
            if getattr(present, "__outcrop__", False):
                continue
            found: object = present
        else:
            found = importlib.util.find_spec(name)
        if found is not None:
            raise UserError(
                f"The package {name} is installed here, and activate would hide it.",
                "Pass shadow=True to use Outcrop's for now: --shadow on the command line, --outcrop-shadow in pytest.",
            )


def _modules() -> dict[str, ModuleType]:
    """Every name to install, each with its module."""
    made: dict[str, ModuleType] = {}
    current = _module("nki", _current_parts())
    for root in ("nki", "nki_cpu_simulator.nki"):
        _add(made, root, current)
        made[f"{root}.language.dtypes"] = made[f"{root}.dtype"]
    simulator = _module("nki_cpu_simulator", {"nki": current})
    made["nki_cpu_simulator"] = simulator
    made.update(importlib.import_module(f"{_HERE}.legacy").modules())
    return made


def _add(made: dict[str, ModuleType], root: str, module: ModuleType) -> None:
    """A module, and by dotted name the modules that belong to it."""
    made[root] = module
    if getattr(module, "__outcrop__", False):
        for name, value in list(vars(module).items()):
            if isinstance(value, ModuleType):
                _add(made, f"{root}.{name}", value)
        return
    inside = f"{module.__name__}."
    for name, value in list(sys.modules.items()):
        if name.startswith(inside):
            made[root + name.removeprefix(module.__name__)] = value


def _module(name: str, attributes: dict[str, Any]) -> ModuleType:
    made = ModuleType(name, f"Outcrop's {name}, installed by activate.")
    made.__dict__.update(attributes)
    made.__dict__["__outcrop__"] = True
    made.__path__ = []  # a package, so that what it lacks is reported as missing, not as "not a package"
    return made


def _current_parts() -> dict[str, Any]:
    from outcrop.silicon.device import dtypes  # noqa: PLC0415  (activate is imported by the package itself)
    from outcrop.silicon.nki import launch  # noqa: PLC0415

    language = importlib.import_module(f"{_HERE}.language")
    parts: dict[str, Any] = {
        "jit": launch.jit,
        "simulate": launch.simulate,
        "cpu_simulate": _cpu_simulate,
        "Kernel": launch.Kernel,
        "language": language,
        "isa": importlib.import_module(f"{_HERE}.isa"),
        "typing": importlib.import_module(f"{_HERE}.typing"),
        "dtype": dtypes,
        "tensor": _module("nki.tensor", {"Tensor": language.NkiTensor, "NkiTensor": language.NkiTensor}),
        "builtin": _module("nki.builtin", {}),
        "compiler": _module("nki.compiler", {}),
        "__version__": "0.6.0+outcrop",
    }
    if importlib.util.find_spec(f"{_HERE}.collectives") is not None:
        parts["collectives"] = importlib.import_module(f"{_HERE}.collectives")
    return parts


def _cpu_simulate(kernel: Callable[..., Any]) -> Any:
    """The vendor library's way to its simulator: ``cpu_simulate(kernel)[cores](**arguments)``.

    The target is that of the enclosing ``activate``, else the variable that the library sets, else the default. The
    vendor documents that its simulator takes any Python; so rules of the front end only warn here, as those of the
    device do not.
    """
    from outcrop.silicon.nki import frontend, launch  # noqa: PLC0415

    named = os.environ.get(LIBRARY_TARGET_VARIABLE)
    chosen = current_options().target is not None or TARGET_VARIABLE in os.environ
    relaxed = relaxed_names(current_options().relaxed) | frontend.RULES
    return launch.simulate(kernel, target=None if chosen or not named else named, relaxed=relaxed)


__all__ = ["VENDOR_PACKAGES", "activate"]
