"""Predictions of whole kernels: the bracket, what binds, several chips and cores, and merged iterations."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from kernel_rig import core, empty
from outcrop.silicon import kernels
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl
from outcrop.silicon.nki.run import Run, run
from outcrop.silicon.timing.laws import load
from outcrop.silicon.timing.meetings import collective_ns
from outcrop.silicon.timing.merging import groups_of
from outcrop.silicon.timing.predict import predict
from outcrop.silicon.timing.program import prepare


def scale_kernel(x):  # type: ignore[no-untyped-def]
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for at in range(x.shape[0] // 128):
        tile = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[at * 128 : at * 128 + 128, :])
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
        nisa.dma_copy(dst=out[at * 128 : at * 128 + 128, :], src=tile)
    return out


def matmul_kernel(x, y):  # type: ignore[no-untyped-def]
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    left = nl.ndarray((128, 128), dtype=x.dtype, buffer=nl.sbuf)
    right = nl.ndarray((128, 512), dtype=y.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=left, src=x)
    nisa.dma_copy(dst=right, src=y)
    total = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.psum)
    for _ in range(200):
        nisa.nc_matmul(dst=total, stationary=left, moving=right)
    result = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=result, src=total)
    nisa.dma_copy(dst=out, src=result)
    return out


def zeros(*shape: int, dtype: object = np.float32) -> np.ndarray:  # type: ignore[type-arg]
    return np.zeros(shape, dtype)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def scaled() -> Run:
    return run(scale_kernel, (zeros(2048, 2048),), target="trn2", timing_only=True)


@pytest.fixture(scope="module")
def multiplied() -> Run:
    args = (zeros(128, 128, dtype=ml_dtypes.bfloat16), zeros(128, 512, dtype=ml_dtypes.bfloat16))
    return run(matmul_kernel, args, target="trn2", timing_only=True)


def test_a_prediction_is_a_bracket_with_what_is_known_of_its_error(scaled: Run) -> None:
    made = predict(scaled)
    assert made.low_ns <= made.expected_ns <= made.high_ns
    assert made.kernel == "scale_kernel"
    assert made.chip == "trn2"
    assert made.calibrated
    assert "between" in str(made)
    assert made.expected_ns == pytest.approx(made.listed.total_ns)
    assert made.listed.total_ns - made.listed.body_ns == load("trn2").launch_ns


def test_a_kernel_that_streams_is_bound_by_memory_near_its_limit(scaled: Run) -> None:
    made = predict(scaled)
    assert made.kind == "memory"
    moved = 2 * 2048 * 2048 * 4
    assert made.listed.dma_bytes == moved
    assert 250 < moved / made.listed.body_ns < 432  # GB/s: between the practical rate and what the engines can do


def test_a_kernel_of_matmuls_is_bound_by_compute_and_wakes_the_engine(multiplied: Run) -> None:
    made = predict(multiplied)
    assert made.kind == "compute"
    full = 200 * 512 / 2.4
    assert full < made.listed.body_ns < full * 1.3
    assert 1 <= made.listed.slow_windows <= 3
    assert made.low_ns < made.high_ns  # where the kernel starts in the grid is chance


def test_other_chips_and_the_same_values_or_none(multiplied: Run) -> None:
    args = (zeros(128, 128, dtype=ml_dtypes.bfloat16), zeros(128, 512, dtype=ml_dtypes.bfloat16))
    with_values = predict(run(matmul_kernel, args, target="trn2"))
    assert with_values.expected_ns == predict(multiplied).expected_ns
    for chip in ("trn1", "trn3"):
        made = predict(multiplied, chip)
        assert made.chip == chip
        assert not made.calibrated
        assert made.validation is None or made.validation.chip == chip
        assert "not calibrated" in str(made)


def test_two_cores_take_as_long_as_one_when_each_does_half() -> None:
    def halves(x):  # type: ignore[no-untyped-def]
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        rows = x.shape[0] // nl.num_programs(0)
        first = nl.program_id(0) * rows
        for at in range(first, first + rows, 128):
            tile = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=x[at : at + 128, :])
            nisa.dma_copy(dst=out[at : at + 128, :], src=tile)
        return out

    both = predict(run(halves, (zeros(2048, 1024),), grid=2, target="trn2", timing_only=True))
    half = predict(run(halves, (zeros(1024, 1024),), grid=1, target="trn2", timing_only=True))
    assert both.listed.body_ns == pytest.approx(half.listed.body_ns, rel=0.01)
    assert both.listed.dma_engines == 32


def columns(c: Core, iterations: int) -> None:
    for _ in range(iterations):
        wide, column = empty(c, (128, 512)), empty(c, (128, 1))
        c.record("tensor_reduce", Engine.vector, (column,), (wide,), {"op": "max"})
        c.record("reciprocal", Engine.vector, (empty(c, (128, 1)),), (column,))


def test_the_older_compiler_does_columns_of_iterations_as_one() -> None:
    laws = load("trn2")
    with core() as c:
        columns(c, 4)
        trace = list(c.trace)
    plain, merged = prepare([trace], laws), prepare([trace], laws, older=True)
    assert groups_of(trace, plain.waits) == [[1, 3, 5, 7]]
    assert not plain.merged
    assert merged.merged[5] == [1, 3, 5, 7]
    spans = {s.instruction.index: s for s in predict([trace], "trn2", older=True).listed.spans}
    ends = {spans[at].finish for at in (1, 3, 5, 7)}
    assert len(ends) == 1  # one instruction: its results are there together
    [end] = ends
    assert end - spans[1].start == pytest.approx(154 + 6.25 * 4)
    assert spans[1].start > max(spans[at].finish for at in (0, 2, 4, 6))


def test_dependent_iterations_and_full_transfers_are_not_merged() -> None:
    params = {"dge_mode": "hwdge", "dge_mode_asked": "hwdge", "trigger": "sync"}
    with core() as c:
        column = empty(c, (128, 1))
        for _ in range(3):
            c.record("reciprocal", Engine.vector, (column,), (column,))
        outside = empty(c, (128, 4096), "float32", "private_hbm")
        for at in range(4):
            part = outside[:, at * 512 : at * 512 + 512]
            c.record("dma_copy", Engine.dma, (empty(c, (128, 512)),), (part,), params)
        made = prepare([c.trace], load("trn2"))
        assert groups_of(c.trace, made.waits) == [[3, 4], [5, 6]]  # 256 KiB each, 512 KiB together


def test_merged_iterations_that_do_not_fit_together_go_apart() -> None:
    with core() as c:
        for _ in range(8):
            bank, column = empty(c, (128, 512), "float32", "psum"), empty(c, (128, 1))
            second = empty(c, (128, 1), "float32", "psum")
            c.record("tensor_reduce", Engine.vector, (column,), (bank,), {"op": "max"})
            c.record("reciprocal", Engine.vector, (second,), (column,))
            c.record("tensor_copy", Engine.vector, (empty(c, (128, 512)),), (bank,))
        made = predict([list(c.trace)], "trn2", older=True)
    assert len(made.listed.spans) == 24


def test_collectives_grow_with_ranks_and_bytes() -> None:
    laws = load("trn2")
    assert collective_ns(laws, "all_reduce", 1 << 24, 1) == 0.0
    small = collective_ns(laws, "all_gather", 1 << 10, 4)
    assert small < collective_ns(laws, "all_reduce", 1 << 10, 4)
    assert collective_ns(laws, "all_reduce", 1 << 24, 4) < collective_ns(laws, "all_reduce", 1 << 26, 4)
    assert collective_ns(laws, "all_reduce", 1 << 24, 4) < collective_ns(laws, "all_reduce", 1 << 24, 16)


def test_ranks_do_not_make_an_engine_busier():
    """Two ranks, each of whose tensor engine is busy for less than half of the time: nothing binds but the waiting."""
    case = kernels.find("reduced_matmul")
    made = predict(case.timing_run({"M": 1024, "K": 2048, "N": 1024}))
    body = made.listed.body_ns
    assert 0.6 < made.listed.busy_ns("tensor") / body < 1.2  # of both together
    assert made.kind == "latency"
