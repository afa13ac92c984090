"""Hazards one by one: what counts as ordered, how sure a report is, and how it reads."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernel_rig import CHIPS, core, empty
from outcrop.base.errors import UserError
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.record import Access, Allocation, Instruction
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.settings import Settings
from outcrop.silicon.device.source import NOWHERE
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.device.turns import run_cores
from outcrop.silicon.hazards import Hazard, Kind, Mode, Severity, find_hazards
from outcrop.silicon.hazards.ground import Ground, view
from outcrop.silicon.hazards.order import Clocks, Meetings, Order
from outcrop.silicon.nki import isa as nisa

FIXED = settings(derandomize=True, deadline=None, max_examples=60)


def step(on: Core, engine: Engine, writes: Any = (), reads: Any = (), op: str = "tensor_copy", **params: Any) -> Any:
    return on.record(op, engine, tuple(writes), tuple(reads), params)


def transfer(on: Core, dst: Tensor, src: Tensor, trigger: str = "sync") -> Any:
    return step(on, Engine.dma, (dst,), (src,), "dma_copy", trigger=trigger)


def kinds(on: Core | Machine, mode: str = "compiler") -> list[str]:
    found = find_hazards(on.machine if isinstance(on, Core) else on, mode=mode)
    return [each.kind.value for each in found]


def two_cores(body: Any, **options: Any) -> Machine:
    machine = Machine(Settings(target=CHIPS["trn2"], timing_only=True), 2, **options)
    run_cores(machine, body)
    return machine


def shared(on: Core, name: str, *shape: int) -> Tensor:
    return on.allocate(shape, "float32", MemoryRegion.shared_hbm, name)


# -- the graph --------------------------------------------------------------------------------------------------------


def test_a_queue_orders_computation_and_not_the_transfers_that_it_starts():
    with core() as c:
        a, b, out = (empty(c, (128, 128)) for _ in range(3))
        hbm = empty(c, (128, 128), region="private_hbm")
        step(c, Engine.scalar, (a,))
        step(c, Engine.scalar, (b,), (a,))
        transfer(c, out, hbm, "scalar")
        step(c, Engine.scalar, (), (b,))
        clocks = Clocks(Order([c.trace], Mode.manual))
    assert clocks.ordered(0, 1)
    assert clocks.ordered(0, 2)
    assert clocks.ordered(1, 3)
    assert not clocks.ordered(2, 3)
    assert not clocks.ordered(1, 0)


def test_waiting_for_a_transfer_is_waiting_for_the_earlier_ones_of_its_queue():
    with core() as c:
        tiles = [empty(c, (128, 128)) for _ in range(3)]
        hbm = empty(c, (128, 128), region="private_hbm")
        transfer(c, tiles[0], hbm)
        transfer(c, tiles[1], hbm, "gpsimd")
        last = transfer(c, tiles[2], hbm)
        step(c, Engine.vector, (), tiles).depends_on(last)
        order = Order([c.trace], Mode.manual)
        clocks = Clocks(order)
    assert clocks.ordered(0, 3)
    assert clocks.ordered(2, 3)
    assert not clocks.ordered(1, 3)
    assert not clocks.ordered(0, 2)  # both under way at once


@FIXED
@given(data=st.data())
def test_clocks_agree_with_reachability(data: st.DataObject):
    with core() as c:
        tiles = [empty(c, (32, 8)) for _ in range(3)]
        for at in range(data.draw(st.integers(2, 14))):
            engine = data.draw(st.sampled_from([Engine.vector, Engine.scalar, Engine.dma]))
            made = step(c, engine, (data.draw(st.sampled_from(tiles)),), (), "any", trigger="scalar")
            for before in data.draw(st.sets(st.integers(0, at - 1), max_size=2) if at else st.just(set())):
                made.depends_on(c.trace[before])
        order = Order([c.trace], Mode.manual)
    clocks = Clocks(order)
    reach: list[set[int]] = [set() for _ in order.preceding]
    for node in order.sequence:
        for before in order.preceding[node]:
            reach[node] |= {before, *reach[before]}
    count = len(order.instructions)
    for first in range(count):
        for second in range(count):
            assert clocks.ordered(first, second) == (2 * first + 1 in reach[2 * second])


def test_a_meeting_orders_what_leads_to_it_and_what_follows_from_it():
    def body(c: Core) -> None:
        data, free = shared(c, "data", 2, 128), shared(c, "free", 2, 128)
        tile = empty(c, (1, 128))
        transfer(c, data[c.index : c.index + 1], tile)
        transfer(c, free[c.index : c.index + 1], tile)
        nisa.core_barrier(data, (0, 1))
        transfer(c, tile, data[1 - c.index : 2 - c.index])

    machine = two_cores(body)
    order = Order([each.trace for each in machine.cores], Mode.compiler)
    meetings = Meetings(order)
    assert [len(each) for each in order.meetings] == [2]
    assert meetings.waiting[0] == meetings.over[7] == 1
    assert meetings.waiting[1] == 0  # nothing tells the barrier of the other tensor
    assert meetings.over[0] == meetings.waiting[3] == 0


def test_modes_are_two():
    with core() as c, pytest.raises(UserError, match="no mode 'strict'"):
        find_hazards(c.machine, mode="strict")


# -- two cores --------------------------------------------------------------------------------------------------------


def races(body: Any) -> list[Hazard]:
    return [each for each in find_hazards(two_cores(body)) if each.kind is Kind.core_race]


def test_a_race_of_cores_names_both_lines_the_bytes_and_what_mends_it():
    def body(c: Core) -> None:
        data, tile = shared(c, "data", 2, 128), empty(c, (1, 128))
        if c.index == 0:
            transfer(c, data[0:1], tile)
        else:
            transfer(c, tile, data[0:1])

    (found,) = races(body)
    assert found.severity is Severity.error
    assert (found.first.core, found.second.core) == (0, 1) if found.second else False
    text = str(found)
    assert "error [core-race] Core 1 reads data [2, 128] float32 in shared_hbm, bytes 0 to 511" in text
    assert text.count("test_hazards.py") == 2
    assert "nisa.core_barrier(data, (0, 1))" in text
    assert "it reads what was there before" in text


def test_reads_and_other_bytes_and_private_memory_do_not_race():
    def body(c: Core) -> None:
        data, tile = shared(c, "data", 4, 128), empty(c, (1, 128))
        mine = c.allocate((1, 128), "float32", MemoryRegion.private_hbm)
        transfer(c, data[c.index : c.index + 1], tile)
        transfer(c, tile, data[2:3])
        transfer(c, mine, tile)

    assert races(body) == []


def test_columns_of_one_tensor_race_only_where_they_overlap():
    def columns(second: int) -> Any:
        def body(c: Core) -> None:
            data, tile = shared(c, "data", 8, 128), empty(c, (8, 64))
            start = second if c.index else 0
            transfer(c, data[:, start : start + 64], tile)

        return body

    assert races(columns(64)) == []
    (found,) = races(columns(63))
    assert found.severity is Severity.error


def test_the_same_line_on_both_cores_is_a_warning_where_values_may_be_equal():
    def body(c: Core) -> None:
        transfer(c, shared(c, "data", 1, 128), empty(c, (1, 128)))

    (found,) = races(body)
    assert found.severity is Severity.warning
    assert "Harmless only if both write the same values" in found.what


def test_an_exchange_orders_through_what_it_sends():
    def body(c: Core) -> None:
        data, tile, token = shared(c, "data", 128, 128), empty(c, (128, 128)), empty(c, (128, 128))
        if c.index == 0:
            transfer(c, tile, data)  # reads before core 1 writes: the tile it read is what it sends
            nisa.sendrecv(tile, token, 1, 1, pipe_id=0)
        else:
            nisa.sendrecv(tile, token, 0, 0, pipe_id=0)
            transfer(c, data, token)

    assert races(body) == []


def test_run_time_rows_of_other_columns_do_not_race_and_of_the_same_perhaps():
    def rows(start: int) -> Any:
        def body(c: Core) -> None:
            data, tile = shared(c, "data", 128, 128), empty(c, (128, 64))
            picks = empty(c, (128, 1), "int32")
            there = data.ap([[128, 128], [1, 64]], offset=c.index * start, vector_offset=picks, indirect_dim=0)
            step(c, Engine.dma, (there,), (tile, picks), "dma_copy", trigger="gpsimd")

        return body

    assert races(rows(64)) == []
    (found,) = races(rows(63))
    assert found.severity is Severity.warning
    assert "only at run time" in found.what


def test_cores_whose_meetings_wait_for_each_other_are_found():
    def body(c: Core) -> None:
        data = [shared(c, name, 1, 128) for name in ("one", "two")]
        meets = [nisa.core_barrier(each, (0, 1)) for each in data]
        meets[1 - c.index].depends_on(meets[c.index])  # core 0 wants this order, core 1 the other

    (found,) = find_hazards(two_cores(body))
    assert found.kind is Kind.cyclic_wait
    assert "of core 0" in found.order
    assert "of core 1" in found.order


def test_ranks_share_nothing():
    def body(c: Core) -> None:
        transfer(c, shared(c, "data", 1, 128), empty(c, (1, 128)))

    machine = Machine(Settings(target=CHIPS["trn2"], timing_only=True), 1, ranks=2)
    run_cores(machine, body)
    assert [each.kind for each in find_hazards(machine) if each.kind is Kind.core_race] == []


# -- one core ---------------------------------------------------------------------------------------------------------


def test_overlap_by_one_byte_range_and_one_partition_is_found_and_neighbours_are_not():
    def body(partition: int, byte: int) -> list[str]:
        with core(timing_only=True) as c:
            one = c.allocate((32, 16), "float32", MemoryRegion.sbuf, "one", (0, 0))
            two = c.allocate((32, 16), "float32", MemoryRegion.sbuf, "two", (partition, byte))
            step(c, Engine.vector, (one,))
            step(c, Engine.vector, (two,))
            step(c, Engine.scalar, (), (one, two))
            return kinds(c)

    assert body(0, 64) == []
    assert body(32, 0) == []
    assert body(0, 60) == ["lifetime"]
    assert body(0, 0) == ["lifetime", "overwritten"]


def test_reuse_after_the_last_use_is_in_order_and_in_turns_is_not():
    with core(timing_only=True) as c:
        for _ in range(6):
            tile = c.allocate((128, 64), "float32", MemoryRegion.sbuf, "tile", (0, 0))
            step(c, Engine.vector, (tile,))
            step(c, Engine.scalar, (), (tile,))
        assert kinds(c) == []
        again = c.allocate((128, 64), "float32", MemoryRegion.sbuf, "again", (0, 0))
        for each in (again, tile, again):
            step(c, Engine.vector, (each,))
            step(c, Engine.scalar, (), (each,))
        found = find_hazards(c.machine)
    assert {each.kind for each in found} == {Kind.alias_race}
    assert sum(each.count for each in found) == 2


def test_only_the_bytes_that_are_read_count_as_used():
    with core(timing_only=True) as c:
        tile = empty(c, (128, 64))
        step(c, Engine.vector, (tile[:, 0:32],))
        step(c, Engine.vector, (tile[:, 32:64],))
        step(c, Engine.scalar, (), (tile[:, 0:64:2],))
        assert kinds(c) == []
        step(c, Engine.vector, (tile[:, 0:16],))
        step(c, Engine.scalar, (), (tile[:, 16:64],))
        assert kinds(c) == ["dead-result"]
        step(c, Engine.vector, (tile,))
        assert sorted(kinds(c)) == ["dead-result", "overwritten"]


def test_predicated_writes_and_skipped_rows_leave_what_was_there_alive():
    with core(timing_only=True) as c:
        tile = empty(c, (128, 64))
        step(c, Engine.vector, (tile,))
        step(c, Engine.vector, (tile,), (), "tensor_copy_predicated", predicated=True)
        step(c, Engine.scalar, (), (tile,))
        assert kinds(c) == []


def test_reading_what_nothing_wrote_is_told():
    with core(timing_only=True) as c:
        tile = empty(c, (128, 64))
        step(c, Engine.scalar, (), (tile,))
        assert kinds(c) == ["unwritten"]


def test_sums_go_on_where_the_chip_adds_to_anything():
    def body(target: str) -> list[str]:
        with core(target, timing_only=True) as c:
            bank, tile = empty(c, (128, 512), region="psum"), empty(c, (128, 512))
            step(c, Engine.vector, (bank,))
            step(c, Engine.tensor, (bank,), (), "nc_matmul", accumulate=True)
            step(c, Engine.vector, (tile,), (bank,))
            step(c, Engine.scalar, (), (tile,))
            return kinds(c)

    assert body("trn2") == ["interleaved-sum"]
    assert body("trn3") == []


def test_sums_without_accumulate_begin_anew_in_each_tensor():
    with core(timing_only=True) as c:
        for _ in range(3):
            bank = c.allocate((128, 512), "float32", MemoryRegion.psum, "bank", (0, 0))
            for _ in range(2):
                step(c, Engine.tensor, (bank,), (), "nc_matmul", accumulate=None)
            step(c, Engine.scalar, (), (bank,))
        assert kinds(c) == []


def test_memsets_without_use_are_advice():
    with core(timing_only=True) as c:
        tile = empty(c, (128, 64))
        step(c, Engine.vector, (tile,), (), "memset")
        step(c, Engine.vector, (tile,))
        step(c, Engine.scalar, (), (tile,))
        (found,) = find_hazards(c.machine)
    assert (found.kind, found.severity) == (Kind.overwritten, Severity.advice)


def test_results_for_an_accumulator_need_no_reader():
    with core(timing_only=True) as c:
        tile = empty(c, (128, 64))
        step(c, Engine.scalar, (tile,), (), "activation", reduce_cmd="reset_reduce")
        assert kinds(c) == []
        step(c, Engine.scalar, (tile,), (), "activation", reduce_cmd="idle")
        assert kinds(c) == ["dead-result"]


def test_the_same_hazard_is_told_once_with_its_count():
    with core(timing_only=True) as c:
        for _ in range(5):
            step(c, Engine.vector, (empty(c, (128, 64)),))
        (found,) = find_hazards(c.machine)
    assert found.count == 5
    assert "(5 times)" in str(found)
    assert found.second is None


def test_errors_come_first():
    with core(timing_only=True) as c:
        tile = empty(c, (128, 64))
        step(c, Engine.vector, (tile,))
        step(c, Engine.scalar, (), (empty(c, (128, 64)),))
        found = find_hazards(c.machine)
    assert [each.severity for each in found] == [Severity.error, Severity.warning]


def test_small_descriptors_follow_the_chips_figure_and_the_shorter_side():
    def body(columns: int, rows: int = 128) -> list[Hazard]:
        with core(timing_only=True) as c:
            hbm = empty(c, (rows, 4096), region="private_hbm")
            tile = empty(c, (rows, columns))
            transfer(c, tile, hbm[:, 0:columns])
            step(c, Engine.scalar, (), (tile,))
            return find_hazards(c.machine)

    assert body(128) == []
    (found,) = body(127)
    assert found.kind is Kind.small_descriptors
    assert "128 descriptors of 508 bytes" in found.what
    assert body(127, rows=32) == []  # few


def test_traces_alone_are_enough():
    with core(timing_only=True) as c:
        step(c, Engine.vector, (empty(c, (128, 64)),))
        assert [each.kind for each in find_hazards([c.trace])] == [Kind.dead_result]
        assert find_hazards([]) == []
        assert find_hazards([[]]) == []


def test_a_hazard_is_a_plain_record():
    with core(timing_only=True) as c:
        step(c, Engine.vector, (empty(c, (128, 64)),))
        (found,) = find_hazards(c.machine)
    assert dataclasses.is_dataclass(found)
    assert [source.text for source in found.sources] == [found.first.source.text]
    assert isinstance(found.first, Instruction)


# -- the maps ---------------------------------------------------------------------------------------------------------


@FIXED
@example(patterns=[(0, 0, [(6, 3), (1, 4)])])
@given(
    patterns=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 12),
            st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 6, 12, 24]), st.integers(1, 4)), min_size=1, max_size=2),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_maps_by_stretches_mean_the_same_as_maps_by_bytes(patterns: list[tuple[int, int, list[tuple[int, int]]]]):
    row = 160
    with core() as c:
        kind = empty(c, (1, 1), "float32").dtype
    allocation = Allocation(0, "a", MemoryRegion.sbuf, (4, row), kind, 4, row * 4, NOWHERE, 0)
    accesses = []
    for partition, start, dims in patterns:
        strides = (row, *[each for each, _ in dims])
        accesses.append(Access(allocation, partition * row + start, (1, *[n for _, n in dims]), strides, kind))
    ground = Ground([allocation])
    for each in accesses:
        ground.add(each)
    assert ground.close()
    by_stretch = np.zeros((ground.rows, ground.columns), np.int32)
    by_byte = np.zeros((4, row * 4), np.int32)
    for at, each in enumerate(accesses, 1):
        view(by_stretch, ground.cells(each))[...] = at
        for position in np.ndindex(*each.shape[1:]):
            first = (each.offset % row + sum(i * s for i, s in zip(position, each.strides[1:], strict=True))) * 4
            by_byte[each.offset // row, first : first + 4] = at
    for each in accesses:
        seen = {int(one) for one in view(by_stretch, ground.cells(each)).ravel()}
        wanted = set()
        for position in np.ndindex(*each.shape[1:]):
            first = (each.offset % row + sum(i * s for i, s in zip(position, each.strides[1:], strict=True))) * 4
            wanted |= {int(one) for one in by_byte[each.offset // row, first : first + 4]}
        assert seen == wanted
