"""Scans, element by element in float32, against a loop of Python's own; accumulators; what is refused; and speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa

Array = np.ndarray[Any, Any]
Call = Callable[[Core], Any]
FIXED = settings(derandomize=True, deadline=None, max_examples=60)
F32 = np.float32
CMD = nisa.reduce_cmd

# One step on single numbers: float64 rounded to float32 is the float32 result for these.
STEP: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: float(F32(a + b)),
    "subtract": lambda a, b: float(F32(a - b)),
    "multiply": lambda a, b: float(F32(a * b)),
    "maximum": max,
    "minimum": min,
    "less": lambda a, b: float(a < b),
}
ASSOCIATIVE = ["add", "subtract", "multiply", "maximum", "minimum"]


def scanned(
    factors: Array, terms: Array, start: Array, op0: str, op1: str, reverse0: bool = False, reverse1: bool = False
) -> Array:
    """The reference's loop, one number at a time."""
    result = np.empty(factors.shape, F32)
    for row in range(factors.shape[0]):
        state = float(start[row])
        for at in range(factors.shape[1]):
            a, b = float(factors[row, at]), float(terms[row, at])
            state = STEP[op0](state, a) if reverse0 else STEP[op0](a, state)
            state = STEP[op1](b, state) if reverse1 else STEP[op1](state, b)
            result[row, at] = state
    return result


@FIXED
@given(
    op0=st.sampled_from(sorted(STEP)),
    op1=st.sampled_from(sorted(STEP)),
    reverse=st.tuples(st.booleans(), st.booleans()),
    vector=st.booleans(),
    ones=st.booleans(),
    dtypes=st.sampled_from(["float32 float32 float32", "bfloat16 float32 float16", "float32 float8_e4m3 bfloat16"]),
    psum=st.sampled_from(["", "data0", "data1"]),
)
def test_every_step_rounds_to_float32_in_order(
    op0: str, op1: str, reverse: tuple[bool, bool], vector: bool, ones: bool, dtypes: str, psum: str
) -> None:
    rng = np.random.default_rng(1)
    kinds = dtypes.split()
    with core() as c:
        factors = np.ones((4, 3, 5)) if ones else rng.uniform(-1.2, 1.2, (4, 3, 5))
        data0 = put(c, factors, kinds[0], "psum" if psum == "data0" else "sbuf")
        data1 = put(c, rng.uniform(-2, 2, (4, 15)), kinds[1], "psum" if psum == "data1" else "sbuf")
        start = rng.uniform(-1, 1, (4, 1)).astype(F32) if vector else np.full((4, 1), 0.3, F32)
        dst = empty(c, (4, 15), kinds[2])
        initial = put(c, start) if vector else 0.3
        nisa.tensor_tensor_scan(dst, data0, data1, initial, op0, op1, *reverse)
        left, right, got = get(c, data0).reshape(4, 15), get(c, data1), get(c, dst)
    wanted = scanned(left.astype(F32), right.astype(F32), start[:, 0], op0, op1, *reverse)
    assert np.array_equal(got, wanted.astype(got.dtype))


@pytest.mark.parametrize("op1", sorted(STEP))
@pytest.mark.parametrize("reverse", [(False, False), (True, False), (False, True), (True, True)])
def test_factors_of_one_take_the_same_steps(op1: str, reverse: tuple[bool, bool]) -> None:
    terms = np.random.default_rng(5).uniform(-2, 2, (3, 9)).astype(F32)
    with core() as c:
        dst, ones = empty(c, (3, 9)), put(c, np.ones((3, 9)), "bfloat16")
        nisa.tensor_tensor_scan(dst, ones, put(c, terms), 0.5, "multiply", op1, *reverse)
        got = get(c, dst)
    assert np.array_equal(got, scanned(np.ones((3, 9)), terms, np.full(3, 0.5), "multiply", op1, *reverse))


