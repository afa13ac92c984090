"""Classes of the kernel language: what a kernel's own classes derive from.

The vendor's front end gives such a class an initialiser from its annotated fields, whether or not it is also a
dataclass; so does this one.
"""

from __future__ import annotations

import inspect
from typing import Any


class NKIObject:
    """Base of kernel-side classes: fields are the annotated names, ``None`` where they have no default."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fields = _fields(type(self))
        if len(args) > len(fields):
            raise TypeError(f"{type(self).__name__} has {len(fields)} fields, {len(args)} values were given")
        given = dict(zip(fields, args, strict=False))
        for name, value in kwargs.items():
            if name in given or (fields and name not in fields):
                raise TypeError(f"{type(self).__name__} got an unexpected or repeated argument {name!r}")
            given[name] = value
        for name in fields:
            setattr(self, name, given.pop(name, getattr(type(self), name, None)))
        for name, value in given.items():
            setattr(self, name, value)
        after = getattr(self, "__post_init__", None)
        if after is not None:
            after()


def _fields(kind: type) -> list[str]:
    names: dict[str, None] = {}
    for each in reversed(kind.__mro__):
        names.update(dict.fromkeys(inspect.get_annotations(each)))
    return list(names)
