"""A value that does not show itself: not in a repr, a log line, a format string, JSON, a pickle or a copy.

Not covered: memory. Python keeps the bytes until they are collected and may have copied them; a debugger, a core dump
or root sees them. Whoever calls ``reveal`` holds an ordinary value again, which every log can show.
"""

from __future__ import annotations

from typing import NoReturn, final

from outcrop.trust.crypto.hashes import constant_time_equal

HIDDEN = "Secret(***)"


@final
class Secret:
    """Secret bytes, or a text by its UTF-8 bytes. Equality takes the same time wherever two secrets differ."""

    __slots__ = ("__value",)

    def __init__(self, value: bytes | str) -> None:
        self.__value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves. Keep them in the fewest lines possible."""
        return self.__value

    def reveal_text(self) -> str:
        """The bytes as UTF-8 text; ``ValueError`` when they are none."""
        try:
            return self.__value.decode()
        except UnicodeDecodeError:
            pass  # raised outside: that error carries the bytes, and would stay in the new one's context
        raise ValueError("The secret is not a text.")

    def __len__(self) -> int:
        return len(self.__value)

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and constant_time_equal(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]  # a secret is no dictionary key: its hash would be a way to compare

    def __repr__(self) -> str:
        return HIDDEN

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, specification: str) -> str:
        return HIDDEN

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self  # immutable; dataclasses.asdict copies its values

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret is not pickled.")

    def __getstate__(self) -> NoReturn:
        raise TypeError("A Secret is not pickled.")