def test_a_long_running_sum_rounds_like_a_loop_and_chains_over_tiles() -> None:
    values = np.random.default_rng(2).normal(0, 1e3, (128, 512)).astype(F32)
    with core() as c:
        ones, data, dst = put(c, np.ones((128, 512)), "float32"), put(c, values), empty(c, (128, 512))
        nisa.tensor_tensor_scan(dst[:, :200], ones[:, :200], data[:, :200], 0, np.multiply, np.add)
        nisa.tensor_tensor_scan(dst[:, 200:], ones[:, 200:], data[:, 200:], dst[:, 199:200], np.multiply, np.add)
        got = get(c, dst)
    state = np.zeros(128, F32)
    for at in range(512):
        state = state + values[:, at]
        assert np.array_equal(got[:, at], state)


def test_a_scan_in_place_with_infinities_and_nan_is_silent() -> None:
    with core() as c:
        data = put(c, np.float32([[1, np.inf, 0, np.nan, 2]]))
        nisa.tensor_tensor_scan(data, data, data, 1.0, "multiply", "add")
        got = get(c, data)[0]
    assert got[:2].tolist() == [2.0, np.inf]
    assert np.isnan(got[2:]).all()


# -- tensor_scalar_cumulative -----------------------------------------------------------------------------------------


@FIXED
@given(
    op0=st.sampled_from(["add", "multiply", "maximum", "subtract"]),
    op1=st.sampled_from(ASSOCIATIVE),
    vector=st.booleans(),
    load=st.booleans(),
    dtypes=st.sampled_from(["float32 float32", "bfloat16 float16", "uint8 float32", "float8_e5m2 bfloat16"]),
)
def test_cumulative_follows_the_pseudo_code(op0: str, op1: str, vector: bool, load: bool, dtypes: str) -> None:
    rng = np.random.default_rng(3)
    kinds = dtypes.split()
    shape = (4, 2, 7)
    identity = {"multiply": 1.0, "maximum": -np.inf, "minimum": np.inf}.get(op1, 0.0)
    with core() as c:
        src, dst = put(c, rng.uniform(0, 1.5, shape), kinds[0]), empty(c, shape, kinds[1])
        columns = rng.uniform(0.2, 1.2, (2, 4, 1)).astype(F32)
        operands: list[Any] = [put(c, each) for each in columns] if vector else [0.7, 0.4]
        if not vector:
            columns[0], columns[1] = 0.7, 0.4
        if load:
            nisa.tensor_scalar_cumulative(dst, src, op0, op1, operands[0], operands[1], reduce_cmd=CMD.load_reduce)
        else:
            nisa.tensor_scalar_cumulative(dst, src, op0, op1, operands[0])
        again = empty(c, shape)
        nisa.tensor_scalar_cumulative(again, src, op0, op1, operands[0], reduce_cmd=CMD.reduce)
        values, got, more = get(c, src).reshape(4, 14).astype(F32), get(c, dst), get(c, again)
    states = np.empty((4, 28), F32)
    for row in range(4):
        state = float(columns[1, row, 0]) if load else identity
        for at in range(28):
            state = STEP[op1](STEP[op0](float(values[row, at % 14]), float(columns[0, row, 0])), state)
            states[row, at] = state
    assert np.array_equal(got.reshape(4, 14), states[:, :14].astype(got.dtype))
    assert np.array_equal(more.reshape(4, 14), states[:, 14:])


def test_the_last_register_is_what_other_instructions_go_on_from() -> None:
    with core() as c:
        src, dst, total = put(c, np.ones((2, 5)), "float32"), empty(c, (2, 5)), empty(c, (2, 1))
        nisa.tensor_scalar_cumulative(dst, src, "multiply", "add", 2.0)
        nisa.tensor_scalar_reduce(dst, src, "add", 0.0, "add", total, reduce_cmd=CMD.reduce)
        assert get(c, total).tolist() == [[15.0], [15.0]]


# -- rules ------------------------------------------------------------------------------------------------------------


def t(c: Core, shape: tuple[int, ...] = (4, 8), dtype: str = "float32", region: str = "sbuf") -> Any:
    return put(c, np.ones(shape), dtype, region)


def scan(c: Core, data0: Any, data1: Any, initial: Any = 0.0, op0: str = "multiply", op1: str = "add") -> Any:
    return nisa.tensor_tensor_scan(t(c), data0, data1, initial, op0, op1)


