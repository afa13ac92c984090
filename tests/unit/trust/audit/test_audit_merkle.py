"""The tree against RFC 6962's own definition, written out naively here, and proofs with every kind of damage."""

from __future__ import annotations

import hashlib

import pytest

from outcrop.trust.audit import merkle
from outcrop.trust.audit.merkle import Frontier, node_hash

LEAVES = [merkle.leaf_hash(b"record %d" % number) for number in range(70)]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it stands there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def stored() -> dict[tuple[int, int], bytes]:
    frontier, nodes = Frontier(), {}
    for index, leaf in enumerate(LEAVES):
        for level, value in frontier.append(leaf):
            nodes[level, index >> level] = value
    return nodes


NODES = stored()


def node(level: int, index: int) -> bytes:
    return NODES[level, index]


def test_the_rfcs_test_vectors_of_empty_and_one_empty_leaf() -> None:
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_roots_are_the_rfcs_at_every_size() -> None:
    frontier = Frontier()
    for size in range(len(LEAVES) + 1):
        expected = naive_root(LEAVES[:size])
        assert frontier.root() == merkle.root(size, node) == Frontier.load(size, node).root() == expected
        if size < len(LEAVES):
            frontier.append(LEAVES[size])


def test_every_inclusion_proof_holds_and_no_other_leaf_index_or_size_does() -> None:
    for size in range(1, 40):
        expected = naive_root(LEAVES[:size])
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, node)
            assert merkle.verify_inclusion(LEAVES[index], index, size, proof, expected)
            assert not merkle.verify_inclusion(LEAVES[size], index, size, proof, expected)
            assert not merkle.verify_inclusion(LEAVES[index], index, size, [*proof, LEAVES[0]], expected)
            assert not merkle.verify_inclusion(LEAVES[index], size, size, proof, expected)
            if proof:
                assert not merkle.verify_inclusion(LEAVES[index], index, size, proof[:-1], expected)
                assert not merkle.verify_inclusion(LEAVES[index], index ^ 1, size, proof, expected)


def test_every_consistency_proof_holds_and_damage_does_not() -> None:
    for new in range(1, 40):
        new_root = naive_root(LEAVES[:new])
        for old in range(new + 1):
            old_root = naive_root(LEAVES[:old])
            proof = merkle.consistency_proof(old, new, node)
            assert merkle.verify_consistency(old, new, old_root, new_root, proof)
            if 0 < old < new:
                assert not merkle.verify_consistency(old, new, new_root, new_root, proof)
                assert not merkle.verify_consistency(old, new, old_root, LEAVES[0] if new > 1 else b"", proof)
                assert not merkle.verify_consistency(old, new, old_root, new_root, proof[:-1])
                assert not merkle.verify_consistency(old, new, old_root, new_root, [*proof, LEAVES[0]])
                assert not merkle.verify_consistency(new, old, new_root, old_root, proof)


def test_a_consistency_proof_of_another_history_does_not_hold() -> None:
    forked = [LEAVES[0], LEAVES[2], LEAVES[1], *LEAVES[3:]]
    proof = merkle.consistency_proof(8, 21, node)
    assert not merkle.verify_consistency(8, 21, naive_root(forked[:8]), naive_root(LEAVES[:21]), proof)


def test_a_leaf_is_no_node() -> None:
    inner = node_hash(LEAVES[0], LEAVES[1])
    assert merkle.leaf_hash(LEAVES[0] + LEAVES[1]) != inner


@pytest.mark.parametrize("index", [-1, 5])
def test_a_leaf_outside_the_tree_has_no_proof(index: int) -> None:
    with pytest.raises(Exception, match="inside the tree"):
        merkle.inclusion_proof(index, 5, node)
