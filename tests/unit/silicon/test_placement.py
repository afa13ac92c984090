"""Placement: what cannot fit is refused with the peak set, what fits gets addresses that do not collide."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dynamic_loops import loops_of
from outcrop.silicon.device.packing import ALIGNMENT
from outcrop.silicon.device.placement import place
from outcrop.silicon.device.record import Allocation
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.device.tensor import Tensor

SBUF, PSUM = MemoryRegion.sbuf, MemoryRegion.psum
KIB = 1024


def use(c: Core, *tensors: Tensor) -> None:
    c.record("touch", Engine.vector, tensors[:1], tensors[1:])


def tile(
    c: Core, row_bytes: int, region: MemoryRegion = SBUF, partitions: int = 128, at: tuple[int, int] | None = None
) -> Tensor:
    return c.allocate((partitions, row_bytes), "uint8", region, address=at)


def collide(one: Allocation, two: Allocation) -> bool:
    assert one.address is not None
    assert two.address is not None
    in_time = one.first_use <= two.last_use and two.first_use <= one.last_use
    in_rows = (
        one.start_partition < two.start_partition + two.partitions
        and two.start_partition < one.start_partition + one.partitions
    )
    in_bytes = one.address < two.address + two.row_bytes and two.address < one.address + one.row_bytes
    return one.region is two.region and in_time and in_rows and in_bytes


def require_no_collisions(c: Core) -> None:
    used = [each for each in c.allocations if each.first_use >= 0]
    for index, one in enumerate(used):
        assert one.address is not None
        assert one.address + one.row_bytes <= (
            c.limits.sbuf_row_bytes if one.region is SBUF else c.limits.psum_row_bytes
        )
        for two in used[:index]:
            if not (one.explicit and two.explicit):
                assert not collide(one, two), (one, two)


@pytest.mark.parametrize(("target", "kib"), [("trn1", 192), ("trn2", 224), ("trn3", 256)])
def test_sbuf_holds_exactly_what_the_chip_has(target: str, kib: int) -> None:
    with core(target) as c:
        use(c, tile(c, 100 * KIB), tile(c, (kib - 100) * KIB))
        sbuf, psum = place(c)
        require_no_collisions(c)
    assert (sbuf.peak_bytes_per_partition, sbuf.limit_bytes_per_partition) == (kib * KIB, kib * KIB)
    assert (psum.peak_bytes_per_partition, psum.peak_index, psum.holders) == (0, -1, ())
    with core(target) as c:
        use(c, tile(c, 100 * KIB), tile(c, (kib - 100) * KIB), tile(c, 1))
        with pytest.raises(KernelRefused) as err:
            place(c)
    assert err.value.rule.name == "sbuf-capacity"


def test_the_refusal_names_the_line_of_the_peak_and_the_largest_tensors_with_theirs() -> None:
    with core() as c:
        held = [c.allocate((128, size * KIB), "uint8") for size in range(1, 21)]  # 210 KiB: the held tiles
        use(c, *held)
        extra = c.allocate((128, 15 * KIB), "uint8")  # the extra tile
        c.record("touch", Engine.vector, (extra,), (held[0],))  # the peak
        use(c, *held)
        with pytest.raises(KernelRefused) as err:
            place(c)
    message = str(err.value)
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    at = {
        name: next(n for n, line in enumerate(lines, 1) if line.endswith(name)) for name in ("held tiles", "the peak")
    }
    assert f"test_placement.py:{at['the peak']} in " in message
    assert f"21 tensors alive at once need {225 * KIB} bytes of each partition of SBUF" in message
    assert f"there are {224 * KIB}" in message
    listed = re.findall(r"\n +(\d+) bytes per partition: \w+ \[128, \d+\] uint8, allocated at \S+:(\d+)", message)
    assert [int(size) // KIB for size, _ in listed] == [20, 19, 18, 17, 16, 15, 15, 14, 13, 12, 11, 10]
    assert {int(line) for _, line in listed} == {at["held tiles"], at["the peak"] - 1}
    assert f"{45 * KIB} bytes per partition: 9 others" in message
    assert "smaller tiles" in message


def load(c: Core, dst: Tensor, source: Tensor) -> None:
    c.record("dma_copy", Engine.dma, (dst,), (source,))


@pytest.mark.parametrize("late", [True, False])
def test_loads_of_a_kernels_inputs_may_wait_for_their_use(late: bool) -> None:
    with core() as c:
        limit = c.limits.sbuf_row_bytes
        weights = c.allocate((128, limit), "uint8", MemoryRegion.shared_hbm)
        tiles = [tile(c, limit // 4) for _ in range(6)]
        for each in tiles:
            load(c, each, weights)
            if not late:
                use(c, each)  # computes on it before the others are loaded
        result = tile(c, limit // 8)
        for each in tiles:
            use(c, result, each)
        if late:
            usage = place(c)[0]
            assert usage.peak_bytes_per_partition == limit // 4 + limit // 8
            assert [each.row_bytes for each in usage.holders] == [limit // 4, limit // 8]
            return
        with pytest.raises(KernelRefused) as info:
            place(c)
        assert info.value.rule.name == "sbuf-capacity"


def test_loads_of_what_the_kernel_wrote_do_not_wait() -> None:
    with core() as c:
        limit = c.limits.sbuf_row_bytes
        between = c.allocate((128, limit), "uint8", MemoryRegion.private_hbm)
        tiles = [tile(c, limit // 4) for _ in range(6)]
        for each in tiles:
            load(c, each, between)
        for each in tiles:
            load(c, between, each)
        with pytest.raises(KernelRefused) as info:
            place(c)
        assert info.value.rule.name == "sbuf-capacity"


def test_tensors_share_bytes_when_one_is_dead_before_the_other_lives() -> None:
    with core() as c:
        for _ in range(50):
            use(c, tile(c, 200 * KIB))
        sbuf, _ = place(c)
        assert {each.address for each in c.allocations} == {0}
    assert sbuf.peak_bytes_per_partition == 200 * KIB
    assert len(sbuf.holders) == 1


def test_two_tensors_of_one_instruction_do_not_share() -> None:
    with core() as c:
        one, two = tile(c, 64), tile(c, 64)
        use(c, one)
        use(c, two, one)
        use(c, two)
        place(c)
        require_no_collisions(c)


def test_a_tensor_that_nothing_uses_takes_no_place() -> None:
    with core() as c:
        idle = tile(c, 224 * KIB)
        use(c, tile(c, 224 * KIB))
        place(c)
        assert idle.storage.allocation.address is None


def test_relaxed_capacity_warns_and_places_what_it_can() -> None:
    with core(relaxed={"sbuf-capacity"}) as c:
        use(c, tile(c, 200 * KIB), tile(c, 200 * KIB))
        with pytest.warns(KernelWarning, match="sbuf-capacity"):
            sbuf, _ = place(c)
        assert [rule.name for rule, _, _ in c.warned] == ["sbuf-capacity"]
    assert len(sbuf.unplaced) == 1


def test_automatic_tensors_lie_around_explicit_ones() -> None:
    with core() as c:
        fixed = tile(c, 100 * KIB, at=(0, 50 * KIB))
        small, large = tile(c, 50 * KIB), tile(c, 74 * KIB)
        use(c, fixed, large, small)
        sbuf, _ = place(c)
        require_no_collisions(c)
    assert sbuf.unplaced == ()
    assert sbuf.peak_bytes_per_partition == 224 * KIB


def test_explicit_tensors_at_one_place_count_once() -> None:
    with core() as c:
        ring = [tile(c, 60 * KIB, at=(0, (index % 2) * 60 * KIB)) for index in range(8)]
        use(c, *ring)
        use(c, tile(c, 100 * KIB), *ring)
        sbuf, _ = place(c)
        require_no_collisions(c)
    assert sbuf.peak_bytes_per_partition == 220 * KIB


def test_an_explicit_tensor_in_other_partitions_is_not_in_the_way() -> None:
    with core() as c:
        fixed = tile(c, 224 * KIB, partitions=64, at=(64, 0))
        use(c, fixed, tile(c, 224 * KIB, partitions=64))
        place(c)
        require_no_collisions(c)
    with core() as c:
        fixed = tile(c, 224 * KIB, partitions=64, at=(64, 0))
        use(c, fixed, tile(c, 32, partitions=65))  # of more than 64 partitions: those above are reached
        with pytest.raises(KernelRefused, match="sbuf-capacity"):
            place(c)


def test_tensors_of_few_partitions_lie_side_by_side_where_they_must() -> None:
    with core() as c:
        use(c, tile(c, 100 * KIB), *[tile(c, 60 * KIB, partitions=64) for _ in range(4)])
        sbuf, _ = place(c)
        require_no_collisions(c)
        assert {each.start_partition for each in c.allocations} == {0, 64}
    assert sbuf.peak_bytes_per_partition == 220 * KIB
    assert sbuf.unplaced == ()
    with core() as c:
        use(c, *[tile(c, 224 * KIB, partitions=rows) for rows in (1, 17, 32, 32)])
        place(c)
        require_no_collisions(c)
        assert [each.start_partition for each in c.allocations] == [0, 32, 64, 96]
    with core() as c:
        use(c, *[tile(c, 224 * KIB, partitions=rows) for rows in (1, 17, 32, 32)], tile(c, 4, partitions=1))
        with pytest.raises(KernelRefused, match="sbuf-capacity"):
            place(c)


def test_tensors_that_fit_at_partition_0_stay_there() -> None:
    with core() as c:
        use(c, *[tile(c, 50 * KIB, partitions=32) for _ in range(4)])
        place(c)
        assert {each.start_partition for each in c.allocations} == {0}


def test_holes_of_the_wrong_sizes_are_noted_and_not_refused() -> None:
    with core() as c:
        use(c, tile(c, 24 * KIB, at=(0, 100 * KIB)), tile(c, 150 * KIB))
        sbuf, _ = place(c)
    assert sbuf.peak_bytes_per_partition == 174 * KIB
    assert [each.row_bytes for each in sbuf.unplaced] == [150 * KIB]


def test_a_psum_tensor_of_up_to_one_bank_lies_in_one_bank() -> None:
    with core() as c:
        tiles = [tile(c, 1536, PSUM) for _ in range(8)] + [tile(c, 512, PSUM) for _ in range(8)]
        use(c, *tiles)
        _, psum = place(c)
        require_no_collisions(c)
        for each in c.allocations:
            assert each.address is not None
            assert each.address // 2048 == (each.address + each.row_bytes - 1) // 2048
    assert psum.peak_bytes_per_partition == 16 * KIB


def test_a_larger_psum_tensor_takes_whole_banks() -> None:
    with core() as c:
        use(c, tile(c, 512, PSUM), tile(c, 3000, PSUM))
        place(c)
        assert [each.address for each in c.allocations] == [0, 2048]


@pytest.mark.parametrize("row_bytes", [2048, 1028])
def test_more_tensors_than_banks_are_refused(row_bytes: int) -> None:
    with core() as c:
        use(c, *[tile(c, row_bytes, PSUM) for _ in range(8)])
        place(c)
    with core() as c:
        use(c, *[tile(c, row_bytes, PSUM) for _ in range(9)])
        with pytest.raises(KernelRefused) as err:
            place(c)
    assert err.value.rule.name == "psum-capacity"
    assert "9 tensors alive at once need" in str(err.value)
    assert "Copy results to SBUF" in str(err.value)


def test_an_explicit_psum_tensor_starts_at_a_bank() -> None:
    with core() as c:
        use(c, tile(c, 512, PSUM, at=(0, 3 * 2048)))
        place(c)
    with core() as c:
        use(c, tile(c, 512, PSUM, at=(0, 3 * 2048 + 512)))
        with pytest.raises(KernelRefused) as err:
            place(c)
    assert err.value.rule.name == "psum-address"
    assert "starts 512 bytes into a bank" in str(err.value)
    assert "the nearest before it is at 6144" in str(err.value)
    with core(relaxed={"psum-address"}) as c:
        use(c, tile(c, 512, PSUM, at=(0, 512)))
        with pytest.warns(KernelWarning, match="psum-address"):
            place(c)


def test_what_a_dynamic_loop_carries_lives_for_the_whole_loop() -> None:
    def run(c: Core, *, carried: bool) -> None:
        kept = tile(c, 200 * KIB)
        use(c, kept)
        for iteration in range(3):
            c.loop = iteration
            if carried:
                use(c, kept)  # its last use by the trace; but the hardware comes back to it
            use(c, tile(c, 100 * KIB))
        c.loop = -1
        use(c, tile(c, 100 * KIB))

    with core() as c:
        run(c, carried=False)
        place(c)
        require_no_collisions(c)
    with core() as c:
        run(c, carried=True)
        with pytest.raises(KernelRefused, match="sbuf-capacity"):
            place(c)


def test_tiles_of_one_iteration_share_with_those_of_the_next() -> None:
    with core() as c:
        for iteration in range(5):
            c.loop = iteration
            use(c, tile(c, 150 * KIB))
        c.loop = -1
        sbuf, _ = place(c)
    assert sbuf.peak_bytes_per_partition == 150 * KIB


def test_an_inner_loop_does_not_keep_the_tiles_of_each_run_of_the_outer_one() -> None:
    with core() as c:
        loops = loops_of(c)
        outer = loops.enter("outer")
        for _ in range(3):
            loops.next_run(outer)
            held = tile(c, 100 * KIB)
            use(c, held)
            inner = loops.enter("inner")
            for _ in range(2):
                loops.next_run(inner)
                use(c, held, tile(c, 100 * KIB))
            loops.leave(inner)
        loops.leave(outer)
        sbuf, _ = place(c)
        require_no_collisions(c)
    assert sbuf.peak_bytes_per_partition == 200 * KIB


@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data())
def test_addresses_never_collide_and_the_peak_is_that_of_a_plain_count(data: st.DataObject) -> None:
    with core() as c:
        lives = data.draw(
            st.lists(
                st.tuples(st.integers(0, 19), st.integers(0, 6), st.integers(1, 30 * KIB), st.integers(1, 128)),
                min_size=1,
                max_size=12,
            )
        )
        tensors = [(first, first + length, tile(c, size, partitions=rows)) for first, length, size, rows in lives]
        for at in range(26):
            alive = [tensor for first, last, tensor in tensors if first <= at <= last]
            c.record("touch", Engine.vector, tuple(alive), ())
        quarters = max(
            sum(
                tensor.storage.allocation.row_bytes * (4 if tensor.shape[0] > 64 else 2 if tensor.shape[0] > 32 else 1)
                for first, last, tensor in tensors
                if first <= at <= last
            )
            for at in range(26)
        )
        expected = -(-quarters // 4)
        if expected > 224 * KIB:
            with pytest.raises(KernelRefused):
                place(c)
            return
        sbuf, _ = place(c)
        assert sbuf.peak_bytes_per_partition == expected
        if not sbuf.unplaced:
            require_no_collisions(c)
        assert all((each.address or 0) % ALIGNMENT == 0 for each in c.allocations)


@pytest.mark.parametrize("explicit_every", [0, 4])
def test_a_long_trace_is_placed_in_well_under_a_second(explicit_every: int) -> None:
    rng = random.Random(5)
    with core(timing_only=True) as c:
        recent: list[Tensor] = []
        for index in range(100_000):
            if index % 5 == 0:
                where = (0, (index // 20 % 32) * 2048) if explicit_every and index // 5 % explicit_every == 0 else None
                recent.append(tile(c, rng.choice([4, 64, 512, 2048]), at=where))
                del recent[: max(0, len(recent) - 20)]
            c.record("touch", Engine.vector, (recent[-1],), (rng.choice(recent),))
        start = time.process_time()
        place(c)
        assert time.process_time() - start < 3  # 0.1 s where all are automatic, 0.6 s among explicit ones
    assert len(c.allocations) == 20_000
    assert np.all([each.address is not None for each in c.allocations])
