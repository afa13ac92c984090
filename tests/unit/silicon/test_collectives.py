"""nki.collectives over ranks in one process, against NumPy on all ranks' data at once, and every rule's refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from kernel_rig import CHIPS, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.settings import Settings
from outcrop.silicon.device.turns import run_cores
from outcrop.silicon.nki import collectives as ncc
from outcrop.silicon.nki import isa as nisa

HBM = "shared_hbm"
REDUCTIONS = {"add": np.add, "minimum": np.minimum, "maximum": np.maximum}


def machine(ranks: int, cores: int = 1, target: str = "trn2", **settings: Any) -> Machine:
    return Machine(Settings(target=CHIPS[target], **settings), cores, ranks)


def run(ranks: int, body: Callable[[Core], Any], cores: int = 1, **options: Any) -> list[Any]:
    """What ``body`` returned on the first core of each rank; all cores of a rank must agree."""
    found = run_cores(machine(ranks, cores, **options), body)
    for at in range(0, len(found), cores):
        for other in found[at + 1 : at + cores]:
            np.testing.assert_equal(other, found[at])
    return found[::cores]


def refused(ranks: int, body: Callable[[Core], Any], cores: int = 1, **options: Any) -> KernelRefused:
    with pytest.raises(KernelRefused) as err:
        run_cores(machine(ranks, cores, **options), body)
    assert "test_collectives.py" in str(err.value)
    return err.value


def of_rank(rank: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(rank).integers(-99, 99, shape).astype(np.float32)


# -- sizes known beforehand -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("groups", [[[0, 1, 2, 3]], [[2, 0], [1, 3]], [[3, 1, 0]]])
@pytest.mark.parametrize("op", list(REDUCTIONS))
def test_reductions_and_their_parts(op: str, groups: list[list[int]], cores: int) -> None:
    shape = (12, 5)
    replicas = ncc.ReplicaGroup(groups)
    named = {rank for group in groups for rank in group}

    def body(core: Core) -> Any:
        if core.rank not in named:
            return None
        count = len(groups[0])
        srcs = [put(core, of_rank(core.rank + 10 * at, shape), "float32", HBM) for at in range(2)]
        every = [empty(core, shape, region=HBM) for _ in srcs]
        ncc.all_reduce(srcs, every, replicas, REDUCTIONS[op])
        parts = [empty(core, (12 // count, 5), region=HBM) for _ in srcs]
        ncc.reduce_scatter(srcs, parts, replicas, 0, op, name="parts")
        return [get(core, each) for each in (*every, *parts)]

    results = run(4, body, cores)
    for group in groups:
        for at in range(2):
            total = REDUCTIONS[op].reduce([of_rank(rank + 10 * at, shape) for rank in group])
            for place, rank in enumerate(group):
                np.testing.assert_array_equal(results[rank][at], total)
                np.testing.assert_array_equal(results[rank][2 + at], np.split(total, len(group))[place])


def test_sums_are_float32_in_the_order_of_the_group_and_rounded_once() -> None:
    values = {0: 256.0, 1: 1.0, 2: 1.0}

    def body(core: Core) -> Any:
        src, dst = put(core, [values[core.rank]], "bfloat16", HBM), empty(core, (1,), "bfloat16", HBM)
        ncc.all_reduce([src], [dst], ncc.ReplicaGroup([[0, 1, 2]]), "add")
        tiny = put(core, [2.0**24 if core.rank == 1 else 1.0], "float32", HBM)
        order = empty(core, (1,), "float32", HBM)
        ncc.all_reduce([tiny], [order], ncc.ReplicaGroup([[0, 2, 1]]), "add")
        return float(get(core, dst)[0]), float(get(core, order)[0])

    assert run(3, body) == [(258.0, 2.0**24 + 2)] * 3


def test_a_reduction_in_place_is_right() -> None:
    def body(core: Core) -> Any:
        tensor = put(core, of_rank(core.rank, (4, 4)), "float32", HBM)
        ncc.all_reduce([tensor], [tensor], ncc.ReplicaGroup([[0, 1]]), "add")
        return get(core, tensor)

    for got in run(2, body, cores=2):
        np.testing.assert_array_equal(got, of_rank(0, (4, 4)) + of_rank(1, (4, 4)))


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_gather_exchange_and_permute_move_bits(dtype: str, cores: int) -> None:
    group = [2, 0, 1]
    replicas = ncc.ReplicaGroup([group])

    def body(core: Core) -> Any:
        src = put(core, of_rank(core.rank, (6, 4)), dtype, HBM)
        gathered = empty(core, (18, 4), dtype, HBM)
        ncc.all_gather([src], [gathered], replicas, 0)
        exchanged = empty(core, (6, 4), dtype, HBM)
        ncc.all_to_all([src], [exchanged], replicas, 0)
        ring = [put(core, np.zeros((6, 4)), dtype, HBM) for _ in range(2)]
        ncc.collective_permute_implicit([[src], [gathered[0:6]]], [[ring[0]], [ring[1]]], replicas, [0, 1])
        given = put(core, np.full((6, 4), 77), dtype, HBM)
        ncc.collective_permute([src], [given], [(0, 2), (1, 0)])
        return [get(core, each).astype(np.float32) for each in (gathered, exchanged, *ring, given)]

    results = run(3, body, cores)
    sent = [of_rank(rank, (6, 4)) for rank in range(3)]
    for place, rank in enumerate(group):
        gathered, exchanged, ring0, ring1, given = results[rank]
        np.testing.assert_array_equal(gathered, np.concatenate([sent[each] for each in group]))
        np.testing.assert_array_equal(
            exchanged, np.concatenate([sent[each][2 * place : 2 * place + 2] for each in group])
        )
        np.testing.assert_array_equal(ring0, sent[group[place - 1]])
        np.testing.assert_array_equal(ring1, sent[group[0]])
        np.testing.assert_array_equal(given, {0: sent[1], 1: np.full((6, 4), 77), 2: sent[0]}[rank])


@pytest.mark.parametrize("op", list(REDUCTIONS))
def test_an_implicit_permute_can_reduce_before_it_sends(op: str) -> None:
    def body(core: Core) -> Any:
        pair = [put(core, of_rank(core.rank + 10 * at, (3, 3)), "bfloat16", HBM) for at in range(2)]
        dst = empty(core, (3, 3), "bfloat16", HBM)
        ncc.collective_permute_implicit_reduce([[pair[0]]], [[pair[1]]], [[dst]], ncc.ReplicaGroup([[0, 1, 2]]), op)
        return get(core, dst)

    for rank, got in enumerate(run(3, body)):
        before = (rank - 1) % 3
        expected = REDUCTIONS[op](of_rank(before, (3, 3)), of_rank(before + 10, (3, 3))).astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dim", [0, 1])
def test_in_sbuf_each_core_of_a_rank_takes_part_with_its_own_tiles(dim: int) -> None:
    def body(core: Core) -> Any:
        tile = put(core, np.full((4, 6), 10 * core.rank + core.index), "float32")
        wanted = (4 * 3, 6) if dim == 0 else (4, 6 * 3)
        out = empty(core, wanted)
        ncc.all_gather([tile], [out], ncc.ReplicaGroup([[0, 1, 2]]), dim)
        total = empty(core, (4, 6))
        ncc.all_reduce([tile], [total], ncc.ReplicaGroup([[0, 1, 2]]), "add")
        part = empty(core, (2, 6))
        if core.rank < 2:
            ncc.reduce_scatter([tile], [part], ncc.ReplicaGroup([[0, 1]]), 0, "add")
        return np.unique(get(core, out)).tolist(), float(get(core, total)[0, 0])

    found = run_cores(machine(3, 2), body)
    assert found == [([0, 10, 20], 30.0), ([1, 11, 21], 33.0)] * 3


@pytest.mark.parametrize("seed", range(4))
def test_on_shared_hbm_a_collective_waits_for_both_cores_of_every_rank(seed: int) -> None:
    def body(core: Core) -> Any:
        src = core.allocate((2, 4), "float32", MemoryRegion.shared_hbm)
        dst = core.allocate((4, 4), "float32", MemoryRegion.shared_hbm)
        tile = put(core, np.full((1, 4), 10.0 * core.rank + core.index), "float32")
        for _ in range(7 * core.index):
            nisa.dma_copy(tile, tile)
        nisa.dma_copy(src[core.index : core.index + 1], tile)
        ncc.all_gather([src], [dst], ncc.ReplicaGroup([[0, 1]]), 0)
        return get(core, dst)[:, 0].tolist()

    assert run_cores(machine(2, 2, seed=seed), body) == [[0, 1, 10, 11]] * 4


def test_a_ring_hands_every_rank_the_data_of_all_others() -> None:
    group = [0, 2, 1, 3]
    replicas = ncc.ReplicaGroup([group])

    def body(core: Core) -> Any:
        buffers = [put(core, np.full((2, 2), core.rank), "float32", HBM), empty(core, (2, 2), region=HBM)]
        seen = []
        for step in range(len(group)):
            whose = ncc.collective_permute_implicit_current_processing_rank_id(step, replicas)
            assert isinstance(whose, VirtualRegister)
            assert whose.value == get(core, buffers[step % 2])[0, 0]
            seen.append(int(whose.value))
            if step < len(group) - 1:
                ncc.collective_permute_implicit(
                    [[buffers[step % 2]]], [[buffers[(step + 1) % 2]]], replicas, channel_ids=[0]
                )
        return seen

    found = run(4, body, cores=2)
    assert found[0] == [0, 3, 1, 2]
    assert found[1] == [1, 2, 0, 3]


def test_a_rank_finds_its_own_data_by_its_number() -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)

    def body(core: Core) -> Any:
        out = empty(core, (1, 4))
        nisa.dma_copy(out, put(core, table, "float32", HBM).select(0, ncc.rank_id()))
        return get(core, out)[0].tolist()

    assert run(3, body) == table.tolist()


def test_records_of_one_collective_have_one_number() -> None:
    on = machine(2, 2, target="trn3")

    def body(core: Core) -> None:
        src, dst = put(core, np.ones((4, 4)), "float32", HBM), empty(core, (4, 4), region=HBM)
        ncc.all_reduce([src], [dst], ncc.ReplicaGroup([[0, 1]]), "add", priority=1, name="sum")

    run_cores(on, body)
    records = [core.trace[-1] for core in on.cores]
    assert {each.name for each in records} == {"sum"}
    assert len({each.params["meeting"] for each in records}) == 1
    assert records[0].params == {"group": (0, 1), "op": "add", "tensors": 1, "priority": 1, "meeting": 0}
    assert [len(each.reads) for each in records] == [1] * 4
    assert [each.core for each in records] == [0, 1, 0, 1]


def test_without_values_ranks_meet_and_rules_hold() -> None:
    def body(core: Core) -> str:
        src, dst = empty(core, (4, 4), region=HBM), empty(core, (8, 4), region=HBM)
        ncc.all_gather([src], [dst], ncc.ReplicaGroup([[0, 1]]), 0)
        return core.trace[-1].op

    assert run(2, body, timing_only=True) == ["all_gather"] * 2


# -- sizes known at run time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_sbuf", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_all_to_all_v_sends_chunks_of_every_size(known: bool, in_sbuf: bool) -> None:
    counts = np.array([[1, 2, 0], [3, 0, 4], [2, 2, 2]])
    places = np.array([[0, 3, 9], [6, 0, 1], [0, 0, 4]])

    def body(core: Core) -> Any:
        src = put(core, 100 * core.rank + np.arange(10), "int32", HBM)
        dst = put(core, np.full((3, 4), -1), "int32", HBM)
        rows = np.stack([counts[core.rank], places[core.rank], np.full(3, 9)])
        metadata = put(core, rows[None] if in_sbuf else rows, "uint32", "sbuf" if in_sbuf else HBM)
        ncc.all_to_all_v([src], [dst], ncc.ReplicaGroup([[0, 1, 2]]), metadata, recv_counts_known=known)
        return get(core, dst), get(core, metadata).reshape(3, 3)

    for rank, (got, metadata) in enumerate(run(3, body)):
        expected = np.full((3, 4), -1)
        for sender in range(3):
            count, place = counts[sender][rank], places[sender][rank]
            expected[sender, :count] = 100 * sender + place + np.arange(count)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(metadata[2], np.full(3, 9) if known else counts[:, rank])


def test_received_counts_need_not_be_written_before() -> None:
    def body(core: Core) -> Any:
        metadata = empty(core, (3, 2), "uint32", HBM)
        nisa.dma_copy(metadata[0:2], put(core, [[1, 1], [0, 1]], "uint32"))
        src, dst = put(core, [5.0 + core.rank, 7.0 + core.rank], "float32", HBM), empty(core, (2,), region=HBM)
        ncc.all_to_all_v([src], [dst], ncc.ReplicaGroup([[0, 1]]), metadata)
        return get(core, dst).tolist(), get(core, metadata)[2].tolist()

    assert run(2, body) == [([5.0, 6.0], [1, 1]), ([7.0, 8.0], [1, 1])]


def test_places_to_receive_at_exist_where_the_chip_has_them() -> None:
    def body(core: Core) -> Any:
        rows = [[1, 1], [0, 1], [0, 0], [1, 0]]  # what comes from rank 0 goes to 1, from rank 1 to 0
        src, dst = put(core, [5.0 + core.rank, 7.0 + core.rank], "float32", HBM), empty(core, (2,), region=HBM)
        ncc.all_to_all_v([src], [dst], ncc.ReplicaGroup([[0, 1]]), put(core, rows, "uint32", HBM), has_rdispls=True)
        return get(core, dst).tolist()

    assert run(2, body, target="trn3") == [[6.0, 5.0], [8.0, 7.0]]
    assert refused(2, body, target="trn2").rule.name == "generation"


def test_all_gather_v_gives_everyone_each_ranks_chunk() -> None:
    def body(core: Core) -> Any:
        count, place = core.rank, core.rank + 1
        src = put(core, 10 * core.rank + np.arange(8), "int32", HBM)
        dst = put(core, np.full((4, 3), -1), "int32", HBM)
        metadata = put(core, [[count, 99, 99, 99], [place, 99, 99, 99], [0] * 4], "uint32", HBM)
        ncc.all_gather_v([src], [dst], ncc.ReplicaGroup([[3, 1, 2, 0]]), metadata)
        return get(core, dst), get(core, metadata)[2]

    expected = np.array([[34, 35, 36], [12, -1, -1], [23, 24, -1], [-1, -1, -1]])
    for got, counts in run(4, body, cores=2):
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(counts, [3, 1, 2, 0])


def test_chunks_outside_of_their_buffers_are_refused() -> None:
    def sends(rows: list[list[int]], slots: int = 4) -> Callable[[Core], None]:
        def body(core: Core) -> None:
            src, dst = put(core, np.ones(6), "float32", HBM), empty(core, (slots,), region=HBM)
            ncc.all_to_all_v([src], [dst], ncc.ReplicaGroup([[0, 1]]), put(core, rows, "uint32", HBM))

        return body

    run(2, sends([[2, 2], [4, 0], [0, 0]]))
    assert refused(2, sends([[2, 2], [5, 0], [0, 0]])).rule.name == "out-of-bounds"
    assert refused(2, sends([[3, 2], [0, 0], [0, 0]])).rule.name == "out-of-bounds"


# -- rules ----------------------------------------------------------------------------------------------------------


def gathers(groups: Any, rank_shape: Callable[[Core], tuple[int, ...]] = lambda core: (4, 4)) -> Callable[[Core], None]:
    def body(core: Core) -> None:
        shape = rank_shape(core)
        src = put(core, np.ones(shape), "float32", HBM)
        dst = empty(core, (2 * shape[0], *shape[1:]), region=HBM)
        ncc.all_gather([src], [dst], groups, 0)

    return body


def test_groups_name_ranks_of_the_run_once_each() -> None:
    assert refused(2, gathers(ncc.ReplicaGroup([[0, 1, 1]]))).rule.name == "replica-group"
    assert refused(2, gathers(ncc.ReplicaGroup([[0], [0, 1]]))).rule.name == "replica-group"
    assert refused(2, gathers(ncc.ReplicaGroup([]))).rule.name == "replica-group"
    assert refused(2, gathers(ncc.ReplicaGroup([[0, 2]]))).rule.name == "replica-group"
    assert refused(2, gathers(ncc.ReplicaGroup([[0]]))).rule.name in ("replica-group", "operand-shape")
    error = refused(1, gathers(ncc.ReplicaGroup([[0, 1]])))
    assert error.rule.name == "replica-group"
    assert "this run has 1 ranks" in str(error)
    assert refused(2, gathers("both")).rule.name == "replica-group"
    run(2, gathers([[0, 1]]))  # plain lists will do


def test_a_rank_that_skips_a_collective_is_a_deadlock() -> None:
    def body(core: Core) -> None:
        if core.rank != 1:
            gathers([[0, 1]])(core)

    error = refused(2, body)
    assert error.rule.name == "deadlock"
    assert "rank 0 waits in all_gather over ranks [0, 1]" in str(error)
    assert "rank 1 has ended" in str(error)


def test_collectives_in_another_order_are_a_deadlock() -> None:
    def body(core: Core) -> None:
        src, dst = put(core, np.ones((2, 2)), "float32", HBM), empty(core, (2, 2), region=HBM)
        ops = [
            lambda: ncc.all_reduce([src], [dst], ncc.ReplicaGroup([[0, 1]]), "add"),
            lambda: ncc.all_to_all([src], [dst], ncc.ReplicaGroup([[0, 1]]), 0),
        ]
        for op in ops if core.rank else reversed(ops):
            op()

    error = refused(2, body)
    assert error.rule.name == "deadlock"
    assert "all_reduce" in str(error)
    assert "all_to_all" in str(error)


def test_ranks_call_a_collective_with_the_same_shapes_and_options() -> None:
    error = refused(2, gathers([[0, 1]], lambda core: (4 + core.rank, 4)))
    assert error.rule.name == "collective-mismatch"

    def body(core: Core) -> None:
        src, dst = put(core, np.ones((2, 2)), "float32", HBM), empty(core, (2, 2), region=HBM)
        ncc.all_reduce([src], [dst], ncc.ReplicaGroup([[0, 1]]), "add" if core.rank else "maximum")

    error = refused(2, body)
    assert error.rule.name == "collective-mismatch"
    assert "maximum" in str(error)


def test_rules_on_tensors_and_options() -> None:
    def refuses(rule: str, call: Callable[..., None], *, ranks: int = 2, **options: Any) -> None:
        def body(core: Core) -> None:
            def tensor(*shape: int, dtype: str = "float32", region: str = HBM) -> Any:
                return put(core, np.ones(shape), dtype, region)

            call(tensor, ncc.ReplicaGroup([list(range(ranks))]))

        assert refused(ranks, body, **options).rule.name == rule

    def reduces(**given: Any) -> Callable[..., None]:
        def call(tensor: Any, group: Any) -> None:
            src = tensor(4, 4, **given.get("src", {}))
            dst = tensor(*given.get("shape", (4, 4)), **given.get("dst", {}))
            count = given.get("count", 1)
            ncc.all_reduce([src] * count, [dst] * given.get("dsts", count), group, given.get("op", "add"),
                           priority=given.get("priority"))  # fmt: skip

        return call

    refuses("operand-dtype", reduces(dst={"dtype": "bfloat16"}))
    refuses("operand-shape", reduces(shape=(4, 5)))
    refuses("operand-shape", reduces(dsts=2))
    refuses("operand-shape", reduces(count=0))
    refuses("operand-memory", reduces(dst={"region": "sbuf"}))
    refuses("operand-memory", reduces(src={"region": "psum"}, dst={"region": "psum"}))
    refuses("collective-limits", reduces(src={"region": "sbuf"}, dst={"region": "sbuf"}, count=2))
    refuses("parameter", reduces(op="multiply"))
    refuses("generation", reduces(priority=0))
    refuses("parameter", reduces(priority=7), target="trn3")
    refuses("operand-shape", lambda t, g: ncc.all_gather([t(4, 4)], [t(4, 8)], g, 0))
    refuses("collective-limits", lambda t, g: ncc.all_gather([t(4, 4)], [t(4, 8)], g, 1))
    tile = {"region": "sbuf"}
    refuses("operand-shape", lambda t, g: ncc.all_gather([t(4, 4, 1, **tile)], [t(8, 4, 1, **tile)], g, 0))
    refuses("operand-shape", lambda t, g: ncc.reduce_scatter([t(5, 4)], [t(2, 4)], g, 0, "add"))
    refuses("operand-shape", lambda t, g: ncc.reduce_scatter([t(4, 4)], [t(4, 4)], g, 0, "add"))
    refuses("collective-limits", lambda t, g: ncc.reduce_scatter([t(4, 4)], [t(4, 2)], g, 1, "add"))
    refuses("operand-memory", lambda t, g: ncc.all_to_all([t(4, 4, **tile)], [t(4, 4, **tile)], g, 0))
    refuses("operand-shape", lambda t, g: ncc.all_to_all([t(3, 4)], [t(3, 4)], g, 0))
    pairs = [(0, 1)]
    refuses("operand-memory", lambda t, g: ncc.collective_permute([t(4, 4, **tile)], [t(4, 4, **tile)], pairs))
    refuses("collective-limits", lambda t, g: ncc.collective_permute([t(4, 4)] * 2, [t(4, 4)] * 2, pairs))
    refuses("replica-group", lambda t, g: ncc.collective_permute([t(4, 4)], [t(4, 4)], [(0, 1), (1, 1)]))
    refuses("replica-group", lambda t, g: ncc.collective_permute([t(4, 4)], [t(4, 4)], [(0, 2)]))
    refuses("replica-group", lambda t, g: ncc.collective_permute([t(4, 4)], [t(4, 4)], []))
    ring = ncc.collective_permute_implicit
    refuses("collective-limits", lambda t, g: ring([[t(4, 4)]], [[t(4, 4)]], g, [1]))
    refuses("collective-limits", lambda t, g: ring([[t(4, 4)] * 2], [[t(4, 4)] * 2], g))
    refuses("collective-limits", lambda t, g: ring([[t(4, 4)]] * 5, [[t(4, 4)]] * 5, g, range(5)))
    refuses(
        "collective-limits",
        lambda t, g: ncc.collective_permute_implicit_current_processing_rank_id(0, g, channel_id=4),
    )
    metadata = {"dtype": "uint32"}
    refuses("operand-dtype", lambda t, g: ncc.all_to_all_v([t(4)], [t(4)], g, t(3, 2, dtype="int32")))
    refuses("operand-shape", lambda t, g: ncc.all_to_all_v([t(4)], [t(4)], g, t(2, 2, **metadata)))
    refuses("collective-limits", lambda t, g: ncc.all_gather_v([t(4)], [t(4)], g, t(3, 2, **metadata)))
    refuses(
        "collective-limits",
        lambda t, g: ncc.all_gather_v([t(4)], [t(4)], g, t(4, 4, **metadata), has_rdispls=True),
        ranks=4,
        cores=2,
    )
    refuses(
        "parameter", lambda t, g: ncc.all_reduce([t(4, 4).select(0, VirtualRegister(_core(), 1))], [t(4)], g, "add")
    )


def _core() -> Core:
    from outcrop.silicon.device.core import current

    return current()


def test_groups_compare_and_print() -> None:
    assert ncc.ReplicaGroup([[0, 1]]) == ncc.ReplicaGroup(((0, 1),))
    assert repr(ncc.ReplicaGroup([(0,), (1,)])) == "ReplicaGroup([[0], [1]])"
