"""nki.typing: annotations of kernel parameters. They say what is meant and are not checked."""

from __future__ import annotations

from outcrop.silicon.device.tensor import Tensor


class _Annotation:
    """``nt.tensor``, or with a type and a shape ``nt.tensor[nl.float32, (128, 512)]``."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getitem__(self, described: object) -> _Annotation:
        return self

    def __call__(self, *described: object) -> _Annotation:
        return self

    def __or__(self, other: object) -> _Annotation:
        return self

    __ror__ = __or__

    def __repr__(self) -> str:
        return f"nki.typing.{self.__name__}"


tensor = _Annotation("tensor")
mutable_tensor = _Annotation("mutable_tensor")
NkiTensor = Tensor

__all__ = ["NkiTensor", "mutable_tensor", "tensor"]