CASES: list[tuple[str, Call, Call]] = [
    ("operand-memory", lambda c: scan(c, t(c, region="psum"), t(c, region="psum")),
     lambda c: scan(c, t(c, region="psum"), t(c))),
    ("operand-shape", lambda c: scan(c, t(c), t(c, (4, 1))), lambda c: scan(c, t(c), t(c, (4, 1)).broadcast(1, 8))),
    ("operand-shape", lambda c: scan(c, t(c), t(c), t(c)), lambda c: scan(c, t(c), t(c), t(c)[:, 7:8])),
    ("operator", lambda c: scan(c, t(c), t(c), op0="abs"), lambda c: scan(c, t(c), t(c), op0="maximum")),
    ("operator", lambda c: scan(c, t(c, dtype="int8"), t(c, dtype="int8"), op1="bitwise_or"),
     lambda c: scan(c, t(c, dtype="int8"), t(c, dtype="int8"), op1="logical_or")),
    ("divide", lambda c: scan(c, t(c), t(c), op0="divide"), lambda c: scan(c, t(c), t(c))),
    ("parameter", lambda c: scan(c, t(c), t(c), None), lambda c: scan(c, t(c), t(c), np.float32(0))),
    ("operand-dtype", lambda c: scan(c, t(c, dtype="float8_e4m3fn_x4"), t(c)),
     lambda c: scan(c, t(c, dtype="int32"), t(c))),
    ("base-partition", lambda c: scan(c, t(c, (36, 8))[32:36], t(c)), lambda c: scan(c, t(c), t(c))),
    ("operand-dtype", lambda c: nisa.tensor_scalar_cumulative(t(c), t(c, dtype="int32"), "add", "add", 0.0),
     lambda c: nisa.tensor_scalar_cumulative(t(c), t(c, dtype="int16"), "add", "add", 0.0)),
    ("operand-dtype", lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "add", "add", t(c, (4, 1), "bfloat16")),
     lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "add", "add", t(c, (4, 1)))),
    ("operator", lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "add", "logical_or", 0.0),
     lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "logical_or", "add", 0.0)),
    ("parameter", lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "add", "add", 0.0, 1.0),
     lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "add", "add", 0.0, 1.0, reduce_cmd=CMD.load_reduce)),
    ("parameter", lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "add", "add", 0.0, reduce_cmd=CMD.idle),
     lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "add", "add", 0.0)),
    ("parameter", lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "abs", "add", 1.0),
     lambda c: nisa.tensor_scalar_cumulative(t(c), t(c), "abs", "add", 0.0)),
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(CASES)), ids=[f"{at}-{case[0]}" for at, case in enumerate(CASES)])
def test_refused_by_its_rule_and_legal_without_the_mistake(at: int) -> None:
    rule, refused, legal = CASES[at]
    with core() as c:
        with pytest.raises(KernelRefused) as err:
            refused(c)
        assert err.value.rule.name == rule
        assert not c.trace
        legal(c)
        assert len(c.trace) == 1


def test_records_have_the_operators_and_all_operands() -> None:
    with core() as c:
        scan(c, t(c), t(c), t(c, (4, 1)))
        nisa.tensor_scalar_cumulative(t(c), t(c), "add", "add", t(c, (4, 1)), t(c, (4, 1)), reduce_cmd=CMD.load_reduce)
        first, second = c.trace
    assert (len(first.reads), len(second.reads)) == (3, 3)
    assert first.params == {
        "op0": "multiply", "op1": "add", "reverse0": False, "reverse1": False, "initial": "vector",
    }  # fmt: skip
    assert second.params["reduce_cmd"] == "load_reduce"


def test_no_python_loop_over_partitions_or_elements() -> None:
    """Bounds so wide that only a change of kind breaks them: 65,536 elements one by one would take 50 ms and more."""
    values = np.random.default_rng(4).normal(size=(128, 512)).astype(ml_dtypes.bfloat16)
    with core() as c:
        data, dst = put(c, values), empty(c, values.shape)
        best = [1.0, 1.0]
        for _ in range(5):
            for at, call in enumerate((
                lambda: nisa.tensor_tensor_scan(dst, data, data, 0.0, "multiply", "add"),
                lambda: nisa.tensor_scalar_cumulative(dst, data, "multiply", "subtract", 1.0),
            )):  # fmt: skip
                start = time.perf_counter()
                call()
                best[at] = min(best[at], time.perf_counter() - start)
    assert max(best) < 0.02
