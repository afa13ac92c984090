"""Blocks of keys and values that sequences with the same beginning share.

Every full block of a sequence that names a scope becomes a node of a tree: below the root of its (scope, adapter), one
level for each block, found by the token ids themselves. So a hit is exact: nothing is hashed down to something that two
prefixes could have in common, and no walk that begins at one scope's root can reach a node of another. A sequence with
an empty scope neither finds nor leaves anything.

Only full blocks are shared and they are written once, before they are published, so none is ever copied. A sequence
holds every node from the root to its last one; a node that nobody holds stays as long as its block is not needed, and
the node let go longest ago is evicted first, deepest first within one sequence.

It serves every architecture of ``models``: all of a position's state is its keys and values, and pages that slid out
of an attention window are kept (see ``scheduler``). A layer with a state of its own per sequence would need snapshots.

Not covered: the pool's room is common to all scopes, so how full it is, and with it waiting, preemption and how long
one's own prefixes last, can be felt by others; how much of it one scope may fill is not limited. Evicted blocks keep
their numbers until they are lent again, when ``runner`` clears them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from outcrop.base.errors import check
from outcrop.inference.blocks import BlockPool

Tokens = tuple[int, ...]
Key = tuple[bytes, str | None]


@dataclass(slots=True, eq=False)
class Node:
    """One full block: the ``tokens`` that follow those of ``parent``, whose keys and values are in ``block``."""

    parent: Node | None
    """None for a root, which has no block and stands under ``key``."""
    tokens: Tokens = ()
    block: int = -1
    users: int = 0
    """Sequences that hold it now."""
    children: dict[Tokens, Node] = field(default_factory=dict)
    dead: bool = False
    """Taken out of the tree: found by nobody, and freed by its last user."""
    key: Key | None = None


@dataclass(slots=True)
class PrefixCounts:
    """Since the engine began, in blocks: full prompt blocks found, and not found, at admission; blocks evicted."""

    hits: int = 0
    misses: int = 0
    evicted: int = 0


class PrefixCache:
    """Lends the blocks of ``pool``, evicting what nobody holds where it must."""

    def __init__(self, pool: BlockPool, block_tokens: int) -> None:
        self.counts = PrefixCounts()
        self._pool = pool
        self._block_tokens = block_tokens
        self._roots: dict[Key, Node] = {}
        self._idle: OrderedDict[Node, None] = OrderedDict()
        """Nodes of the tree that nobody holds, the first to be evicted first; each before all its ancestors."""

    @property
    def available(self) -> int:
        """Blocks that nobody holds."""
        return self._pool.free + len(self._idle)

    def find(self, scope: bytes, adapter: str | None, tokens: Sequence[int]) -> list[Node]:
        """The longest known chain of blocks at the beginning of ``tokens``, whose last one is never in it: something
        must be computed to go on from."""
        node = self._roots.get((scope, adapter)) if scope else None
        found: list[Node] = []
        if node is None:
            return found
        size = self._block_tokens
        for end in range(size, len(tokens), size):
            node = node.children.get(tuple(tokens[end - size : end]))
            if node is None:
                break
            found.append(node)
        return found

    def hold(self, nodes: Iterable[Node]) -> None:
        """Keep ``nodes``, a chain from a root, for one more sequence."""
        for node in nodes:
            if not node.users:
                del self._idle[node]
            node.users += 1

    def allocate(self, count: int) -> list[int]:
        """Lend ``count`` blocks; the caller has made sure that they are available."""
        while self._pool.free < count and self._idle:
            self._evict()
        return self._pool.allocate(count)

    def publish(
        self, scope: bytes, adapter: str | None, nodes: list[Node], tokens: Sequence[int], blocks: list[int]
    ) -> None:
        """Share the full blocks at the beginning of ``blocks``, where ``tokens`` have been computed, beyond ``nodes``.

        Adds to ``nodes`` what the sequence holds from now on. Where another sequence was faster, its block takes the
        place of this one's in ``blocks``, which returns to the pool.
        """
        size = self._block_tokens
        if not scope or len(tokens) < (len(nodes) + 1) * size or (nodes and nodes[-1].dead):
            return
        parent = nodes[-1] if nodes else self._root((scope, adapter))
        for at in range(len(nodes), len(tokens) // size):
            key = tuple(tokens[at * size : (at + 1) * size])
            node = parent.children.get(key)
            if node is None:
                node = parent.children[key] = Node(parent, key, blocks[at], users=1)
            else:
                self.hold([node])
                self._pool.release([blocks[at]])
                blocks[at] = node.block
            nodes.append(node)
            parent = node

    def release(self, nodes: Sequence[Node], own: Sequence[int]) -> None:
        """Let go of the chain ``nodes`` and of the blocks ``own`` behind it."""
        self._pool.release(own)
        for node in reversed(nodes):
            node.users -= 1
            if not node.users:
                if node.dead:
                    self._pool.release([node.block])
                else:
                    self._idle[node] = None

    def forget(self, node: Node) -> None:
        """Take ``node`` and all below it out of the tree. Who holds them may go on."""
        assert node.parent is not None
        if node.dead:
            return
        del node.parent.children[node.tokens]
        self._prune(node.parent)
        below = [node]
        while below:
            gone = below.pop()
            gone.dead = True
            below += gone.children.values()
            gone.children = {}
            if not gone.users:
                del self._idle[gone]
                self._pool.release([gone.block])

    def check_integrity(self, chains: Iterable[Sequence[Node]], own: Iterable[Sequence[int]]) -> None:
        """Raise ``InvariantError`` unless each block is free, idle, or held as ``chains`` and ``own`` say."""
        users: dict[Node, int] = {}
        for chain in chains:
            for node in chain:
                users[node] = users.get(node, 0) + 1
        alive: list[Node] = []
        below = [child for root in self._roots.values() for child in root.children.values()]
        while below:
            node = below.pop()
            alive.append(node)
            below += node.children.values()
            check(node.users == users.get(node, 0), "a shared block counts the sequences that hold it")
            check(not node.dead and (node in self._idle) == (not node.users), "what nobody holds can be evicted")
        check(len(self._idle) == sum(not node.users for node in alive), "only blocks of the tree can be evicted")
        check(all(users) and all(r.children for r in self._roots.values()), "no root is kept for nothing")
        shared = [[node.block for node in {*alive, *users}]]
        self._pool.check_integrity([*shared, *own])

    def _evict(self) -> None:
        node, _ = self._idle.popitem(last=False)
        check(not node.children, "the block let go longest ago has none behind it")
        assert node.parent is not None
        del node.parent.children[node.tokens]
        self._prune(node.parent)
        self._pool.release([node.block])
        self.counts.evicted += 1

    def _root(self, key: Key) -> Node:
        if key not in self._roots:
            self._roots[key] = Node(None, key=key)
        return self._roots[key]

    def _prune(self, node: Node) -> None:
        """Drop a root that has lost its last block, so that scopes that come and go leave nothing."""
        if node.key is not None and not node.children:
            del self._roots[node.key]
