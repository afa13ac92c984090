"""What the element-wise instructions refuse, rule by rule, beside a legal twin that differs in that one thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa

Call = Callable[[Core], Any]
GPSIMD, SCALAR, VECTOR, TENSOR = nisa.engine.gpsimd, nisa.engine.scalar, nisa.engine.vector, nisa.engine.tensor


def t(c: Core, dtype: str = "float32", shape: tuple[int, ...] = (4, 8), region: str = "sbuf") -> Tensor:
    return put(c, np.ones(shape), dtype, region)


def p(c: Core, dtype: str = "float32", shape: tuple[int, ...] = (4, 8)) -> Tensor:
    return t(c, dtype, shape, "psum")


# (rule, refused, legal twin)
CASES: list[tuple[str, Call, Call]] = [
    # memory
    ("operand-memory", lambda c: nisa.tensor_copy(t(c), t(c, region="shared_hbm")),
     lambda c: nisa.tensor_copy(t(c), t(c))),
    ("operand-memory", lambda c: nisa.tensor_copy(t(c), p(c), GPSIMD), lambda c: nisa.tensor_copy(t(c), p(c), SCALAR)),
    ("operand-memory", lambda c: nisa.tensor_copy(p(c), t(c), GPSIMD), lambda c: nisa.tensor_copy(p(c), t(c), VECTOR)),
    ("operand-memory", lambda c: nisa.memset(p(c), 0, GPSIMD), lambda c: nisa.memset(p(c), 0)),
    ("operand-memory", lambda c: nisa.tensor_tensor(t(c), p(c), p(c), "add"),
     lambda c: nisa.tensor_tensor(p(c), p(c), t(c), "add")),
    ("operand-memory", lambda c: nisa.tensor_tensor(t(c), p(c), t(c), "power"),
     lambda c: nisa.tensor_tensor(t(c), t(c), t(c), "power")),
    ("operand-memory", lambda c: nisa.tensor_scalar(t(c), p(c), "rsqrt", None),
     lambda c: nisa.tensor_scalar(t(c), t(c), "rsqrt", None)),
    ("operand-memory", lambda c: nisa.tensor_scalar(t(c), t(c), "add", p(c, shape=(4, 1)), op1="rsqrt"),
     lambda c: nisa.tensor_scalar(t(c), t(c), "add", p(c, shape=(4, 1)))),
    ("operand-memory", lambda c: nisa.scalar_tensor_tensor(t(c), p(c), "add", 1.0, "add", p(c)),
     lambda c: nisa.scalar_tensor_tensor(p(c), p(c), "add", 1.0, "add", t(c))),
    ("operand-memory", lambda c: nisa.tensor_copy_predicated(t(c), p(c), p(c, "uint8")),
     lambda c: nisa.tensor_copy_predicated(p(c), p(c), t(c, "uint8"))),
    # engines
    ("engine", lambda c: nisa.tensor_copy(t(c), t(c), TENSOR), lambda c: nisa.tensor_copy(t(c), t(c), GPSIMD)),
    ("engine", lambda c: nisa.memset(t(c), 0, SCALAR), lambda c: nisa.memset(t(c), 0, GPSIMD)),
    ("engine", lambda c: nisa.tensor_tensor(t(c), t(c), t(c), "add", SCALAR),
     lambda c: nisa.tensor_tensor(t(c), t(c), t(c), "add", GPSIMD)),
    ("engine", lambda c: nisa.tensor_tensor(t(c), t(c), t(c), "power", VECTOR),
     lambda c: nisa.tensor_tensor(t(c), t(c), t(c), "power", GPSIMD)),
    ("engine", lambda c: nisa.tensor_tensor(t(c, "int8"), t(c, "int8"), t(c, "int8"), "bitwise_or", GPSIMD),
     lambda c: nisa.tensor_tensor(t(c, "int8"), t(c, "int8"), t(c, "int8"), "bitwise_or", VECTOR)),
    ("engine", lambda c: nisa.tensor_scalar(t(c), t(c), "rsqrt", None, engine=VECTOR),
     lambda c: nisa.tensor_scalar(t(c), t(c), "rsqrt", None, engine=GPSIMD)),
    ("engine", lambda c: nisa.tensor_scalar(t(c), t(c), "add", 1.0, engine=GPSIMD),
     lambda c: nisa.tensor_scalar(t(c), t(c), "add", 1.0, engine=SCALAR)),
    ("engine", lambda c: nisa.tensor_scalar(t(c), t(c), "maximum", 1.0, engine=SCALAR),
     lambda c: nisa.tensor_scalar(t(c), t(c), "maximum", 1.0)),
    ("engine", lambda c: nisa.tensor_scalar(t(c), t(c), "add", 1.0, op1="multiply", operand1=2.0, engine=SCALAR),
     lambda c: nisa.tensor_scalar(t(c), t(c), "multiply", 1.0, op1="add", operand1=2.0, engine=SCALAR)),
    ("engine", lambda c: nisa.tensor_scalar(t(c, "int8"), t(c, "int8"), "invert", None, engine=SCALAR),
     lambda c: nisa.tensor_scalar(t(c, "int8"), t(c, "int8"), "invert", None, engine=VECTOR)),
    # data types
    ("operand-dtype", lambda c: nisa.tensor_copy_predicated(t(c), t(c), t(c, "int8")),
     lambda c: nisa.tensor_copy_predicated(t(c), t(c), t(c, "uint16"))),
    ("operand-dtype", lambda c: nisa.tensor_copy_predicated(t(c), t(c, "bfloat16"), t(c, "uint8")),
     lambda c: nisa.tensor_copy_predicated(t(c, "bfloat16"), t(c, "bfloat16"), t(c, "uint8"))),
    ("operand-dtype", lambda c: nisa.tensor_tensor(t(c), t(c), t(c), "bitwise_and"),
     lambda c: nisa.tensor_tensor(t(c, "uint8"), t(c, "uint8"), t(c, "uint8"), "bitwise_and")),
    ("operand-dtype", lambda c: nisa.tensor_scalar(t(c), t(c), "left_shift", 1),
     lambda c: nisa.tensor_scalar(t(c, "int32"), t(c, "int32"), "left_shift", 1)),
    ("operand-dtype", lambda c: nisa.tensor_scalar(t(c), t(c), "add", t(c, "bfloat16", (4, 1))),
     lambda c: nisa.tensor_scalar(t(c), t(c), "add", t(c, "float32", (4, 1)))),
    ("operand-dtype", lambda c: nisa.tensor_scalar(t(c, "int8"), t(c, "int8"), "left_shift", t(c, shape=(4, 1))),
     lambda c: nisa.tensor_scalar(t(c, "int8"), t(c, "int8"), "left_shift", t(c, "int8", (4, 1)))),
    ("operand-dtype", lambda c: nisa.tensor_tensor(t(c), t(c, "float8_e5m2_x4"), t(c), "add"),
     lambda c: nisa.tensor_tensor(t(c), t(c, "float8_e5m2"), t(c), "add")),
    ("operand-dtype", lambda c: nisa.tensor_copy(t(c), t(c, "float8_e5m2_x4")),
     lambda c: nisa.tensor_copy(t(c, "float8_e5m2_x4"), t(c, "float8_e5m2_x4"))),
    ("operand-dtype", lambda c: nisa.reciprocal(t(c), t(c, "float4_e2m1fn_x4")),
     lambda c: nisa.reciprocal(t(c), t(c, "int8"))),
    # shapes
    ("operand-shape", lambda c: nisa.tensor_copy(t(c), t(c, shape=(4, 7))),
     lambda c: nisa.tensor_copy(t(c), t(c, shape=(4, 2, 4)))),
    ("operand-shape", lambda c: nisa.tensor_copy(t(c), t(c, shape=(2, 8))), lambda c: nisa.tensor_copy(t(c), t(c))),
    ("operand-shape", lambda c: nisa.tensor_tensor(t(c), t(c), t(c, shape=(4, 7)), "add"),
     lambda c: nisa.tensor_tensor(t(c), t(c), t(c, shape=(4, 4, 2)), "add")),
    ("operand-shape", lambda c: nisa.tensor_scalar(t(c), t(c), "add", t(c, shape=(4, 2))),
     lambda c: nisa.tensor_scalar(t(c), t(c), "add", t(c, shape=(4, 1, 1)))),
    ("operand-shape", lambda c: nisa.tensor_scalar(t(c), t(c), "add", t(c, shape=(1, 1))),
     lambda c: nisa.tensor_scalar(t(c), t(c), "add", t(c, shape=(4, 1)))),
    ("operand-broadcast", lambda c: nisa.tensor_tensor(t(c), t(c), t(c, shape=(4, 1)), "add"),
     lambda c: nisa.tensor_tensor(t(c), t(c), t(c, shape=(4, 1)).broadcast(1, 8), "add")),
    ("operand-broadcast", lambda c: nisa.tensor_tensor(t(c), t(c, shape=(1, 8)), t(c), "add"),
     lambda c: nisa.tensor_tensor(t(c), t(c, shape=(4, 8)), t(c), "add")),
    ("operand-broadcast", lambda c: nisa.scalar_tensor_tensor(t(c), t(c), "add", 1.0, "add", t(c, shape=(4, 1))),
     lambda c: nisa.scalar_tensor_tensor(t(c), t(c), "add", t(c, shape=(4, 1)), "add", t(c))),
    # operators
    ("operator", lambda c: nisa.tensor_scalar(t(c, "int8"), t(c, "int8"), "bitwise_and", 1, op1="add", operand1=1.0),
     lambda c: nisa.tensor_scalar(t(c, "int8"), t(c, "int8"), "bitwise_and", 1, op1="bitwise_or", operand1=1)),
    ("operator", lambda c: nisa.scalar_tensor_tensor(t(c, "int8"), t(c, "int8"), "add", 1, "bitwise_and", t(c, "int8")),
     lambda c: nisa.scalar_tensor_tensor(t(c, "int8"), t(c, "int8"), "add", 1, "logical_and", t(c, "int8"))),
    ("operator", lambda c: nisa.scalar_tensor_tensor(t(c), t(c), "add", 1.0, "square", t(c)),
     lambda c: nisa.scalar_tensor_tensor(t(c), t(c), "square", None, "add", t(c))),
    ("operator", lambda c: nisa.scalar_tensor_tensor(t(c), t(c), "rsqrt", None, "add", t(c)),
     lambda c: nisa.scalar_tensor_tensor(t(c), t(c), "reciprocal", None, "add", t(c))),
    ("divide", lambda c: nisa.tensor_scalar(t(c), t(c), "divide", 2.0),
     lambda c: nisa.tensor_scalar(t(c), t(c), "multiply", 0.5)),
    # parameters
    ("parameter", lambda c: nisa.tensor_scalar(t(c), t(c), "abs", 1.0),
     lambda c: nisa.tensor_scalar(t(c), t(c), "abs", 0)),
    ("parameter", lambda c: nisa.tensor_scalar(t(c), t(c), "add", None),
     lambda c: nisa.tensor_scalar(t(c), t(c), "add", np.float32(0))),
    ("parameter", lambda c: nisa.tensor_scalar(t(c), t(c), "add", "1"),
     lambda c: nisa.tensor_scalar(t(c), t(c), "add", 1)),
    ("parameter", lambda c: nisa.tensor_scalar(t(c), t(c), "add", 1.0, operand1=2.0),
     lambda c: nisa.tensor_scalar(t(c), t(c), "add", 1.0, op1="add", operand1=2.0)),
    ("parameter", lambda c: nisa.tensor_scalar(t(c, "int8"), t(c, "int8"), "bitwise_and", 1.5),
     lambda c: nisa.tensor_scalar(t(c, "int8"), t(c, "int8"), "bitwise_and", 1.0)),
    ("parameter", lambda c: nisa.memset(t(c, "uint8"), 256), lambda c: nisa.memset(t(c, "uint8"), 255)),
    ("parameter", lambda c: nisa.memset(t(c, "float8_e5m2_x4"), 1), lambda c: nisa.memset(t(c, "float8_e5m2_x4"), 0)),
    ("parameter", lambda c: nisa.memset(t(c), t(c, shape=(4, 1))), lambda c: nisa.memset(t(c), 1.0)),
    ("parameter", lambda c: nisa.tensor_copy(t(c), np.ones((4, 8))), lambda c: nisa.tensor_copy(t(c), t(c))),
    ("parameter", lambda c: nisa.tensor_copy(t(c), t(c), "vector"), lambda c: nisa.tensor_copy(t(c), t(c), VECTOR)),
    # places
    ("start-partition", lambda c: nisa.tensor_copy(t(c), t(c, shape=(8, 8))[1:5]),
     lambda c: nisa.tensor_copy(t(c), t(c, shape=(64, 8))[32:36])),
    ("base-partition", lambda c: nisa.tensor_tensor(t(c), t(c, shape=(64, 8))[32:36], t(c), "add"),
     lambda c: nisa.tensor_tensor(t(c), t(c, shape=(64, 8))[32:36], p(c), "add")),
    ("base-partition", lambda c: nisa.scalar_tensor_tensor(t(c), t(c, shape=(64, 8))[32:36], "add", 1, "add", t(c)),
     lambda c: nisa.scalar_tensor_tensor(t(c, shape=(64, 8))[32:36], t(c), "add", 1, "add", t(c))),
    ("free-dimensions",
     lambda c: nisa.tensor_copy(t(c, shape=(1, 32)), t(c, shape=(1, 3, 3, 3, 3, 3))[:, :2, :2, :2, :2, :2]),
     lambda c: nisa.tensor_copy(t(c, shape=(1, 32)), t(c, shape=(1, 3, 3, 3, 4))[:, :2, :2, :2, ::1])),
    ("uninitialized-read", lambda c: nisa.tensor_copy(t(c), empty(c, (4, 8))),
     lambda c: nisa.tensor_copy(empty(c, (4, 8)), t(c))),
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


@pytest.mark.parametrize(
    "refused",
    [
        lambda c: nisa.tensor_copy(t(c), t(c), SCALAR),
        lambda c: nisa.tensor_scalar(t(c), t(c), "add", 1.0, engine=SCALAR),
    ],
)
def test_the_scalar_engine_of_the_first_generation_neither_copies_nor_applies_operators(refused: Call) -> None:
    with core("trn1") as c, pytest.raises(KernelRefused) as err:
        refused(c)
    assert err.value.rule.name == "generation"
    assert "trn2" in str(err.value)
    with core("trn2") as c:
        refused(c)


def test_messages_name_the_tensor_the_rule_and_the_line() -> None:
    with core() as c, pytest.raises(KernelRefused) as err:
        nisa.tensor_tensor(t(c), t(c), t(c, shape=(4, 1)), "add")
    text = str(err.value)
    for part in (
        "[operand-broadcast]",
        "data2",
        "[4, 1] float32 in sbuf",
        "test_elementwise_rules.py",
        "tensor_scalar",
    ):
        assert part in text


def test_a_relaxed_broadcast_computes_as_numpy_does() -> None:
    values, column, row = np.arange(12.0).reshape(3, 4), np.float32([[1], [2], [3]]), np.float32([[5, 6, 7, 8]])
    with core(relaxed={"operand-broadcast"}) as c:
        data, dst = put(c, values, "float32"), empty(c, (3, 4), "bfloat16")
        for other in (column, row):
            operand = put(c, other)
            with pytest.warns(KernelWarning, match="operand-broadcast"):
                nisa.tensor_tensor(dst, data, operand, "multiply")
            assert np.array_equal(get(c, dst).astype(np.float64), (values * other).astype(get(c, dst).dtype))
        narrow = put(c, column)
        with pytest.warns(KernelWarning, match="operand-broadcast"):
            nisa.tensor_tensor(dst, narrow, narrow, "add")
        assert np.array_equal(get(c, dst).astype(np.float32), np.repeat(column * 2, 4, axis=1))


def test_verdicts_are_not_mixed_up_between_signatures() -> None:
    with core() as c:
        nisa.tensor_scalar(t(c), t(c), "add", 1.0)
        nisa.tensor_scalar(t(c), t(c), "add", 2)
        with pytest.raises(KernelRefused):
            nisa.tensor_scalar(t(c), t(c), "add", None)
        nisa.tensor_scalar(t(c), t(c), "add", t(c, shape=(4, 1)))
        with pytest.raises(KernelRefused):
            nisa.tensor_scalar(t(c), t(c), "add", t(c, "float16", shape=(4, 1)))
        assert [each.params["operand0"] for each in c.trace] == ["constant", "constant", "vector"]
