"""range_select and select_reduce against NumPy, exactly, and the rules they keep."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa

Array = np.ndarray[Any, Any]
CMD = nisa.reduce_cmd
MIN = np.finfo(np.float32).min
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "equal": operator.eq,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}


def values(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def refused(rule: str, call: Callable[..., Any], *args: Any, **options: Any) -> None:
    with pytest.raises(KernelRefused) as err:
        call(*args, **options)
    assert err.value.rule.name == rule


# -- range_select ------------------------------------------------------------------------------------------------------


@given(
    rows=st.integers(1, 32),
    columns=st.integers(1, 40),
    op0=st.sampled_from(sorted(COMPARE)),
    op1=st.sampled_from(sorted(COMPARE)),
    start=st.integers(-30, 30),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_range_select(rows: int, columns: int, op0: str, op1: str, start: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    b0, b1 = (rng.integers(-20, 50, size=(rows, 1)).astype(np.float32) for _ in range(2))
    with core() as on:
        dst, res = empty(on, x.shape), empty(on, (rows, 1))
        nisa.range_select(dst, put(on, x), op0, op1, put(on, b0), put(on, b1), reduce_res=res, range_start=start)
        expected = x.copy()
        for row in range(rows):
            for column in range(columns):
                at = start + column
                if not (COMPARE[op0](at, b0[row, 0]) and COMPARE[op1](at, b1[row, 0])):
                    expected[row, column] = MIN
        assert np.array_equal(get(on, dst), expected)
        assert np.array_equal(get(on, res)[:, 0], expected.max(axis=1))


def test_fill_becomes_infinite_in_low_precision_but_not_the_maximum() -> None:
    with core() as on:
        bound = put(on, np.full((4, 1), -1, np.float32))
        dst, res = empty(on, (4, 6), "bfloat16"), empty(on, (4, 1))
        data = put(on, values(4, 6), "bfloat16", region="psum")
        nisa.range_select(dst, data, "less", "less", bound, bound, reduce_res=res, on_false_value=float(MIN))
        assert np.isneginf(get(on, dst).astype(np.float32)).all()
        assert (get(on, res) == MIN).all()
        assert get(on, dst).dtype == ml_dtypes.bfloat16


def test_maximum_chains_over_tiles() -> None:
    x = values(8, 30)
    with core() as on:
        low, high = put(on, np.zeros((8, 1), np.float32)), put(on, np.full((8, 1), 25, np.float32))
        data, dst, res = put(on, x), empty(on, (8, 10)), empty(on, (8, 1))
        for start, command in ((0, CMD.reset_reduce), (10, CMD.reduce), (20, CMD.reduce)):
            made = nisa.range_select(
                dst, data[:, start : start + 10], np.greater_equal, np.less, low, high, command,
                res if start == 20 else None, np.max, start,
            )  # fmt: skip
        assert np.array_equal(get(on, res)[:, 0], x[:, :25].max(axis=1))
        assert made.engine is Engine.vector
        assert made.params["comp_op0"] == "greater_equal"
        assert made.params["range_start"] == 20
        assert len(made.reads) == 3
        assert len(made.writes) == 2


def test_selections_of_several_dimensions_in_place() -> None:
    x = values(8, 3, 4)
    with core() as on:
        data, bound = put(on, x), put(on, np.full((8, 1), 7, np.float32))
        nisa.range_select(data, data, "less", "less_equal", bound, bound)
        expected = np.where(np.arange(12).reshape(3, 4) < 7, x, MIN)
        assert np.array_equal(get(on, data), expected)


def test_range_select_rules() -> None:
    with core() as on:
        data, dst, b = put(on, values(8, 4)), empty(on, (8, 4)), put(on, values(8, 1))

        def call(*args: Any, **options: Any) -> Any:
            given_args = {0: dst, 1: data, 2: "less", 3: "less", 4: b, 5: b} | dict(enumerate(args))
            return nisa.range_select(*given_args.values(), **options)

        refused("operand-dtype", call, dst, put(on, np.ones((8, 4)), "int32"))
        refused("operand-dtype", call, dst, data, "less", "less", b, put(on, values(8, 1), "bfloat16"))
        refused("operand-shape", call, dst, data, "less", "less", data)
        refused("operand-shape", call, empty(on, (8, 5)))
        refused("operand-shape", call, reduce_res=empty(on, (8, 2)))
        refused("operator", call, dst, data, "not_equal")
        refused("operator", call, dst, data, "less", "add")
        refused("operator", call, reduce_op="add")
        refused("parameter", call, reduce_cmd=CMD.load_reduce)
        refused("parameter", call, on_false_value=0.0)
        refused("parameter", call, on_false_value=b)
        refused("parameter", call, range_start=2**24 - 2)
        refused("parameter", call, range_start=0.5)
        refused("parameter", call, reduce_cmd="reset_reduce")
        refused("parameter", call, dst, data, "less", "less", 1.0)
        refused("poisoned-accumulator", call, reduce_cmd=CMD.reduce)
        assert on.trace == []
        call(range_start=2**24 - 3)
        call(reduce_cmd=CMD.idle)
        refused("poisoned-accumulator", call, reduce_cmd=CMD.reduce)
    with core("trn1") as on:
        data, b = put(on, values(8, 4)), put(on, values(8, 1))
        refused("generation", nisa.range_select, data, data, "less", "less", b, b)


# -- select_reduce -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("predicate", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16", "float8_e4m3"])
@pytest.mark.parametrize("reverse", [False, True])
def test_select_reduce(target: str, predicate: str, dtype: str, reverse: bool) -> None:
    rng = np.random.default_rng(4)
    chosen = rng.integers(0, 3, size=(33, 17))
    with core(target) as on:
        on_true, dst, res = put(on, rng.normal(size=(33, 17)) * 8, dtype), empty(on, (33, 17)), empty(on, (33, 1))
        nisa.select_reduce(
            dst, put(on, chosen, predicate), on_true, -3.0, res, CMD.reset_reduce, "max", reverse_pred=reverse
        )
        taken = (chosen == 0) if reverse else (chosen != 0)
        expected = np.where(taken, get(on, on_true).astype(np.float32), np.float32(-3))
        assert np.array_equal(get(on, dst), expected)
        assert np.array_equal(get(on, res)[:, 0], expected.max(axis=1))


def test_select_from_a_column_into_psum_and_chain() -> None:
    x, other = values(8, 2, 5), values(8, 1)
    chosen = np.random.default_rng(1).integers(0, 2, size=(8, 2, 5)).astype(np.uint8)
    with core() as on:
        dst, res = empty(on, (8, 10), region="psum"), empty(on, (8, 1), "bfloat16")
        on_false, predicate = put(on, other), put(on, chosen)
        data = put(on, x, region="psum")
        nisa.select_reduce(dst, predicate, data, on_false, reduce_cmd=CMD.reset_reduce)
        expected = np.where(chosen, x, other[:, :, None]).reshape(8, 10)
        assert np.array_equal(get(on, dst), expected)
        made = nisa.select_reduce(dst, predicate, data, 1.5, res, CMD.reduce)
        total = np.maximum(expected.max(axis=1), np.where(chosen, x, np.float32(1.5)).reshape(8, 10).max(axis=1))
        assert np.array_equal(get(on, res)[:, 0], total.astype(ml_dtypes.bfloat16))
        assert dict(made.params) == {
            "on_false": 1.5,
            "reverse_pred": False,
            "reduce_op": "maximum",
            "reduce_cmd": "reduce",
            "reduce_res": True,
        }
        assert on.trace[0].params["on_false"] == "vector"
        assert len(on.trace[0].reads) == 3


def test_nothing_but_minus_infinity_is_the_maximum_of_a_reset() -> None:
    with core() as on:
        dst, res = empty(on, (4, 3)), empty(on, (4, 1))
        lowest = put(on, np.full((4, 3), -np.inf, np.float32))
        nisa.select_reduce(dst, put(on, np.ones((4, 3)), "int8"), lowest, 0.0, res, CMD.reset_reduce)
        assert np.isneginf(get(on, res)).all()


def test_timing_only_needs_no_values() -> None:
    with core(timing_only=True) as on:
        dst, predicate, column = empty(on, (8, 4)), empty(on, (8, 4), "uint8"), empty(on, (8, 1))
        nisa.select_reduce(dst, predicate, dst, column, column, CMD.reset_reduce)
        nisa.range_select(dst, dst, "less", "less", column, column, CMD.reduce, column)
        nisa.bn_stats(empty(on, (8, 6)), dst)
        assert [each.op for each in on.trace] == ["select_reduce", "range_select", "bn_stats"]
        nisa.select_reduce(dst, predicate, dst, column)
        refused("poisoned-accumulator", nisa.select_reduce, dst, predicate, dst, column, column, CMD.reduce)


def test_select_reduce_rules() -> None:
    with core() as on:
        data, dst, column = put(on, values(8, 4)), empty(on, (8, 4)), put(on, values(8, 1))
        yes = put(on, np.ones((8, 4)), "uint8")
        call = nisa.select_reduce
        refused("operand-dtype", call, dst, data, data, 0.0)
        refused("operand-dtype", call, dst, put(on, np.ones((8, 4)), "int32"), data, 0.0)
        refused("operand-dtype", call, dst, yes, put(on, np.ones((8, 4)), "int32"), 0.0)
        refused("operand-dtype", call, dst, yes, put(on, np.ones((8, 4)), "tfloat32"), 0.0)
        refused("operand-dtype", call, dst, yes, data, 0.0, empty(on, (8, 1), "int8"), CMD.reset_reduce)
        refused("operand-shape", call, dst, yes[:, :3], data, 0.0)
        refused("operand-shape", call, dst, yes, data, data)
        refused("operand-shape", call, dst[:, :3], yes, data, 0.0)
        refused("operator", call, dst, yes, data, 0.0, column, CMD.reset_reduce, "minimum")
        refused("parameter", call, dst, yes, data, 0.0, column, CMD.load_reduce)
        refused("parameter", call, dst, yes, data, "zero")
        both = put(on, np.ones((8, 4)), "uint8", region="psum")
        refused("operand-memory", call, dst, both, put(on, values(8, 4), region="psum"), 0.0)
        refused("poisoned-accumulator", call, dst, yes, data, 0.0, column)
        refused("uninitialized-read", call, dst, yes, empty(on, (8, 4)), 0.0)
        high = put(on, np.ones((64, 4)), "uint8")
        refused("base-partition", call, dst, high[32:40], data, 0.0)
