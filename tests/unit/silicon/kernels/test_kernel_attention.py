"""Attention forward against float64: masks, groups, odd lengths, types and chips."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from outcrop.silicon import kernels
from outcrop.silicon.kernels.base import Values

NAMES = ["attention", "attention_online"]
SIZES = [
    {"H": 1, "G": 1, "T": 1, "d": 4},
    {"H": 2, "G": 1, "T": 130, "d": 16},
    {"H": 1, "G": 1, "T": 700, "d": 128},
    {"H": 1, "G": 1, "T": 357, "d": 7},
]
MASKS = [(True, 0), (False, 0), (True, 1), (True, 40), (True, 128), (True, 300)]


def check(name, sizes, dtype, target, causal=True, window=0, **options):
    case = kernels.find(name)
    args = case.inputs(sizes, dtype, Values(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = case.kernel.with_settings(target=target).run(*args, causal=causal, window=window, **options)
    case.check(run.result, case.reference(*args, causal=causal, window=window), dtype)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_values(name, sizes, dtype, target):
    check(name, sizes, dtype, target)


@pytest.mark.parametrize(("causal", "window"), MASKS)
@pytest.mark.parametrize("name", NAMES)
def test_masks(name, causal, window):
    check(name, {"H": 1, "G": 1, "T": 650, "d": 32}, "fp32", "trn2", causal, window)


@pytest.mark.parametrize("name", NAMES)
def test_choices_change_no_value(name):
    for tuning in kernels.find(name).tuning.variants():
        check(name, {"H": 1, "G": 1, "T": 530, "d": 8}, "bf16", "trn2", tuning=tuning)


def test_online_takes_scores_of_any_size():
    case = kernels.find("attention_online")
    q, k, v = case.inputs({"H": 1, "G": 1, "T": 300, "d": 16}, "fp32", Values(5))
    args = (q * 100, k * 100, v)
    got, logs = case.kernel.run(*args).result
    expected, expected_logs = case.reference(*args)
    assert abs(got - expected).max() < 2e-3  # scores in the thousands keep 13 bits behind the point
    assert abs(logs / expected_logs - 1).max() < 1e-5


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"B": 1, "H": 1, "G": 1, "T": 128, "d": 8, "page": 32},
        {"B": 3, "H": 6, "G": 3, "T": 640, "d": 32, "page": 4},
        {"B": 2, "H": 32, "G": 8, "T": 256, "d": 128, "page": 1},
        {"B": 1, "H": 97, "G": 1, "T": 99, "d": 5, "page": 9},
    ],
)
def test_decode(sizes, dtype, target):
    case = kernels.find("decode_attention")
    args = case.inputs(sizes, dtype, Values(5))
    case.check(case.run(args, target).result, case.reference(*args), dtype)


def test_decode_choices_change_no_value():
    case = kernels.find("decode_attention")
    args = case.inputs(case.small, "fp32", Values(6))
    for tuning in case.tuning.variants():
        case.check(case.run(args, "trn2", tuning).result, case.reference(*args), "fp32")


def check_backward(sizes, dtype, target, causal=True, window=0, **options):
    case, forward = kernels.find("attention_backward"), kernels.find("attention")
    q, k, v, _, _, grad = case.inputs(sizes, dtype, Values(5))
    out, logs = forward.reference(q, k, v, causal=causal, window=window)
    args = (q, k, v, out.astype(q.dtype), logs.astype("float32"), grad)
    run = case.kernel.with_settings(target=target).run(*args, causal=causal, window=window, **options)
    case.check(run.result, case.reference(*args, causal=causal, window=window), dtype)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("sizes", SIZES)
def test_backward(sizes, dtype, target):
    check_backward(sizes, dtype, target)


@pytest.mark.parametrize(("causal", "window"), MASKS)
def test_backward_masks(causal, window):
    check_backward({"H": 1, "G": 1, "T": 650, "d": 32}, "fp32", "trn2", causal, window)


def test_backward_choices_change_no_value():
    for tuning in kernels.find("attention_backward").tuning.variants():
        check_backward({"H": 1, "G": 1, "T": 530, "d": 8}, "fp32", "trn2", tuning=tuning)


def test_backward_is_the_gradient_of_attention():
    case, forward = kernels.find("attention_backward"), kernels.find("attention")
    args = case.inputs({"H": 2, "G": 1, "T": 5, "d": 3}, "fp32", Values(8))
    gradients, grad = case.run(args).result, args[5]
    for which, gradient in enumerate(gradients):
        for at in np.ndindex(*gradient.shape):
            sums = []
            for step in (1e-5, -1e-5):
                moved = [np.array(each, np.float64) for each in args[:3]]
                moved[which][at] += step
                sums.append((forward.reference(*moved)[0] * grad).sum())
            assert abs(gradient[at] - (sums[0] - sums[1]) / 2e-5) < 1e-4
