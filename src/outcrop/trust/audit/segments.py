"""The log's files: what a line is, reading them in order, and finding the torn end that a crash leaves.

A segment is a text file named by the index of its first record. Each line is::

    R 8-hex-CRC-32 {"index":17,"at":"2026-01-01T00:00:00.000001Z","event":{...}}
    H 8-hex-CRC-32 {"tree_size":18,"root":"...","at":"...","log":"...","key":"...","signature":"..."}

An ``R`` line is one record; the bytes of its JSON are the Merkle leaf. An ``H`` line is a signed head over every
record before it, and each commit ends with one: what stands behind the last head was never acknowledged. The CRC
finds torn lines; it proves nothing, the heads do.

Not covered: deleting old segments. They are the log; move them to other storage only together with their heads.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.base.errors import AuditBroken

SUFFIX = ".log"
PREFIX_BYTES = len("R 00000000 ")


@dataclass(frozen=True, slots=True)
class Line:
    """One whole line: ``kind`` is ``R`` or ``H``, ``payload`` its JSON, ``offset`` where the line begins."""

    kind: str
    payload: bytes
    segment: Path
    offset: int

    @property
    def end(self) -> int:
        """The offset after the line."""
        return self.offset + PREFIX_BYTES + len(self.payload) + 1

    @property
    def place(self) -> str:
        return f"{self.segment.name}, byte {self.offset}"

    def parsed(self) -> dict[str, Any]:
        """The JSON object; ``AuditBroken`` where it is none."""
        try:
            found = json.loads(self.payload)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise broken(self.place, "the line holds no JSON object")
        return found


def broken(place: str, what: str) -> AuditBroken:
    """The error for a place in the log where it does not hold."""
    return AuditBroken(
        f"The audit log is broken at {place}: {what}.",
        "Keep the directory as it is for whoever investigates. `outcrop audit verify` tells more; to serve again, move "
        "the directory aside (a new log begins, with a new key) or restore it from a copy.",
    )


def line(kind: str, payload: bytes) -> bytes:
    """A payload as a line of the log. The payload must hold no line feed; JSON never has to."""
    return b"%s %08x %s\n" % (kind.encode(), zlib.crc32(payload), payload)


def record(index: int, at: str, event: bytes) -> bytes:
    """The leaf of one event (JSON): its place in the log and when the log took it in."""
    return b'{"index":%d,"at":"%s","event":%s}' % (index, at.encode(), event)


def segment_name(first: int) -> str:
    return f"{first:020}{SUFFIX}"


def first_index(segment: Path) -> int:
    """The index of the first record of a segment, from its name."""
    if not segment.stem.isdecimal():
        raise broken(segment.name, "it is not named by the index of its first record")
    return int(segment.stem)


def segments(directory: Path) -> list[Path]:
    """The log's segments, oldest first."""
    return sorted(directory.glob("*" + SUFFIX))


def whole_lines(segment: Path, offset: int = 0) -> Iterator[Line]:
    """The lines of a segment from ``offset`` on, up to the first that is torn (no line feed, or another CRC)."""
    with segment.open("rb") as file:
        file.seek(offset)
        for text in file:
            payload = text[PREFIX_BYTES:-1]
            kind = text[:1]
            if kind not in (b"R", b"H") or text != line(kind.decode(), payload):
                return
            yield Line(kind.decode(), payload, segment, offset)
            offset += len(text)


def read_line(segment: Path, offset: int) -> Line:
    """The line that begins at ``offset``; ``AuditBroken`` where no whole line does."""
    for found in whole_lines(segment, offset):
        return found
    raise broken(f"{segment.name}, byte {offset}", "no whole line begins here")


def signed_records(
    directory: Path, first: int = 0, after: tuple[int, Line] | None = None
) -> Iterator[tuple[int, Line]]:
    """The records from index ``first`` on that a head covers, in order. Checks their order, not their hashes.

    A record of a commit that is under way is left out, so this may run beside a writer. ``after`` is the record before
    ``first`` where it is at hand: then nothing before it is read again.
    """
    every = segments(directory)
    for number, segment in enumerate(every):
        if number + 1 < len(every) and first_index(every[number + 1]) <= first:
            continue
        index, offset = first_index(segment), 0
        if after is not None and after[0] == first - 1 and after[1].segment == segment:
            index, offset = first, after[1].end
        waiting: list[tuple[int, Line]] = []
        for found in whole_lines(segment, offset):
            if found.kind == "R":
                if not found.payload.startswith(b'{"index":%d,' % index):
                    raise broken(found.place, f"record {index} is expected here")
                if index >= first:
                    waiting.append((index, found))
                index += 1
            else:
                yield from waiting
                waiting.clear()
