"""Two cores of a logical core: turns, shared HBM, transfers and barriers, and what happens when they do not meet."""

from __future__ import annotations

import itertools
import re
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernel_rig import CHIPS, empty, get, put
from outcrop.silicon.device.core import Core, current
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.device.settings import Settings
from outcrop.silicon.device.turns import run_cores
from outcrop.silicon.nki import isa as nisa

HBM = "shared_hbm"


def machine(cores: int = 2, ranks: int = 1, target: str = "trn2", **settings: Any) -> Machine:
    return Machine(Settings(target=CHIPS[target], **settings), cores, ranks)


def refused(body: Callable[[Core], Any], on: Machine | None = None) -> KernelRefused:
    with pytest.raises(KernelRefused) as err:
        run_cores(on or machine(), body)
    assert "test_cores.py" in str(err.value)
    return err.value


# -- turns ----------------------------------------------------------------------------------------------------------


def interleaving(seed: int, steps: int = 300) -> list[int]:
    order: list[int] = []

    def body(core: Core) -> None:
        tile = put(core, [[1.0]], "float32")
        for _ in range(steps):
            order.append(core.index)
            nisa.dma_copy(tile, tile)

    run_cores(machine(seed=seed), body)
    return order


def test_the_order_of_instructions_depends_on_the_seed_alone() -> None:
    first = interleaving(1)
    assert first == interleaving(1)
    assert first.count(0) == first.count(1) == 300
    assert len({tuple(interleaving(seed)) for seed in range(8)}) == 8
    switches = sum(a != b for a, b in itertools.pairwise(first))
    assert 10 < switches < 300
    runs = [len(run) for run in re.findall("0+|1+", "".join(map(str, first)))]
    assert min(runs) == 1
    assert max(runs) > 16


def test_either_core_may_be_first() -> None:
    assert {interleaving(seed, 5)[0] for seed in range(12)} == {0, 1}


def test_results_come_in_the_order_of_cores_and_each_sees_itself() -> None:
    def body(core: Core) -> tuple[int, int, bool]:
        assert current() is core
        return core.rank, core.index, threading.current_thread() is threading.main_thread()

    assert run_cores(machine(2, 3), body) == [
        (0, 0, True), (0, 1, False), (1, 0, False), (1, 1, False), (2, 0, False), (2, 1, False),
    ]  # fmt: skip
    assert run_cores(machine(1), body) == [(0, 0, True)]


def test_each_core_has_its_own_memory_and_its_own_trace() -> None:
    on = machine()

    def body(core: Core) -> float:
        tile = core.allocate((1, 4), "float32", address=(0, 0))
        core.write(tile, np.full((1, 4), core.index, np.float32))
        for _ in range(20):
            nisa.dma_copy(tile, tile)
        return float(get(core, tile)[0, 0])

    assert run_cores(on, body) == [0, 1]
    assert [len(core.trace) for core in on.cores] == [20, 20]
    assert {each.core for each in on.cores[1].trace} == {1}


def test_an_error_on_one_core_stops_the_others_and_names_the_core() -> None:
    reached = []

    def body(core: Core) -> None:
        tile = put(core, [[1.0]], "float32")
        if core.index == 1:
            raise ValueError("broken kernel")
        try:
            for _ in range(100_000):
                nisa.dma_copy(tile, tile)
        except Exception:  # noqa: BLE001  (a kernel that catches everything is stopped too)
            reached.append("caught")
        reached.append("end")

    with pytest.raises(ValueError, match="broken kernel") as err:
        run_cores(machine(), body)
    assert err.value.__notes__ == ["This happened on core 1."]
    assert any(frame.name == "body" for frame in err.traceback)
    assert reached == []


def test_an_error_on_the_first_core_stops_the_others() -> None:
    def body(core: Core) -> None:
        tile = put(core, [[1.0]], "float32")
        for at in range(100_000):
            nisa.dma_copy(tile, tile)
            if core.index == 0 and core.rank == 1 and at == 50:
                nisa.dma_copy(tile, empty(core, (1, 2)))

    error = refused(body, machine(2, 2))
    assert error.rule.name == "operand-shape"
    assert error.__notes__ == ["This happened on core 0 of rank 1."]
    assert threading.active_count() < 20


