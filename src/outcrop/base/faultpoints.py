"""Named points in production code at which a test may make the process die or an operation fail; off by default.

``point("audit.append.synced")`` costs one comparison when nothing is armed. A test arms a whole process through the
environment: ``OUTCROP_FAULT=kill:7`` kills it (SIGKILL, as a power cut would) at the seventh point it passes,
``OUTCROP_FAULT=kill:kms.rotate.written:2`` at the second passing of that point, ``OUTCROP_FAULT=enospc:NAME`` raises
``OSError(ENOSPC)`` there, and ``OUTCROP_FAULT=count:PATH`` writes the names of all points passed to a file, which is
how a test learns how many there are. Source of the idea: FoundationDB's BUGGIFY.

Not covered: losing what was written and not yet synced; a kill leaves the page cache intact.
"""

from __future__ import annotations

import errno
import os
import signal

_ARMED = os.environ.get("OUTCROP_FAULT", "")
_passed: dict[str, int] = {}


def point(name: str) -> None:
    """Pass the point ``name`` (``room.action.moment``)."""
    if _ARMED:
        _act(name)


def _act(name: str) -> None:
    _passed[name] = _passed.get(name, 0) + 1
    kind, _, rest = _ARMED.partition(":")
    if kind == "count":
        with open(rest, "a", encoding="utf-8") as file:
            file.write(name + "\n")
        return
    wanted, _, nth = rest.partition(":")
    reached = (
        sum(_passed.values()) == int(wanted)
        if wanted.isdecimal()
        else wanted == name and _passed[name] == int(nth or 1)
    )
    if not reached:
        return
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
