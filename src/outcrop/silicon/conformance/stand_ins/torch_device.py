"""Stands for ``torch_xla`` and ``torch_neuronx``: the device is the CPU, and nothing is queued."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any


def xla_device(*args: object, **kwargs: object) -> Any:
    """PyTorch's CPU device; its kernels run on our device all the same."""
    return sys.modules["torch"].device("cpu")


device = xla_device


def mark_step(*args: object, **kwargs: object) -> None:
    """Work is done when it is called: there is nothing to wait for."""


sync = wait_device_ops = mark_step
xla_model = SimpleNamespace(xla_device=xla_device, mark_step=mark_step, wait_device_ops=mark_step)


def __getattr__(name: str) -> Any:
    if name == "nki_jit":
        return importlib.import_module("nki").jit
    raise AttributeError(name)