def test_warnings_of_every_core_are_kept_with_it() -> None:
    on = machine(relaxed=frozenset({"operand-memory"}))

    def body(core: Core) -> None:
        if core.index == 1:
            nisa.dma_copy(empty(core, (8,), region=HBM), put(core, np.ones((1, 8)), "float32", "psum"))

    with pytest.warns(KernelWarning):
        run_cores(on, body)
    assert [len(core.warned) for core in on.cores] == [0, 1]


def test_switching_between_cores_is_fast_enough() -> None:
    def body(core: Core) -> None:
        tile = put(core, [[1.0]], "float32")
        for _ in range(2_000):
            nisa.dma_copy(tile, tile)

    rates = []
    for _ in range(3):
        start = time.perf_counter()
        run_cores(machine(), body)
        rates.append(4_000 / (time.perf_counter() - start))
    assert max(rates) > 5_000


# -- shared HBM -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_cores_of_a_rank_share_what_they_allocate_in_shared_hbm(seed: int) -> None:
    def body(core: Core) -> Any:
        temporary = core.allocate((3,), "float32", MemoryRegion.shared_hbm)
        out = core.allocate((4, 8), "float32", MemoryRegion.shared_hbm)
        named = [core.allocate((1,), "float32", MemoryRegion.shared_hbm, name="n") for _ in range(2)]
        own = core.allocate((4, 8), "float32", MemoryRegion.private_hbm)
        half = out[2 * core.index : 2 * core.index + 2]
        nisa.dma_copy(half, put(core, np.full((2, 8), 10 * core.rank + core.index), "float32"))
        return temporary, out, named, own

    on = machine(2, 2, seed=seed)
    (t0, out0, n0, own0), (t1, out1, n1, own1), (_, out2, _, _), _ = run_cores(on, body)
    assert out0.storage is out1.storage
    assert t0.storage is t1.storage
    assert [each.storage for each in n0] == [each.storage for each in n1]
    assert n0[0].storage is not n0[1].storage
    assert own0.storage is not own1.storage
    assert out2.storage is not out0.storage
    np.testing.assert_array_equal(get(on.cores[0], out0)[:, 0], [0, 0, 1, 1])
    np.testing.assert_array_equal(get(on.cores[2], out2)[:, 0], [10, 10, 11, 11])


def test_a_name_joins_tensors_whatever_the_order() -> None:
    def body(core: Core) -> Any:
        names = ["a", "b"] if core.index else ["b", "a"]
        made = {name: core.allocate((len(name),), "float32", MemoryRegion.shared_hbm, name=name) for name in names}
        return made["a"].storage, made["b"].storage

    first, second = run_cores(machine(), body)
    assert first == second


@pytest.mark.parametrize(("shape", "dtype"), [((4, 9), "float32"), ((4, 8), "int32")])
def test_tensors_that_do_not_match_are_refused_with_both_places(shape: tuple[int, ...], dtype: str) -> None:
    def body(core: Core) -> None:
        if core.index:
            core.allocate(shape, dtype, MemoryRegion.shared_hbm)
        else:
            core.allocate((4, 8), "float32", MemoryRegion.shared_hbm)

    error = refused(body)
    assert error.rule.name == "shared-allocation"
    assert str(error).count("test_cores.py") == 3


def test_one_core_alone_shares_nothing() -> None:
    def body(core: Core) -> bool:
        made = [core.allocate((2,), "float32", MemoryRegion.shared_hbm, name="same") for _ in range(2)]
        return made[0].storage is made[1].storage

    assert run_cores(machine(1, 2), body) == [False, False]


# -- transfers and barriers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dma_engine", [nisa.dma_engine.dma, nisa.dma_engine.gpsimd_dma])
def test_sendrecv_swaps_tiles_bit_by_bit(seed: int, dma_engine: Any) -> None:
    values = np.random.default_rng(seed).integers(0, 2**16, (2, 32, 40), np.uint16)

    def body(core: Core) -> Any:
        tile = put(core, values[core.index])
        received = put(core, np.zeros((32, 80)), "uint16")
        made = nisa.sendrecv(
            tile, received[:, 0:80:2], 1 - core.index, 1 - core.index, pipe_id=3, dma_engine=dma_engine, name="swap"
        )
        nisa.sendrecv(received[:, 0:40], tile, 1 - core.index, 1 - core.index, pipe_id=3)
        return get(core, received[:, 0:80:2]), get(core, tile), made

    on = machine(seed=seed)
    (got0, back0, made0), (got1, back1, made1) = run_cores(on, body)
    np.testing.assert_array_equal(got0, values[1])
    np.testing.assert_array_equal(got1, values[0])
    np.testing.assert_array_equal(back0[:, 0:40:2], values[0][:, 0:20])
    np.testing.assert_array_equal(back1[:, 0:40:2], values[1][:, 0:20])
    assert made0.params["meeting"] == made1.params["meeting"] != on.cores[0].trace[-1].params["meeting"]
    assert made0.params["pipe_id"] == 3
    assert made0.name == "swap"
    assert made0.engine is (Engine.gpsimd if dma_engine is nisa.dma_engine.gpsimd_dma else Engine.dma)


