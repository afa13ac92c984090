"""The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1.3 to 2.1.5): roots, inclusion and consistency proofs.

A leaf is hashed with a 0x00 in front, an inner node with a 0x01, so that neither can be passed off as the other. The
tree over n leaves splits at the largest power of two below n; a subtree over an aligned power of two of leaves never
changes again, so such nodes are stored (``nodes``) and every root and proof is made from O(log n) of them.

Not covered: who says that a root is the log's root. That takes a signed head (``heads``) and somebody who kept one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outcrop.base.errors import check
from outcrop.trust.crypto.hashes import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"")

Node = Callable[[int, int], bytes]
"""``node(level, index)``: the hash over the leaves from ``index << level`` to ``(index + 1) << level``, all there."""


def leaf_hash(record: bytes) -> bytes:
    """The hash of one record as a leaf."""
    return sha256(b"\x00" + record)


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two."""
    return sha256(b"\x01" + left + right)


class Frontier:
    """The state of a growing tree: the roots of its complete subtrees, largest first. O(log n) memory."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        check(size.bit_count() == len(peaks), "a frontier has one peak for each bit of its size")
        self.size = size
        self._peaks = list(peaks)

    @classmethod
    def load(cls, size: int, node: Node) -> Frontier:
        """The state at ``size`` leaves, from stored nodes."""
        return cls(size, [node(level, index) for level, index in _complete(0, size)])

    def append(self, leaf: bytes) -> list[tuple[int, bytes]]:
        """Take in a leaf's hash. The nodes that it completes, as (level, hash), from the leaf upwards."""
        made = [(0, leaf)]
        for level in range((~self.size & (self.size + 1)).bit_length() - 1):
            leaf = node_hash(self._peaks.pop(), leaf)
            made.append((level + 1, leaf))
        self._peaks.append(leaf)
        self.size += 1
        return made

    def copy(self) -> Frontier:
        return Frontier(self.size, self._peaks)

    def root(self) -> bytes:
        """The root over all leaves taken in so far."""
        return _fold(self._peaks)


def root(size: int, node: Node) -> bytes:
    """The root of the tree over the first ``size`` leaves."""
    return _range(0, size, node)


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The hashes that, with the leaf, give the root at ``size`` (RFC 6962 2.1.1), from the leaf's sibling upwards."""
    check(0 <= index < size, "a proof is for a leaf inside the tree")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(_range(middle, end, node))
            end = middle
        else:
            proof.append(_range(begin, middle, node))
            begin = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """The hashes that show that the tree at ``new`` leaves begins with the tree at ``old`` (RFC 6962 2.1.2)."""
    check(0 <= old <= new, "a log only grows")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    begin, end, whole = 0, new, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(_range(middle, end, node))
            end = middle
        else:
            proof.append(_range(begin, middle, node))
            begin, whole = middle, False
    if not whole:
        proof.append(_range(begin, end, node))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Whether ``proof`` leads from the leaf's hash at ``index`` to the root at ``size`` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and found == expected


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` shows that the tree under ``new_root`` begins with that under ``old_root`` (RFC 9162 2.1.4.2).

    Everything is consistent with the empty tree; a tree is consistent with itself by equal roots alone.
    """
    if not 0 <= old <= new:
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if old == new:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)


def _complete(begin: int, end: int) -> list[tuple[int, int]]:
    """The aligned complete subtrees that make up the leaves from ``begin`` to ``end``, largest first.

    ``begin`` is a multiple of the largest of them, as it is for every range that a tree splits into.
    """
    found = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        found.append((level, begin >> level))
        begin += 1 << level
    return found


def _range(begin: int, end: int, node: Node) -> bytes:
    return _fold([node(level, index) for level, index in _complete(begin, end)])


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    found = peaks[-1]
    for peak in reversed(peaks[:-1]):
        found = node_hash(peak, found)
    return found
