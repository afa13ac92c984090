"""Advice that keeps its word: making the change gives about the time that was predicted for it."""

from __future__ import annotations

import numpy as np
import profile_kernels as kernels
import pytest

from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.nki.run import Run
from outcrop.silicon.profile import Advice, profile_run
from outcrop.silicon.profile.clock import clock_of
from outcrop.silicon.profile.rewrite import buffered, by_hardware, in_bf16, may_run_on, moved
from outcrop.silicon.profile.transfers import kept, merged

PRODUCTS = ((256, 1024), (256, 2048))


def advice_of(run: Run) -> dict[str, Advice]:
    return {each.change: each for each in profile_run(run).advice}


def time_of(run: Run) -> float:
    return profile_run(run, advice=False).estimate.expected_ns


def test_loading_once_gives_what_was_predicted():
    before = kernels.executed(kernels.products, *PRODUCTS)
    advice = advice_of(before)["load-once"]
    after = time_of(kernels.executed(kernels.hoisted_products, *PRODUCTS))
    assert advice.predicted_ns < 0.75 * time_of(before)
    assert advice.predicted_ns == pytest.approx(after, rel=0.02)
    assert "load-once" not in advice_of(kernels.executed(kernels.hoisted_products, *PRODUCTS))


def test_merged_loads_give_what_was_predicted():
    before = kernels.executed(kernels.gathered, (128, 16384))
    advice = advice_of(before)["merge-loads"]
    assert "64 loads with descriptors down to 512 bytes become 8 with up to 4096" in advice.reason
    after = kernels.executed(kernels.gathered_in_fewer, (128, 16384))
    assert time_of(after) < 0.8 * time_of(before)
    assert advice.predicted_ns == pytest.approx(time_of(after), rel=0.05)
    assert "merge-loads" not in advice_of(after)


def test_a_second_buffer_gives_what_was_predicted():
    before = kernels.executed(kernels.one_buffer, (128, 32768))
    advice = advice_of(before)["one-more-buffer"]
    after = time_of(kernels.executed(kernels.two_buffers, (128, 32768)))
    assert after < 0.9 * time_of(before)
    assert advice.predicted_ns == pytest.approx(after, rel=0.02)
    assert "one-more-buffer" not in advice_of(kernels.executed(kernels.copied, (128, 32768)))


def test_sharing_work_between_engines_gives_what_was_predicted():
    before = kernels.executed(kernels.adding, (128, 1024))
    advice = advice_of(before)["move-vector-gpsimd-2"]
    assert advice.title == "Run every second tensor_tensor on the gpsimd engine, not on vector"
    assert advice.predicted_ns == pytest.approx(time_of(kernels.executed(kernels.adding_on_two, (128, 1024))), rel=0.02)
    assert "move-vector-gpsimd-2" not in advice_of(kernels.executed(kernels.adding_on_two, (128, 1024)))


def test_bfloat16_operands_give_what_was_predicted():
    before = kernels.executed(kernels.products, *PRODUCTS, dtype=np.float32)
    advice = advice_of(before)["bf16-operands"]
    narrow = time_of(kernels.executed(kernels.products, *PRODUCTS))  # its result is stored in bfloat16 too
    assert advice.predicted_ns == pytest.approx(narrow, rel=0.15)
    assert "bf16-operands" not in advice_of(kernels.executed(kernels.products, *PRODUCTS))


def test_triggers_from_two_engines_give_what_was_predicted():
    before = kernels.executed(kernels.copied, (128, 8192))
    made = by_hardware(before.traces)
    assert made is not None
    (trace,) = made
    assert [each.params["trigger"] for each in trace if each.op == "dma_copy"] == ["scalar", "sync"] * 16
    after = kernels.executed(kernels.copied_by_two, (128, 8192))
    assert clock_of(before).total_ns(made) == pytest.approx(time_of(after))
    assert by_hardware(after.traces) is None


def test_advice_is_sorted_and_gains_a_hundredth():
    made = profile_run(kernels.executed(kernels.products, *PRODUCTS))
    times = [each.predicted_ns for each in made.advice]
    assert times == sorted(times)
    assert times[-1] <= 0.99 * made.estimate.expected_ns


# -- the changes themselves -------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_not_kept():
    traces = kernels.executed(kernels.products, *PRODUCTS).traces
    everything = kept(traces, {MemoryRegion.sbuf: 200_000})
    assert everything is not None
    assert everything.dropped == everything.repeats.again == everything.repeats.loads - 16 - 8
    little = kept(traces, {MemoryRegion.sbuf: 5_000})
    assert little is None or little.dropped < everything.dropped
    assert kept(traces, {MemoryRegion.sbuf: 0}) is None


def test_what_is_written_in_between_is_loaded_again():
    def kernel(a):
        from outcrop.silicon.nki import isa as nisa
        from outcrop.silicon.nki import language as nl

        mine = nl.ndarray((128, 64), nl.float32, buffer=nl.private_hbm)
        for _ in range(2):
            tile = nl.ndarray((128, 64), nl.float32, buffer=nl.sbuf)
            nisa.dma_copy(tile, a)
            nisa.dma_copy(mine, tile)
            again = nl.ndarray((128, 64), nl.float32, buffer=nl.sbuf)
            nisa.dma_copy(again, mine)
        return a

    run = kernels.executed(kernel, (128, 64), dtype=np.float32)
    made = kept(run.traces, {MemoryRegion.sbuf: 200_000})
    assert made is not None
    assert (made.repeats.loads, made.repeats.again) == (2, 1)  # of a alone