@pytest.mark.parametrize("seed", range(8))
def test_after_a_barrier_each_core_sees_what_the_other_wrote_before(seed: int) -> None:
    def body(core: Core) -> Any:
        shared = core.allocate((2, 16), "float32", MemoryRegion.shared_hbm)
        tile = put(core, np.full((1, 16), core.index + 1.0), "float32")
        for _ in range(10 * core.index):
            nisa.dma_copy(tile, tile)
        nisa.dma_copy(shared[core.index : core.index + 1], tile)
        made = nisa.core_barrier(shared, (0, 1))
        other = empty(core, (1, 16))
        nisa.dma_copy(other, shared[1 - core.index : 2 - core.index])
        return float(get(core, other)[0, 0]), made

    (first, made0), (second, made1) = run_cores(machine(seed=seed), body)
    assert (first, second) == (2, 1)
    assert made0.params == made1.params
    assert made0.engine is Engine.gpsimd
    assert made0.writes == made0.reads


def test_a_missing_barrier_shows_for_some_seed() -> None:
    def body(core: Core) -> None:
        shared = core.allocate((2, 16), "float32", MemoryRegion.shared_hbm)
        tile = put(core, np.ones((1, 16)), "float32")
        for _ in range(5):
            nisa.dma_copy(tile, tile)
        nisa.dma_copy(shared[core.index : core.index + 1], tile)
        nisa.dma_copy(tile, shared[1 - core.index : 2 - core.index])

    def is_caught(seed: int) -> bool:
        try:
            run_cores(machine(seed=seed), body)
        except KernelRefused as error:
            return error.rule.name == "uninitialized-read"
        return False

    assert any(is_caught(seed) for seed in range(5))


def test_a_logical_core_of_one_waits_for_itself() -> None:
    def body(core: Core) -> Any:
        return nisa.core_barrier(put(core, [1.0], "float32", HBM), [0], engine=Engine.vector)

    (made,) = run_cores(machine(1), body)
    assert made.engine is Engine.vector


def test_values_are_not_needed_to_meet() -> None:
    def body(core: Core) -> list[str]:
        tile = empty(core, (4, 4))
        nisa.sendrecv(tile, tile, 1 - core.index, 1 - core.index, 0)
        nisa.core_barrier(core.allocate((4,), "float32", MemoryRegion.shared_hbm), (0, 1))
        return [each.op for each in core.trace]

    assert run_cores(machine(timing_only=True), body) == [["sendrecv", "core_barrier"]] * 2


# -- deadlocks and other rules ----------------------------------------------------------------------------------------


def test_a_core_that_never_comes_is_a_deadlock_that_names_who_waits_where() -> None:
    def body(core: Core) -> None:
        shared = core.allocate((4,), "float32", MemoryRegion.shared_hbm, name="shared_rows")
        if core.index == 1:
            nisa.core_barrier(shared, (0, 1))  # this line waits

    error = refused(body)
    assert error.rule.name == "deadlock"
    assert re.search(r"core 1 waits in core_barrier on shared_rows at \S+test_cores.py:\d+ in body", str(error))
    assert "core 0 has ended" in str(error)


@pytest.mark.parametrize("seed", range(3))
def test_cores_that_wait_for_different_things_are_a_deadlock(seed: int) -> None:
    def body(core: Core) -> None:
        tile = put(core, [[1.0]], "float32")
        if core.index:
            nisa.sendrecv(tile, tile, 0, 0, pipe_id=7)
        else:
            nisa.core_barrier(core.allocate((4,), "float32", MemoryRegion.shared_hbm), (0, 1))

    error = refused(body, machine(seed=seed))
    assert error.rule.name == "deadlock"
    assert "sendrecv with pipe_id=7" in str(error)
    assert "core_barrier" in str(error)


