"""``neuronxcc.nki.typing``: annotations of kernels. ``tensor[128, 512]`` tells readers a shape, unchecked."""

from __future__ import annotations

from typing import Any

from outcrop.silicon.nki.legacy.tile import Tile


class tensor(Tile):
    """A tensor, or with brackets a tensor of that shape."""

    def __class_getitem__(cls, shape: Any) -> type[tensor]:
        return cls


class scalar:
    """A number known when the kernel is traced."""

    def __class_getitem__(cls, kind: Any) -> type[scalar]:
        return cls


class mutable_tensor(tensor):
    """A parameter that the kernel writes to."""


def mutable(annotation: Any = tensor) -> Any:
    """Mark a parameter's annotation as written to."""
    return annotation
