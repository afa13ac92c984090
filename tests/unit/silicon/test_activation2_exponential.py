"""activate2, exponential and indirect operands of activations against NumPy, and the rules they keep."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa

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


# -- activate2 ---------------------------------------------------------------------------------------------------------

_STEPS: dict[str, Callable[[Array, Array], Array]] = {
    "multiply": lambda a, b: a * b,
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "bypass": lambda a, b: a,
}
_STAGES = [
    ("multiply", "add"),
    ("multiply", "subtract"),
    ("multiply", "bypass"),
    ("add", "bypass"),
    ("subtract", "bypass"),
    ("bypass", "bypass"),
]


@pytest.mark.parametrize("stage", _STAGES)
@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_activate2_stages(stage: tuple[str, str], vectors: bool, reverse: bool) -> None:
    x, one, two = values(8, 10), values(8, 1), values(8, 1, scale=3)
    with core("trn3") as on:
        data, dst = put(on, x), empty(on, x.shape)
        imms: list[Any] = [put(on, one), put(on, two)] if vectors else [1.25, -0.5]
        numbers = [one, two] if vectors else [np.float32(1.25), np.float32(-0.5)]
        swaps = [reverse and each != "bypass" for each in stage]
        nisa.activate2(dst, "copy", data, *imms, *stage, reverse0=swaps[0], reverse1=swaps[1])
        expected: Array = x.astype(np.float64)
        for each, number, swap in zip(stage, numbers, swaps, strict=True):
            expected = _STEPS[each](number, expected) if swap and each != "bypass" else _STEPS[each](expected, number)
        assert get(on, dst) == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert on.trace[0].engine is Engine.scalar


def test_activate2_prelu_has_a_slope() -> None:
    x, slope = values(8, 10), values(8, 1)
    with core("trn3") as on:
        data, dst = put(on, x), empty(on, x.shape)
        nisa.activate2(dst, "prelu", data, None, None, None, None, relu_param=0.25)
        assert np.array_equal(get(on, dst), np.where(x < 0, x * np.float32(0.25), x))
        made = nisa.activate2(dst, "prelu", data, None, None, "bypass", "bypass", relu_param=put(on, slope))
        assert np.array_equal(get(on, dst), np.where(x < 0, x * slope, x))
        assert len(made.reads) == 2
        nisa.activation(dst, "prelu", data)
        assert np.array_equal(get(on, dst), np.maximum(x, 0))


@pytest.mark.parametrize(
    ("operator", "exact"),
    [
        ("add", lambda r: r.sum(1)),
        ("maximum", lambda r: r.max(1)),
        ("minimum", lambda r: r.min(1)),
        ("abs_max", lambda r: np.take_along_axis(r, np.abs(r).argmax(1)[:, None], 1)[:, 0]),
        ("abs_min", lambda r: np.take_along_axis(r, np.abs(r).argmin(1)[:, None], 1)[:, 0]),
    ],
)
def test_activate2_reductions(operator: str, exact: Callable[[Array], Array]) -> None:
    x = values(8, 20)
    with core("trn3") as on:
        data, dst, res = put(on, x), empty(on, (8, 10)), empty(on, (8, 1))
        common: dict[str, Any] = {"imm0": None, "imm1": None, "op0": None, "op1": None, "reduce_op": operator}
        nisa.activate2(dst, "copy", data[:, :10], reduce_cmd=CMD.reset_reduce, **common)
        nisa.activate2(dst, "copy", data[:, 10:], reduce_cmd=CMD.reduce, reduce_res=res, **common)
        assert get(on, res)[:, 0] == pytest.approx(exact(x), rel=1e-5, abs=1e-6)


# -- exponential -------------------------------------------------------------------------------------------------------


def test_exponential_subtracts_and_adds_up() -> None:
    x, m, start = values(8, 12), values(8, 1), values(8, 1)
    with core("trn3") as on:
        src, dst, res, most = put(on, x), empty(on, x.shape, "bfloat16"), empty(on, (8, 1)), put(on, m)
        exact = np.exp(x.astype(np.float64) - m)
        total = exact.sum(1, keepdims=True)
        made = nisa.exponential(dst, src, most, reduce_res=res, reduce_cmd=CMD.reset_reduce)
        assert np.array_equal(get(on, dst), np.exp(x - m).astype(ml_dtypes.bfloat16))
        assert get(on, res) == pytest.approx(total, rel=1e-6)
        assert made.engine is Engine.vector
        nisa.exponential(dst, src, most, reduce_res=res, reduce_cmd=CMD.reduce)
        assert get(on, res) == pytest.approx(2 * total, rel=1e-6)
        nisa.exponential(dst, src, most, res, CMD.load_reduce, put(on, start))
        assert get(on, res) == pytest.approx(total + start, rel=1e-5)
        nisa.exponential(dst, src, most, res, CMD.load_reduce, 7.0)
        assert get(on, res) == pytest.approx(total + 7, rel=1e-6)
        nisa.exponential(dst, src, 1.0)
        refused("poisoned-accumulator", nisa.exponential, dst, src, reduce_cmd=CMD.reduce)


def test_the_vector_engines_registers_belong_to_the_partitions_of_the_input() -> None:
    with core("trn3") as on:
        src, dst, res = put(on, np.zeros((64, 4), np.float32)), empty(on, (64, 4)), empty(on, (32, 1))
        nisa.exponential(dst[:32], src[32:], reduce_cmd=CMD.reset_reduce)
        refused("poisoned-accumulator", nisa.exponential, dst[32:], src[:32], reduce_cmd=CMD.reduce)
        nisa.exponential(dst[:32], src[32:], reduce_res=res, reduce_cmd=CMD.reduce)
        assert (get(on, res) == 8).all()


# -- rules -------------------------------------------------------------------------------------------------------------


def test_refused_activate2() -> None:
    with core("trn3") as on:
        data, dst = put(on, values(8, 4)), empty(on, (8, 4))
        legal = set(_STAGES)
        for stage in itertools.product(("multiply", "add", "subtract", "bypass", "maximum"), repeat=2):
            if stage not in legal:
                refused("operator", nisa.activate2, dst, "exp", data, 1.0, 1.0, *stage)
        refused("parameter", nisa.activate2, dst, "exp", data, 1.0, 1.0, "bypass", "bypass", reverse0=True)
        refused("parameter", nisa.activate2, dst, "exp", data, 1.0, 1.0, "multiply", "bypass", reverse1=True)
        refused("parameter", nisa.activate2, dst, "exp", data, None, 1.0, "multiply", "add")
        half = put(on, values(8, 1), "bfloat16")
        refused("operand-dtype", nisa.activate2, dst, "exp", data, half, put(on, values(8, 1)), "multiply", "add")
        refused(
            "operator", nisa.activate2, dst, "exp", data, None, None, None, None,
            reduce_op="multiply", reduce_cmd=CMD.reset_reduce,
        )  # fmt: skip


def test_refused_exponentials() -> None:
    with core("trn3") as on:
        src, dst = put(on, values(8, 4)), empty(on, (8, 4))
        refused("parameter", nisa.exponential, dst, src, reduce_cmd=CMD.reset)
        refused("parameter", nisa.exponential, dst, src, reduce_init=1.0, reduce_cmd=CMD.reset_reduce)
        refused("operand-dtype", nisa.exponential, empty(on, (8, 4), "uint32"), src)
        refused("operand-dtype", nisa.exponential, dst, put(on, values(8, 4), "tfloat32"))
        refused("operand-dtype", nisa.exponential, dst, src, put(on, values(8, 1), "float16"))
        refused("operand-dtype", nisa.exponential, dst, src, reduce_res=empty(on, (8, 1), "int32"))
        refused("operand-shape", nisa.exponential, dst, src, src)


def _indirect(on: Core) -> tuple[Tensor, Tensor]:
    data = put(on, values(32, 8))
    index = put(on, np.arange(32, dtype=np.uint32).reshape(32, 1) % 8, "uint32")
    return data, index


def test_gathers_need_the_chip_and_the_right_operands() -> None:
    with core("trn3") as on:
        data, index = _indirect(on)
        dst, psum = empty(on, (32, 16)), empty(on, (32, 16), region="psum")
        made = nisa.activation(dst, "copy", data.indirect(index, 16))
        rows = np.arange(32)[:, None]
        assert np.array_equal(get(on, dst), get(on, data)[rows, (np.arange(16) + 16 * (rows // 16)) % 8])
        assert [each.allocation.name for each in made.reads] == [data.name, index.name]
        wide = put(on, values(32, 16))
        refused("tensor-indirection", nisa.activation, psum.indirect(index, 16), "copy", wide)
        refused("tensor-indirection", nisa.activation, dst, "copy", wide, bias=data.indirect(index, 1))
    with core("trn2") as on:
        data, index = _indirect(on)
        refused("generation", nisa.activation, empty(on, (32, 16)), "copy", data.indirect(index, 16))
