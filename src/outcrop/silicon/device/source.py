"""Whose line it was: the innermost frame outside this package's silicon room."""

from __future__ import annotations

import linecache
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

_OWN = str(Path(__file__).resolve().parent.parent) + "/"
_NUMPY = str(Path(np.__file__).resolve().parent) + "/"  # np.sum(tile) is the kernel's line, not NumPy's
_own_files: dict[str, bool] = {}

# The target of an assignment that begins on a line, with or without an annotation; or the list that is appended to.
_TARGET = re.compile(
    r"\s*([A-Za-z_][\w.]*(?:\[[\w\"'., ]{1,24}\])?)\s*(?::[^=]+)?=(?!=)"
    r"|\s*([A-Za-z_][\w.]*)\.append\("
)
_assigned: dict[tuple[str, int], str] = {}


class Source(NamedTuple):
    """A line of a kernel."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"

    @property
    def text(self) -> str:
        """The line itself, empty where the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()


NOWHERE = Source("<unknown>", 0, "<unknown>")


def is_own(file: str) -> bool:
    """Whether a file is part of this package's silicon room, its kernels excepted."""
    own = file.startswith(_NUMPY)
    own |= file.startswith(_OWN) and "/silicon/kernels/" not in file  # our kernels are written as users write theirs
    _own_files[file] = own
    return own


def caller() -> Source:
    """The line of the kernel that is being executed; about a microsecond."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        own = _own_files.get(file)
        if own is None:
            own = is_own(file)
        if not own:
            return Source(file, frame.f_lineno, code.co_name)
        back = frame.f_back
        if back is None:
            break
        frame = back
    return NOWHERE


def assigned_name(source: Source) -> str:
    """What a line assigns to: the name of a tensor that was given none. Empty where it assigns to no one name."""
    key = (source.file, source.line)
    name = _assigned.get(key)
    if name is None:
        found = _TARGET.match(linecache.getline(*key))
        name = (found.group(1) or found.group(2)) if found else ""
        _assigned[key] = name
    return name
