"""Kernels bound by memory against their float64 references, and gradients against finite differences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from outcrop.silicon import kernels
from outcrop.silicon.kernels.base import Values

SIZES = {
    "adamw": [{"N": 1}, {"N": 128}, {"N": 40_037}],
    "quantise_int8": [{"T": 1, "D": 1}, {"T": 130, "D": 333}],
    "quantise_fp8": [{"T": 1, "D": 2}, {"T": 130, "D": 333}],
    "embedding": [{"V": 1, "D": 2, "T": 1}, {"V": 50, "D": 33, "T": 300}],
    "embedding_gradient": [{"V": 1, "D": 2, "T": 5}, {"V": 50, "D": 700, "T": 300}, {"V": 4000, "D": 8, "T": 257}],
    "cross_entropy": [{"T": 1, "V": 2}, {"T": 130, "V": 5001}, {"T": 3, "V": 9000}],
    "cross_entropy_backward": [{"T": 1, "V": 2}, {"T": 130, "V": 5001}, {"T": 3, "V": 9000}],
}
NAMED = [(name, sizes) for name, many in SIZES.items() for sizes in many]


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "sizes"), NAMED)
def test_values(name, sizes, dtype, target):
    case = kernels.find(name)
    args = case.inputs(sizes, dtype, Values(7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = case.run(args, target)
    case.check(run.result, case.reference(*args, **case.options), dtype)


@pytest.mark.parametrize("name", list(SIZES))
def test_choices_change_no_value(name):
    case = kernels.find(name)
    args = case.inputs(case.small, "fp32", Values(3))
    expected = case.reference(*args, **case.options)
    for tuning in case.tuning.variants():
        case.check(case.run(args, "trn2", tuning).result, expected, "fp32")


def test_quantise_a_row_of_zeros():
    quantised, scales = kernels.find("quantise_int8").run((np.zeros((3, 8), np.float32),)).result
    assert not quantised.any()
    assert (scales > 0).all()


def test_adamw_without_gradient_only_decays():
    zeros = np.zeros(300, np.float32)
    ones = np.ones(300, np.float32)
    new_p, new_m, new_v = kernels.find("adamw").run((ones, zeros, zeros, zeros)).result
    np.testing.assert_allclose(new_p, 1 - 1e-4, rtol=1e-6)
    assert not new_m.any()
    assert not new_v.any()


def test_gradient_of_cross_entropy_is_that_of_the_losses():
    case = kernels.find("cross_entropy")
    logits, targets = case.inputs({"T": 4, "V": 11}, "fp32", Values(2))
    logs = case.run((logits, targets)).result[1]
    gradient = kernels.find("cross_entropy_backward").kernel.run(logits, targets, logs, scale=0.5).result
    step = 1e-5
    for row, column in np.ndindex(*logits.shape):
        moved = [logits.astype(np.float64), logits.astype(np.float64)]
        moved[0][row, column] += step
        moved[1][row, column] -= step
        up, down = (case.reference(each, targets)[0].sum() for each in moved)
        assert abs(gradient[row, column] - 0.5 * (up - down) / (2 * step)) < 1e-5
