"""What the log looks like when it is opened: where its last signed head stands, and what a crash left behind that.

Only signed records count. Lines behind the last head were never acknowledged; they are moved to ``tails/`` and the
repair is recorded. A log that is shorter than anything that was signed or counted is not torn but cut, and is refused.

Not covered: reading the whole log again. Older segments are taken at the word of their signed heads and of the tree
beside them; ``verify`` reads every byte.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from outcrop.base.errors import UserError
from outcrop.base.files import make_private_directory, sync_directory, write_atomic
from outcrop.trust.audit.heads import TreeHead, kept_heads
from outcrop.trust.audit.keys import PublicKeys
from outcrop.trust.audit.merkle import EMPTY_ROOT, Frontier, leaf_hash, root
from outcrop.trust.audit.nodes import NodeFiles
from outcrop.trust.audit.segments import (
    Line,
    broken,
    first_index,
    segment_name,
    segments,
    signed_records,
    whole_lines,
)

TAILS = "tails"


@dataclass(frozen=True, slots=True)
class Recovered:
    """The end of the log: the segment to go on with, the tree there, the last head, and what was cut."""

    segment: Path
    frontier: Frontier
    head: TreeHead | None
    cut_bytes: int
    cut_records: int


def recover(log: Path, tree: NodeFiles, keys: PublicKeys, kept: Path) -> Recovered:
    """Bring the log in ``log`` to its last signed head; ``AuditBroken`` where it is not what was signed."""
    every = segments(log)
    if not every:
        if tree.size() or kept_heads(kept):
            raise broken(str(log), "the records are gone, the tree and heads over them are not")
        path = log / segment_name(0)
        path.touch(mode=0o600)
        sync_directory(log)
        return Recovered(path, Frontier(), None, 0, 0)
    last = every[-1]
    head, end, records = _last_head(last)
    if head is None and len(every) > 1:
        head, before_end, _ = _last_head(every[-2])
        if before_end != every[-2].stat().st_size:
            raise broken(every[-2].name, "there is more behind its last head, and a later segment")
    size = 0 if head is None else head.tree_size
    if first_index(last) > size:
        raise broken(last.name, f"it begins at record {first_index(last)}, the head before it covers {size}")
    if head is not None and (wrong := keys.check_head(head)):
        raise broken(last.name, wrong)
    cut = last.stat().st_size - end
    if cut:
        _set_aside(last, end, log.parent / TAILS)
    frontier = _tree(log, tree, size, EMPTY_ROOT if head is None else bytes.fromhex(head.root))
    for one in kept_heads(kept):
        if one.tree_size > size:
            raise broken(last.name, f"it ends at record {size}, a head of {one.tree_size} records was signed")
        if keys.check_head(one) or root(one.tree_size, tree.node).hex() != one.root:
            raise broken(last.name, f"the log is not the one of which the head of {one.tree_size} records was signed")
    return Recovered(last, frontier, head, cut, records)


def _last_head(segment: Path) -> tuple[TreeHead | None, int, int]:
    """The last head of a segment, the offset behind it, and the number of whole records after it."""
    found: Line | None = None
    after = 0
    for one in whole_lines(segment):
        if one.kind == "H":
            found, after = one, 0
        else:
            after += 1
    if found is None:
        return None, 0, after
    try:
        return TreeHead.parse(found.payload), found.end, after
    except UserError:
        raise broken(found.place, "the head has another form") from None


def _set_aside(segment: Path, end: int, directory: Path) -> None:
    """Keep what stands behind ``end`` as evidence, then cut it off."""
    make_private_directory(directory)
    with segment.open("r+b") as file:
        file.seek(end)
        write_atomic(directory / f"{segment.stem}-{end}", file.read(), private=True)
        file.truncate(end)
        os.fsync(file.fileno())


def _tree(log: Path, tree: NodeFiles, size: int, expected: bytes) -> Frontier:
    """The tree at ``size``; from its files where they are good, else from the records."""
    if tree.size() > size:
        # Nodes are written after their records are on the disk: more nodes than records means that records went away.
        raise broken(str(log), f"it ends at record {size}, {tree.size()} records were acknowledged")
    if tree.matches(size, expected):
        return Frontier.load(size, tree.node)
    frontier = tree.rebuild(leaf_hash(one.payload) for _, one in signed_records(log))
    if frontier.size != size or frontier.root() != expected:
        raise broken(str(log), f"its records do not give the root that was signed for {size} records")
    return frontier
