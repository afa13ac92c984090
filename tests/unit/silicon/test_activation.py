"""activation and activation_reduce against float64 mathematics, and every rule they keep."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.activation_functions import ACTIVATIONS
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl

Array = np.ndarray[Any, Any]
CMD = nisa.reduce_cmd
RNG = np.random.default_rng(11)


def values(*shape: int, scale: float = 1.0) -> Array:
    return (np.random.default_rng(sum(shape)).normal(size=shape) * scale).astype(np.float32)


def refused(rule: str, call: Callable[..., Any], *args: Any, **options: Any) -> str:
    with pytest.raises(KernelRefused) as err:
        call(*args, **options)
    assert err.value.rule.name == rule
    return str(err.value)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(("partitions", "columns"), [(128, 512), (1, 1), (33, 7), (64, 3)])
def test_scale_and_bias_come_before_the_function(target: str, partitions: int, columns: int) -> None:
    x, s, b = values(partitions, columns), values(partitions, 1), values(partitions, 1, scale=2)
    with core(target) as on:
        data, scale, bias, dst = put(on, x), put(on, s), put(on, b), empty(on, x.shape)
        nisa.activation(dst, "exp", data, bias=bias, scale=scale)
        exact = np.exp(x.astype(np.float64) * s + b)
        assert np.allclose(get(on, dst), exact, rtol=2e-6, atol=0)
        nisa.activation(dst, "tanh", data, bias=bias, scale=0.5)
        assert np.allclose(get(on, dst), np.tanh(x.astype(np.float64) * 0.5 + b), rtol=2e-6, atol=1e-7)
        assert np.array_equal(get(on, data), x)


def test_constant_bias() -> None:
    with core("trn2") as on:
        dst = empty(on, (4, 3))
        nisa.activation(dst, np.square, put(on, np.full((4, 3), 2.0, np.float32)), bias=1, scale=np.float32(3))
        assert (get(on, dst) == 49).all()


def test_bias_alone_leaves_the_data_as_it_was() -> None:
    x, b = values(4, 3), values(4, 1)
    with core() as on:
        data, dst = put(on, x), empty(on, (4, 3))
        nisa.activation(dst, "abs", data, bias=put(on, b))
        assert np.array_equal(get(on, dst), np.abs(x + b))
        assert np.array_equal(get(on, data), x)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_go_by_their_names_in_the_language(name: str) -> None:
    x = np.linspace(0.5, 1.5, 12, dtype=np.float32).reshape(3, 4)
    with core() as on:
        dst = empty(on, x.shape)
        made = nisa.activation(dst, getattr(nl, name), put(on, x))
        assert np.array_equal(get(on, dst), ACTIVATIONS[name](x))
        assert made.params["op"] == name


def test_copy_applies_scale_and_bias_too() -> None:
    with core() as on:
        dst = empty(on, (4, 3))
        nisa.activation(dst, "identity", put(on, np.ones((4, 3), np.float32)), bias=put(on, np.full((4, 1), 2.0)))
        assert (get(on, dst) == 3).all()


@pytest.mark.parametrize(
    ("dtype", "exact"),
    [
        ("bfloat16", lambda r: r.astype(ml_dtypes.bfloat16)),
        ("float16", lambda r: r.astype(np.float16)),
        ("float8_e4m3", lambda r: r.astype(ml_dtypes.float8_e4m3)),
        ("int8", lambda r: np.clip(np.rint(r), -128, 127).astype(np.int8)),
        ("uint16", lambda r: np.clip(np.rint(r), 0, 65535).astype(np.uint16)),
    ],
)
def test_results_are_rounded_once(dtype: str, exact: Callable[[Array], Array]) -> None:
    x = values(16, 40, scale=40)
    with core() as on:
        dst = empty(on, x.shape, dtype)
        nisa.activation(dst, "copy", put(on, x), scale=1.5)
        assert np.array_equal(get(on, dst), exact(x * np.float32(1.5)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e5m2", "int32", "uint8", "int16"])
def test_inputs_of_every_type_become_float32(dtype: str) -> None:
    with core() as on:
        data = put(on, np.arange(24).reshape(4, 6), dtype)
        dst = empty(on, (4, 6))
        nisa.activation(dst, "square", data)
        assert np.array_equal(get(on, dst), np.square(get(on, data).astype(np.float32)))


def test_bias_of_low_precision() -> None:
    with core() as on:
        bias = put(on, np.array([[1.5], [2.25]]), "bfloat16")
        dst = empty(on, (2, 3))
        nisa.activation(dst, "copy", put(on, np.zeros((2, 3), np.float32)), bias=bias)
        assert get(on, dst).tolist() == [[1.5] * 3, [2.25] * 3]


def test_in_place_and_psum_and_patterns() -> None:
    x = values(128, 64)
    with core() as on:
        data = put(on, x)
        nisa.activation(data, "exp", data)
        assert np.allclose(get(on, data), np.exp(x.astype(np.float64)), rtol=1e-6, atol=0)
        source = put(on, x, region="psum")
        nisa.activation(source, "exp", source, scale=2.0)
        assert np.allclose(get(on, source), np.exp(2 * x.astype(np.float64)), rtol=1e-6, atol=0)
        half = empty(on, (128, 2, 16))
        nisa.activation(half, "abs", source[:, ::2])  # a dense 3-d tensor from every second column
        assert np.array_equal(get(on, half).reshape(128, 32), get(on, source)[:, ::2])
        every = put(on, np.zeros((128, 64), np.float32))
        nisa.activation(every[:, 1::2], "copy", half)
        assert np.array_equal(get(on, every)[:, 1::2], get(on, half).reshape(128, 32))
        assert not get(on, every)[:, ::2].any()


def test_shifted_in_place_overlap() -> None:
    x = values(4, 33)
    with core() as on:
        data = put(on, x)
        nisa.activation(data[:, 1:], "copy", data[:, :-1])
        assert np.array_equal(get(on, data)[:, 1:], x[:, :-1])


def test_special_values_raise_no_warning() -> None:
    x = np.array([[math.inf, -math.inf, math.nan, -0.0, 3e38, -3e38, 1e-42, 0.0]], np.float32)
    with core() as on, warnings.catch_warnings():
        warnings.simplefilter("error")
        data, dst = put(on, x), empty(on, x.shape)
        nisa.activation(dst, "exp", data, scale=3.0)
        got = get(on, dst)[0]
        assert got[[0, 1, 3, 4, 5, 6]].tolist() == [math.inf, 0, 1, math.inf, 0, 1]
        assert np.isnan(got[2])
        nisa.activation(dst, "silu", data)
        assert get(on, dst)[0, :2].tolist() == [math.inf, 0]


@given(
    rows=st.integers(1, 32),
    columns=st.integers(1, 30),
    step=st.integers(1, 3),
    function=st.sampled_from(["exp", "gelu", "silu", "square", "relu", "erf", "mish", "sigmoid"]),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    scale=st.floats(-2, 2, width=32),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_against_float64(
    rows: int, columns: int, step: int, function: str, dtype: str, scale: float, seed: int
) -> None:
    exact: dict[str, Callable[[float], float]] = {
        "exp": math.exp,
        "gelu": lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)),
        "silu": lambda v: v / (1 + math.exp(-v)),
        "square": lambda v: v * v,
        "relu": lambda v: max(v, 0.0),
        "erf": math.erf,
        "mish": lambda v: v * math.tanh(math.log1p(math.exp(v))),
        "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    }
    with core() as on:
        data = put(on, np.random.default_rng(seed).normal(size=(rows, columns * step)), dtype)
        dst = empty(on, (rows, columns))
        view = data[:, ::step]
        nisa.activation(dst, function, view, scale=scale)
        inputs = get(on, view).astype(np.float32) * np.float32(scale)
        expected = np.vectorize(exact[function], otypes=[float])(inputs.astype(np.float64))
        assert np.allclose(get(on, dst), expected, rtol=5e-7, atol=1e-37)


# -- reduction ---------------------------------------------------------------------------------------------------------


def _sum(x: Array) -> Array:
    total: Array = np.square(x.astype(np.float64)).reshape(x.shape[0], -1).sum(axis=1, keepdims=True)
    return total


def test_registers_chain_reset_and_are_read_out() -> None:
    one, two = values(8, 5, 3), values(8, 9)
    with core() as on:
        a, b, res = put(on, one), put(on, two), empty(on, (8, 1))
        a2, b2 = empty(on, one.shape, "bfloat16"), empty(on, two.shape)
        nisa.activation(a2, "square", a, reduce_op="add", reduce_cmd=CMD.reset_reduce)
        nisa.activation(b2, "square", b, reduce_op="add", reduce_cmd=CMD.reduce, reduce_res=res)
        # The sum is of float32 results, although the first dst was rounded to bfloat16.
        assert get(on, res) == pytest.approx(_sum(one) + _sum(two), rel=1e-6)
        nisa.activation(b2, "exp", b)  # idle leaves the scalar engine's registers alone
        nisa.activation(b2, "exp", b, reduce_res=res)
        assert get(on, res) == pytest.approx(_sum(one) + _sum(two), rel=1e-6)
        nisa.activation(b2, "exp", b, reduce_cmd=CMD.reset, reduce_res=res)
        assert not get(on, res).any()
        nisa.activation_reduce(b2, "square", b, reduce_op=np.add, reduce_res=res)
        assert get(on, res) == pytest.approx(_sum(two), rel=1e-6)


def test_registers_belong_to_partitions() -> None:
    with core() as on:
        data = put(on, np.ones((64, 4), np.float32))
        dst, low, high = empty(on, (64, 4)), empty(on, (32, 1)), empty(on, (32, 1))
        nisa.activation_reduce(dst[:32], "copy", data[:32], "add", None)
        nisa.activation_reduce(dst[32:], "copy", data[32:], "add", None, scale=2.0)
        nisa.activation(dst[:32], "copy", data[:32], reduce_res=low)
        nisa.activation(dst[32:], "copy", data[32:], reduce_res=high)
        assert (get(on, low) == 4).all()
        assert (get(on, high) == 8).all()
        nisa.activation_reduce(dst[:32], "copy", data[32:], "add", None, scale=3.0)  # those of the input, not of dst
        nisa.activation(dst[:32], "copy", data[:32], reduce_res=low)
        nisa.activation(dst[:32], "copy", data[32:], reduce_res=high)
        assert (get(on, low) == 4).all()
        assert (get(on, high) == 12).all()


def test_reduce_res_may_lie_within_dst_and_dst_may_be_one_column() -> None:
    x = values(16, 6)
    with core() as on:
        data, dst = put(on, x), empty(on, x.shape)
        nisa.activation_reduce(dst, "square", data, "add", dst[:, 2:3])
        got = get(on, dst)
        assert got[:, 2:3] == pytest.approx(_sum(x), rel=1e-6)
        assert np.array_equal(got[:, 3:], np.square(x[:, 3:]))
        scratch, total = empty(on, (16, 1)), empty(on, (16, 1))
        nisa.activation_reduce(scratch.ap([[1, 16], [0, 6]]), "square", data, "add", total)
        assert get(on, total) == pytest.approx(_sum(x), rel=1e-6)


def test_registers_are_undefined_until_a_reset() -> None:
    with core() as on:
        data, dst, res = put(on, values(4, 4)), empty(on, (4, 4)), empty(on, (4, 1))
        refused("poisoned-accumulator", nisa.activation, dst, "exp", data, reduce_res=res)
        refused("poisoned-accumulator", nisa.activation, dst, "exp", data, reduce_op="add", reduce_cmd=CMD.reduce)
        assert on.trace == []


def test_timing_only_records_the_same() -> None:
    traces = []
    for timing_only in (False, True):
        with core("trn3", timing_only=timing_only) as on:
            data, dst, res = empty(on, (8, 4)), empty(on, (8, 4)), empty(on, (8, 1))
            if not timing_only:
                on.write(data, values(8, 4))
                on.write(res, values(8, 1))
            nisa.activation(dst, "exp", data, bias=res, reduce_op="add", reduce_res=res, reduce_cmd=CMD.reset_reduce)
            nisa.activate2(dst, "gelu", data, 2.0, res, "multiply", "add", reduce_res=res)
            nisa.exponential(dst, data, res, reduce_res=res, reduce_cmd=CMD.reset_reduce)
            traces.append([(each.op, each.engine, each.params, len(each.reads)) for each in on.trace])
            refused("operand-shape", nisa.activation, dst, "exp", data[:, :2])
    assert traces[0] == traces[1]


def test_record_has_what_the_clock_needs() -> None:
    with core() as on:
        data, dst, res = put(on, values(8, 4)), empty(on, (8, 4)), empty(on, (8, 1))
        bias = put(on, values(8, 1))
        made = nisa.activation(
            dst, "exp", data, bias=bias, scale=0.5, reduce_op="add", reduce_res=res, reduce_cmd=CMD.reset_reduce,
            name="softmax",
        )  # fmt: skip
        assert (made.op, made.engine, made.name) == ("activation", Engine.scalar, "softmax")
        assert dict(made.params) == {
            "op": "exp",
            "scale": 0.5,
            "bias": "vector",
            "reduce_op": "add",
            "reduce_cmd": "reset_reduce",
            "reduce_res": True,
        }
        assert [each.allocation.name for each in made.reads] == [data.name, bias.name]
        assert [each.allocation.name for each in made.writes] == [dst.name, res.name]
        assert nisa.activation_reduce(dst, "exp", data, "add", res).op == "activation_reduce"


# -- valid ranges ------------------------------------------------------------------------------------------------------


def test_inputs_outside_the_range_are_warned_of_once_a_line() -> None:
    with core() as on:
        data, dst = put(on, np.full((2, 2), 9.0, np.float32)), empty(on, (2, 2))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                nisa.activation(dst, "sin", data)
        assert len(caught) == 1
        assert caught[0].category is KernelWarning
        assert "[activation-range]" in str(caught[0].message)
        assert "-pi to pi" in str(caught[0].message)
        assert caught[0].filename == __file__
        assert get(on, dst) == pytest.approx(27.65, abs=0.005)
        assert [each.name for each, _, _ in on.warned] == ["activation-range"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            nisa.activation(dst, "sin", data, scale=0.25)  # within the range once it is scaled


def test_the_warning_goes_away_where_the_rule_is_relaxed() -> None:
    with core(relaxed={"activation-range"}) as on, warnings.catch_warnings():
        warnings.simplefilter("error")
        dst = empty(on, (1, 2))
        nisa.activation(dst, "log", put(on, np.array([[0.0, -1.0]], np.float32)))
        assert get(on, dst)[0, 0] == -math.inf
        assert np.isnan(get(on, dst)[0, 1])
        assert len(on.warned) == 1


# -- rules -------------------------------------------------------------------------------------------------------------


def test_refused_activations() -> None:
    with core("trn2") as on:
        data, dst, column = put(on, values(8, 4)), empty(on, (8, 4)), put(on, values(8, 1))
        message = refused("operator", nisa.activation, dst, "cos", data)
        assert "gelu_apprx_tanh" in message
        refused("operator", nisa.activation, dst, np.add, data)
        refused("operand-shape", nisa.activation, dst, "exp", data[:, :3])
        refused("operand-shape", nisa.activation, dst, "exp", data, bias=data)
        refused("operand-shape", nisa.activation, dst, "exp", data, scale=put(on, values(4, 1)))
        refused("operand-shape", nisa.activation, dst, "exp", data, reduce_res=empty(on, (8, 2)))
        refused("operand-dtype", nisa.activation, dst, "exp", data, scale=put(on, values(8, 1), "bfloat16"))
        refused("operand-dtype", nisa.activation, dst, "exp", data, bias=put(on, values(8, 1), "tfloat32"))
        refused("operand-dtype", nisa.activation, dst, "exp", empty(on, (8, 4), "float8_e4m3fn_x4"))
        refused("operand-memory", nisa.activation, dst, "exp", empty(on, (8, 4), region="private_hbm"))
        refused("parameter", nisa.activation, dst, "exp", 3.0)
        refused("parameter", nisa.activation, dst, "exp", data, scale="two")
        refused("parameter", nisa.activation, dst, "exp", data, reduce_cmd=2)
        refused("parameter", nisa.activation, dst, "exp", data, reduce_op="add", reduce_cmd=CMD.load_reduce)
        refused("operator", nisa.activation, dst, "exp", data, reduce_op="maximum", reduce_cmd=CMD.reset_reduce)
        refused("operator", nisa.activation, dst, "exp", data, reduce_cmd=CMD.reset_reduce)
        refused("operator", nisa.activation_reduce, dst, "exp", data, "maximum", column)
        refused("uninitialized-read", nisa.activation, dst, "exp", dst)
        refused("uninitialized-read", nisa.activation, dst, "exp", data, bias=empty(on, (8, 1)))
        wide = put(on, values(64, 4))
        refused("start-partition", nisa.activation, dst, "exp", wide[1:9])
        assert on.trace == []


def test_options_of_later_generations() -> None:
    with core("trn1") as on:
        data, dst, column = put(on, np.full((8, 4), 2.0, np.float32)), empty(on, (8, 4)), put(on, values(8, 1))
        assert "trn2" in refused("generation", nisa.activation, dst, "exp", data, bias=1.0)
        refused("generation", nisa.activation, dst, "reciprocal", data, bias=column)
        nisa.activation(dst, "reciprocal", data)
        assert (get(on, dst) == 0.5).all()
    with core("trn2") as on:
        data, dst = put(on, values(8, 4)), empty(on, (8, 4))
        nisa.activation(
            dst, "reciprocal", put(on, np.ones((8, 4), np.float32)), bias=put(on, np.ones((8, 1), np.float32))
        )
        assert (get(on, dst) == 0.5).all()
        refused("generation", nisa.activate2, dst, "exp", data, 1.0, 1.0, "multiply", "add")
        refused("generation", nisa.exponential, dst, data)
