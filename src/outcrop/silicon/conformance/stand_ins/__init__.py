"""Modules that suites import and that are missing here: ours where they matter, inert ones where they do not.

A real package always comes first: a stand-in is used only where the import would fail. Inert modules stand for what
serves remote hosts, dashboards and reports; whatever is taken from them does nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

OWN = {
    "neuron_dtypes": "neuron_dtypes",
    "neuronxcc.starfish.support.dtype": "neuron_dtypes",
    "torch_xla": "torch_device",
    "torch_xla.core": "torch_device",
    "torch_xla.core.xla_model": "torch_device",
    "torch_neuronx": "torch_device",
    "scipy": "science",
    "scipy.special": "science",
    "scipy.linalg": "science",
    "allpairspy": "pairs",
    "attr": "records",
    "nki.compiler.frontend": "compiler_frontend",
}
INERT = (
    "fabric2",
    "paramiko",
    "aws_embedded_metrics",
    "plotext",
    "pytest_html",
    "debugpy",
    "boto3",
    "botocore",
    "test.utils.scripts",  # of NKI Library, whose published files lack it: locks on remote hosts
    "test.utils.perf_analysis_private",
)
PARENTS = ("neuronxcc.starfish", "neuronxcc.starfish.support")


def install() -> None:
    """Make missing modules importable: asked last of all, so what is really there comes first."""
    sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in OWN:
            return ModuleSpec(fullname, _Own(OWN[fullname]), is_package=True)
        if fullname in PARENTS or any(fullname == name or fullname.startswith(f"{name}.") for name in INERT):
            return ModuleSpec(fullname, _Inert(), is_package=True)
        return None


class _Own(Loader):
    """The names of one of our modules, under another name."""

    def __init__(self, source: str) -> None:
        self.source = source

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        ours = importlib.import_module(f"{__name__}.{self.source}")
        for name, value in vars(ours).items():
            if not name.startswith("__"):
                setattr(module, name, value)


class _Inert(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return InertModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


class InertModule(ModuleType):
    """Has every name: each is a class that may be called, inherited from, raised and caught."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = InertType(name, (Inert,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class InertType(type):
    """The class of what inert modules have: it has every attribute itself."""

    def __getattr__(cls, name: str) -> Inert:
        if name.startswith("_"):
            raise AttributeError(name)
        return Inert()


class Inert(Exception, metaclass=InertType):
    """Does nothing, whatever it is asked; an exception because it may stand for one."""

    def __getattr__(self, name: str) -> Inert:
        if name.startswith("_"):
            raise AttributeError(name)
        return Inert()

    def __call__(self, *args: object, **kwargs: object) -> Inert:
        return Inert()
