"""Kernels over rows against their float64 references: odd shapes, types, chips and choices."""

from __future__ import annotations

import warnings

import pytest

from outcrop.silicon import kernels
from outcrop.silicon.kernels.base import Values

TARGETS = ["trn1", "trn2", "trn3"]
SIZES = {
    "softmax": [{"T": 1, "N": 1}, {"T": 130, "N": 700}, {"T": 127, "N": 33}],
    "rms_norm": [{"T": 1, "D": 2}, {"T": 130, "D": 700}, {"T": 127, "D": 33}],
    "layer_norm": [{"T": 1, "D": 8}, {"T": 130, "D": 1100}, {"T": 127, "D": 33}],
    "rope": [{"T": 1, "H": 1, "d": 2}, {"T": 130, "H": 40, "d": 64}, {"T": 257, "H": 3, "d": 10}],
}
NAMED = [(name, sizes) for name, many in SIZES.items() for sizes in many]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "sizes"), NAMED)
def test_values(name: str, sizes: dict[str, int], dtype: str, target: str) -> None:
    case = kernels.find(name)
    args = case.inputs(sizes, dtype, Values(7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = case.run(args, target)
    assert run.warnings == ()
    case.check(run.result, case.reference(*args), dtype)


@pytest.mark.parametrize("name", list(SIZES))
def test_choices_change_no_value(name: str) -> None:
    case = kernels.find(name)
    args = case.inputs(case.small, "fp32", Values(3))
    for tuning in case.tuning.variants():
        case.check(case.run(args, "trn2", tuning).result, case.reference(*args), "fp32")


def test_softmax_is_safe_for_large_values() -> None:
    case = kernels.find("softmax")
    args = (case.inputs({"T": 5, "N": 40}, "fp32", Values(1))[0] * 1000,)
    case.check(case.run(args).result, case.reference(*args), "fp32")


def test_layer_norm_of_a_large_mean() -> None:
    case = kernels.find("layer_norm")
    x, weight, bias = case.inputs({"T": 5, "D": 600}, "fp32", Values(1))
    args = (x + 1000, weight, bias)
    got = case.run(args).result
    assert abs(got - case.reference(*args)).max() < 1e-3
