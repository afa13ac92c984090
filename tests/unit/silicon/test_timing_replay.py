"""The event simulation on small traces: hand-offs, orders, space, meetings, and what must never get slower."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence

import pytest

from kernel_rig import CHIPS, core, empty
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.settings import Limits, limits_of
from outcrop.silicon.timing.laws import load
from outcrop.silicon.timing.program import prepare
from outcrop.silicon.timing.replay import replay, replay_program
from outcrop.silicon.timing.timeline import Timeline

LAWS = load("trn2")
LIMITS = limits_of(CHIPS["trn2"])


def timed(trace: Sequence[Instruction], order: str = "program", limits: Limits = LIMITS) -> Timeline:
    return replay(trace, LAWS, limits, 16, order)


def starts(timeline: Timeline) -> dict[int, float]:
    return {span.instruction.index: span.start for span in timeline.spans}


def test_a_hand_off_costs_the_post_and_the_wait() -> None:
    """End of a vector instruction to its semaphore 12 ns, from there to a start on ScalarE 23, on TensorE 41."""
    with core() as c:
        a, b = empty(c, (128, 512)), empty(c, (128, 512))
        c.record("memset", Engine.vector, (a,), (), {"value": 0.0})
        c.record("tensor_copy", Engine.scalar, (b,), (a,))
        c.record("nc_matmul", Engine.tensor, (empty(c, (128, 512), "float32", "psum"),), (a[:, 0:128], a))
        spans = timed(c.trace).spans
    finished = spans[0].finish
    assert finished == pytest.approx(58 + 0.83 * 512)
    assert spans[1].start == pytest.approx(finished + 12 + 23)
    assert spans[1].waited_for == (0, 0)
    assert spans[2].start == pytest.approx(finished + 12 + 41 + 57 + 50 * 2)  # two passes of weights at half rate


def test_independent_instructions_overlap_and_one_queue_does_not() -> None:
    with core() as c:
        tiles = [empty(c, (128, 512)) for _ in range(4)]
        c.record("memset", Engine.vector, (tiles[0],), ())
        c.record("memset", Engine.gpsimd, (tiles[1],), ())
        c.record("tensor_copy", Engine.vector, (tiles[3],), (tiles[2],))
        c.record("tensor_copy", Engine.vector, (empty(c, (128, 512)),), (tiles[2],))
        at = starts(timed(c.trace))
    assert at[0] == at[1] == 0.0
    assert at[2] == pytest.approx(58 + 0.83 * 512)
    assert at[3] == pytest.approx(at[2] + 62 + 0.521 * 512)  # its occupancy, which is less than its latency


def test_an_instruction_waits_for_one_semaphore_and_pays_for_more() -> None:
    with core() as c:
        a, b, out = empty(c, (128, 64)), empty(c, (128, 64)), empty(c, (128, 64))
        c.record("memset", Engine.gpsimd, (a,), ())
        c.record("tensor_copy", Engine.scalar, (b,), (empty(c, (128, 64)),))
        c.record("tensor_tensor", Engine.vector, (out,), (a, b))
        c.record("tensor_tensor", Engine.vector, (empty(c, (128, 64)),), (a, b))  # both are known to be there
        spans = timed(c.trace).spans
    last = max(spans[0].finish + 12, spans[1].finish + 10) + 23
    assert spans[2].start == pytest.approx(last + LAWS.semaphore.extra_ns["vector"])
    assert spans[3].start == pytest.approx(spans[2].busy_until)


def test_weights_are_loaded_behind_the_previous_matmul() -> None:
    with core() as c:
        x = empty(c, (128, 512), "bfloat16")
        for _ in range(3):
            c.record("nc_matmul", Engine.tensor, (empty(c, (128, 512), "float32", "psum"),), (x[:, 0:128], x))
        spans = timed(c.trace).spans
    column = LAWS.tensor.per_column_ns * 2  # the engine starts at half rate
    assert spans[0].start == pytest.approx(LAWS.tensor.weight_load_ns)
    assert spans[1].start - spans[0].start == pytest.approx(512 * column)
    assert spans[0].finish - spans[0].busy_until == pytest.approx(119 + 44 * 2)
    assert spans[2].start - spans[1].start == pytest.approx(512 * column)


def test_a_dma_pays_issue_dispatch_service_and_completion() -> None:
    params = {"dge_mode": "hwdge", "dge_mode_asked": "hwdge", "trigger": "sync"}
    with core() as c:
        tile = empty(c, (128, 512))
        c.record("dma_copy", Engine.dma, (tile,), (empty(c, (128, 512), "float32", "private_hbm"),), params)
        span = timed(c.trace).spans[0]
    service = 8 * (4.2 + 2048 / 27)
    assert span.busy_until == 572
    assert span.finish == pytest.approx(572 + 780 + service * 1.2 + 250 + 380)
    assert 2000 < span.finish < 3100  # the profiles show 1.75 to 1.9 us and the payload


def test_our_scheduler_takes_what_is_urgent_and_keeps_blocks_in_order() -> None:
    def build(c: Core, region: int) -> list[Instruction]:
        a, b, out = empty(c, (128, 512)), empty(c, (128, 512)), empty(c, (128, 512))
        c.record("tensor_copy", Engine.vector, (empty(c, (128, 512)),), (a,))  # 0: nothing waits for it
        c.record("tensor_copy", Engine.vector, (b,), (a,))  # 1: a chain hangs on it
        c.record("activation", Engine.scalar, (out,), (b,), {"op": "copy"})
        for each in c.trace[:2]:
            each.region = region
        return c.trace

    with core() as c:
        at = starts(timed(build(c, -1), "listed"))
        assert at[1] == 0.0 < at[0]
    with core() as c:
        at = starts(timed(build(c, 0), "listed"))
        assert at[0] == 0.0 < at[1]


def test_space_decides_how_far_loads_run_ahead() -> None:
    small = dataclasses.replace(LIMITS, sbuf_row_bytes=2 * 4096)
    params = {"dge_mode": "hwdge", "dge_mode_asked": "hwdge", "trigger": "sync"}
    with core() as c:
        outside = empty(c, (128, 8192), "float32", "private_hbm")
        for at in range(8):
            tile = empty(c, (128, 1024))
            c.record("dma_copy", Engine.dma, (tile,), (outside[:, at * 1024 : at * 1024 + 1024],), params)
            c.record("tensor_reduce", Engine.vector, (empty(c, (128, 1), "float32", "psum"),), (tile,))
        roomy, tight = timed(c.trace, "listed"), timed(c.trace, "listed", small)
        none = timed(c.trace, "listed", dataclasses.replace(LIMITS, sbuf_row_bytes=1024))
    assert starts(roomy)[14] == pytest.approx(7 * 572)  # nothing holds back the last load
    assert starts(tight)[4] >= min(s.finish for s in tight.spans if s.instruction.index == 1)
    assert tight.body_ns > roomy.body_ns
    assert len(none.spans) == 16  # a kernel that does not fit is timed all the same


def test_two_cores_meet() -> None:
    traces: list[list[Instruction]] = []
    for number in range(2):
        with core() as c:
            shared = empty(c, (128, 64), "float32", "shared_hbm")
            for _ in range(1 + 4 * number):
                c.record("memset", Engine.gpsimd, (empty(c, (128, 512)),), ())
            c.record("core_barrier", Engine.gpsimd, (shared,), (shared,), {"cores": (0, 1), "meeting": 7})
            c.record("memset", Engine.gpsimd, (empty(c, (128, 512)),), ())
            for each in c.trace:
                each.core = number
            traces.append(list(c.trace))
    one = 58 + 0.83 * 512
    for order in ("program", "listed"):
        spans = replay_program(prepare(traces, LAWS), LIMITS, 16, order).spans
        met = [span for span in spans if span.instruction.op == "core_barrier"]
        last = [span for span in spans if span.start > met[0].start]
        assert met[0].start == met[1].start
        if order == "program":
            assert met[0].start == pytest.approx(5 * one)
            assert [span.start for span in last] == pytest.approx([5 * one + LAWS.link.barrier_ns] * 2)


def random_kernel(c: Core, seed: int, length: int) -> None:
    """Element-wise chains over a few tiles, on any engine."""
    rng = random.Random(seed)
    tiles = [empty(c, (128, 256)) for _ in range(5)]
    for _ in range(length):
        engine = rng.choice((Engine.vector, Engine.scalar, Engine.gpsimd))
        out, left, right = rng.choice(tiles), rng.choice(tiles), rng.choice(tiles)
        c.record("tensor_tensor", engine, (out,), (left, right), {"op": "add"})


@pytest.mark.parametrize("seed", range(6))
def test_both_orders_respect_every_dependence_and_queue(seed: int) -> None:
    with core() as c:
        random_kernel(c, seed, 60)
        made = prepare([c.trace], LAWS)
    for order in ("program", "listed"):
        timeline = replay_program(made, LIMITS, 16, order)
        by_index = {span.instruction.index: span for span in timeline.spans}
        assert len(by_index) == 60
        for index, mine in enumerate(made.waits):
            for edge in mine:
                assert by_index[index].start >= by_index[edge.producer].finish
        for queue in ("vector", "scalar", "gpsimd"):
            spans = [span for span in timeline.spans if span.queue == queue]
            assert all(one.busy_until <= two.start + 1e-6 for one, two in itertools.pairwise(spans))
            if order == "program":
                assert [s.instruction.index for s in spans] == sorted(s.instruction.index for s in spans)


@pytest.mark.parametrize("seed", range(6))
def test_a_shorter_kernel_is_never_slower_as_written(seed: int) -> None:
    """The first instructions alone; and the same kernel with every instruction made cheaper."""
    with core() as c:
        random_kernel(c, seed, 40)
        trace = list(c.trace)
    bodies = [timed(trace[:length]).body_ns for length in (10, 20, 30, 40)]
    assert bodies == sorted(bodies)
    cheaper = dataclasses.replace(
        LAWS,
        laws=tuple(
            dataclasses.replace(law, latency=law.latency.scaled(0.9), occupancy=law.occupancy.scaled(0.9))
            for law in LAWS.laws
        ),
        _index={},
    )
    assert replay(trace, cheaper, LIMITS, 16, "program").body_ns < bodies[-1]


@pytest.mark.parametrize("dropped", range(0, 12, 3))
def test_dropping_an_instruction_that_nothing_needs_never_slows_the_order_as_written(dropped: int) -> None:
    with core() as c:
        source = empty(c, (128, 256))
        for _ in range(12):
            c.record("tensor_copy", Engine.vector, (empty(c, (128, 256)),), (source,))
        trace = list(c.trace)
    whole = timed(trace).body_ns
    kept = trace[:dropped] + trace[dropped + 1 :]
    for at, each in enumerate(kept):
        each.index = at
    assert timed(kept).body_ns < whole
