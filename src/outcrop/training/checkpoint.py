"""Checkpoints that are either whole or absent.

A checkpoint is written to a hidden folder beside its place, flushed to disk, and published by one rename; a process
killed at any instant leaves the older checkpoints as they were. Tensors are safetensors; the optimisers' state and
the random generators are a torch file that is read with ``weights_only``.

Not covered: damage to the disk after publishing. Nothing here checks sums of files.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

_NAME = re.compile(r"step-(\d{8})$")


@dataclass(frozen=True, slots=True)
class TrainingState:
    """All that a run needs besides weights to go on exactly: optimisers, data cursor, random generator, step."""

    step: int
    optimizers: list[dict[str, Any]]
    cursor: dict[str, int]
    generator: torch.Tensor
    progress: dict[str, float] = field(default_factory=dict)
    """Numbers of the run's own, such as the best loss so far."""


def save(folder: Path, model: nn.Module, state: TrainingState, keep: int) -> Path:
    """Publish a checkpoint as ``FOLDER/step-NNNNNNNN`` and remove all but the newest ``keep``."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{state.step:08d}"
    temporary = folder / f".unfinished-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_model(model, str(temporary / "model.safetensors"))
    torch.save({item.name: getattr(state, item.name) for item in fields(state)}, temporary / "state.pt")
    for path in temporary.iterdir():
        _flush(path)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _flush(folder)
    for old in published(folder)[:-keep]:
        shutil.rmtree(old)
    for leftover in folder.glob(".unfinished-*"):
        shutil.rmtree(leftover)
    return final


def published(folder: Path) -> list[Path]:
    """The whole checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.match(path.name))


def restore(checkpoint: Path, model: nn.Module) -> TrainingState:
    """Load weights into ``model`` and return the rest."""
    load_model(model, str(checkpoint / "model.safetensors"))
    return TrainingState(**torch.load(checkpoint / "state.pt", weights_only=True))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