def test_changes_leave_the_trace_as_it_was():
    run = kernels.executed(kernels.products, *PRODUCTS, dtype=np.float32)
    before = [[(each.op, each.engine, each.reads, each.writes, dict(each.params)) for each in t] for t in run.traces]
    limit = {MemoryRegion.sbuf: 200_000, MemoryRegion.psum: 16_384}
    for change in (
        lambda t: kept(t, limit),
        lambda t: merged(t, limit, 4096, 2048),
        in_bf16,
        by_hardware,
        lambda t: buffered(t, limit),
        lambda t: moved(t, Engine.vector, Engine.gpsimd, frozenset()),
    ):
        change(run.traces)
    after = [[(each.op, each.engine, each.reads, each.writes, dict(each.params)) for each in t] for t in run.traces]
    assert before == after


def test_merged_loads_keep_their_bytes_and_their_readers():
    run = kernels.executed(kernels.copied, (128, 4096))
    made = merged(run.traces, {MemoryRegion.sbuf: 200_000}, 4096, 2048)
    assert made is not None
    (trace,) = made.traces
    loads = [each for each in trace if each.op == "dma_copy" and not each.reads[0].allocation.on_chip]
    assert sum(each.reads[0].elements_per_partition for each in loads) == 128 * 4096
    scaled = [each for each in trace if each.op == "tensor_scalar"]
    spans = sorted((each.reads[0].allocation.index, each.reads[0].span()) for each in scaled)
    assert len({each.reads[0].allocation.index for each in scaled}) == 2
    assert [high - low for _, (low, high) in spans] == [512] * 16
    assert len(set(spans)) == 16
    assert [each.index for each in trace] == list(range(len(trace)))


def test_declared_order_survives():
    run = kernels.executed(kernels.copied, (128, 4096))
    (trace,) = run.traces
    trace[-1].depends_on(trace[0])
    made = merged(run.traces, {MemoryRegion.sbuf: 200_000}, 4096, 2048)
    assert made is not None
    last = made.traces[0][-1]
    assert [each.op for each in last.after] == ["dma_copy"]
    assert last.after[0] is made.traces[0][0]


@pytest.mark.parametrize(
    ("kernel", "op", "engine", "features", "legal"),
    [
        (kernels.adding, "tensor_tensor", Engine.gpsimd, frozenset(), True),
        (kernels.adding, "tensor_tensor", Engine.scalar, frozenset(), False),
        (kernels.one_buffer, "tensor_copy", Engine.scalar, frozenset(), False),
        (kernels.one_buffer, "tensor_copy", Engine.scalar, frozenset({"scalar_tensor_copy"}), True),
        (kernels.copied, "tensor_scalar", Engine.scalar, frozenset({"scalar_tensor_scalar"}), True),
        (kernels.copied, "tensor_scalar", Engine.gpsimd, frozenset(), False),
        (kernels.copied, "dma_copy", Engine.vector, frozenset(), False),
    ],
)
def test_engines_are_offered_where_the_language_allows_them(kernel, op, engine, features, legal):
    (trace,) = kernels.executed(kernel, (128, 1024)).traces
    each = next(each for each in trace if each.op == op)
    assert may_run_on(each, engine, features) is legal


def test_gpsimd_does_not_reach_psum():
    (trace,) = kernels.executed(kernels.products, (128, 128), (128, 512)).traces
    copy = next(each for each in trace if each.op == "tensor_copy")
    assert not may_run_on(copy, Engine.gpsimd, frozenset())


def test_every_engine_that_is_offered_is_one_that_the_language_takes():
    """The same instruction, asked for on the offered engine, is not refused; on one not offered it may be."""
    import kernel_rig
    from outcrop.silicon.device.settings import limits_of
    from outcrop.silicon.nki import isa as nisa
    from outcrop.silicon.nki import language as nl

    for target in kernel_rig.CHIPS:
        features = limits_of(kernel_rig.CHIPS[target]).features
        with kernel_rig.core(target) as on:
            tile = kernel_rig.put(on, np.ones((128, 8), np.float32))
            made = kernel_rig.put(on, np.ones((128, 8), np.float32))
            copied = nisa.tensor_copy(made, tile)
            added = nisa.tensor_tensor(made, tile, tile, nl.add)
            scaled = nisa.tensor_scalar(made, tile, nl.multiply, 2.0)
            filled = nisa.memset(made, 1.0)
            for engine in (Engine.vector, Engine.scalar, Engine.gpsimd):
                if may_run_on(copied or on.trace[0], engine, features):
                    nisa.tensor_copy(made, tile, engine=engine)
                if may_run_on(added or on.trace[1], engine, features):
                    nisa.tensor_tensor(made, tile, tile, nl.add, engine=engine)
                if may_run_on(scaled or on.trace[2], engine, features):
                    nisa.tensor_scalar(made, tile, nl.multiply, 2.0, engine=engine)
                if may_run_on(filled or on.trace[3], engine, features):
                    nisa.memset(made, 1.0, engine=engine)