def test_pipes_are_told_apart() -> None:
    def body(core: Core) -> None:
        tile = put(core, [[1.0]], "float32")
        nisa.sendrecv(tile, tile, 1 - core.index, 1 - core.index, pipe_id=core.index)

    assert refused(body).rule.name == "deadlock"


def test_ranks_of_a_sendrecv_that_do_not_match_are_a_deadlock() -> None:
    def body(core: Core) -> None:
        tile = put(core, [[1.0]], "float32")
        nisa.sendrecv(tile, tile, 1 - core.index, core.index, pipe_id=0)

    error = refused(body)
    assert error.rule.name == "deadlock"
    assert "core 0 sends to 1 and receives from 0" in str(error)


def test_padding_that_nothing_wrote_may_be_sent_and_is_unwritten_where_it_arrives() -> None:
    def body(core: Core) -> Any:
        sent, received = empty(core, (16, 2), "float32"), put(core, np.zeros((16, 2)), "float32")
        nisa.memset(sent[0:3], core.index + 1.0)
        nisa.sendrecv(sent, received, 1 - core.index, 1 - core.index, pipe_id=0)
        copied = empty(core, (3, 2), "float32")
        nisa.tensor_copy(copied, received[0:3])
        with pytest.raises(KernelRefused) as err:
            nisa.dma_copy(empty(core, (1, 2), "float32"), received[3:4])
        return get(core, copied).tolist(), err.value.rule.name

    rule = "uninitialized-read"
    assert run_cores(machine(), body) == [([[2.0, 2.0]] * 3, rule), ([[1.0, 1.0]] * 3, rule)]


def test_a_tile_that_nothing_wrote_is_not_sent() -> None:
    def body(core: Core) -> None:
        tile = empty(core, (16, 2), "float32")
        nisa.sendrecv(tile, tile, 1 - core.index, 1 - core.index, pipe_id=0)

    assert refused(body).rule.name == "uninitialized-read"


def test_what_is_sent_fits_where_it_is_received() -> None:
    def body(core: Core) -> None:
        tile = put(core, np.ones((1, 4 + core.index)), "float32")
        nisa.sendrecv(tile, tile, 1 - core.index, 1 - core.index, pipe_id=0)

    assert refused(body).rule.name == "operand-shape"


def test_rules_of_sendrecv() -> None:
    def refuses(rule: str, target: str = "trn2", cores: int = 2, **given: Any) -> None:
        def body(core: Core) -> None:
            shape = given.get("shape", (4, 8))
            dtype, region = given.get("dtype", "float32"), given.get("region", "sbuf")
            dst = empty(core, given.get("dst_shape", shape), given.get("dst_dtype", dtype), region)
            other = given.get("rank", 1 - core.index)
            src = put(core, np.ones(shape), dtype, region)
            nisa.sendrecv(src, dst, other, other, 0, given.get("engine", nisa.dma_engine.dma))

        assert refused(body, machine(cores, target=target)).rule.name == rule

    refuses("generation", target="trn1")
    refuses("logical-core", cores=1)
    refuses("logical-core", rank=2)
    refuses("logical-core", rank=-1)
    refuses("operand-memory", region=HBM)
    refuses("operand-memory", region="psum")
    refuses("operand-dtype", dst_dtype="int32")
    refuses("operand-shape", dst_shape=(4, 4, 2))
    gpsimd = nisa.dma_engine.gpsimd_dma
    refuses("parameter", engine=gpsimd, shape=(4, 257))
    refuses("parameter", engine=gpsimd, shape=(4, 257), dtype="bfloat16")
    refuses("parameter", engine=gpsimd, shape=(4, 257), dtype="uint8")
    refuses("parameter", engine="pigeon")


def test_rules_of_core_barrier() -> None:
    def refuses(rule: str, target: str = "trn2", cores: int = 2, **given: Any) -> None:
        def body(core: Core) -> None:
            data = put(core, np.ones((4, 8)), "float32", given.get("region", HBM))
            nisa.core_barrier(data, given.get("named", (0, 1)), given.get("engine", Engine.gpsimd))

        assert refused(body, machine(cores, target=target)).rule.name == rule

    refuses("generation", target="trn1")
    refuses("logical-core", cores=1)
    refuses("logical-core", named=(0,))
    refuses("logical-core", named=(1, 0))
    refuses("operand-memory", region="sbuf")
    refuses("operand-memory", region="private_hbm")
    refuses("engine", engine=Engine.dma)


def test_nothing_warns_when_cores_run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interleaving(3, 10)
