"""Classes of the kernel language: what a kernel's own classes derive from.

The vendor's front end gives such a class an initialiser from its annotated fields, whether or not it is also a
dataclass; so does this one.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any


class NKIObject:
    """Base of kernel-side classes: fields are annotated names and class attributes, ``None`` without a default."""

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
            value = given.pop(name) if name in given else _default(type(self), name)
            object.__setattr__(self, name, value)  # a frozen dataclass is one, too
        for name, value in given.items():
            object.__setattr__(self, name, value)
        after = getattr(self, "__post_init__", None)
        if after is not None:
            after()

    def __init_subclass__(cls) -> None:
        """Give the class the initialiser itself, which a ``dataclass`` decorator then leaves alone."""
        super().__init_subclass__()
        if cls.__init__ is NKIObject.__init__:
            cls.__init__ = NKIObject.__init__  # type: ignore[method-assign]


def _fields(kind: type) -> list[str]:
    names: dict[str, None] = {}
    for each in reversed(kind.__mro__[:-1]):
        names.update(dict.fromkeys(inspect.get_annotations(each)))
        names.update(dict.fromkeys(name for name, value in vars(each).items() if _is_field(name, value)))
    return list(names)


def _is_field(name: str, value: Any) -> bool:
    return not name.startswith("__") and not callable(value) and not hasattr(type(value), "__get__")


def _default(kind: type, name: str) -> Any:
    field = getattr(kind, "__dataclass_fields__", {}).get(name)
    if field is not None and field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return getattr(kind, name, None)
