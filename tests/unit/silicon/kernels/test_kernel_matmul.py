"""The blocked matrix product against float64, over shapes, types and chips."""

from __future__ import annotations

import numpy as np
import pytest

from outcrop.silicon import kernels
from outcrop.silicon.kernels.base import Values
from outcrop.silicon.kernels.matmul import MatmulTuning

SHAPES = [(1, 1, 1), (128, 128, 512), (77, 130, 33), (260, 129, 513), (5, 700, 1030)]


def check(name: str, sizes: dict[str, int], dtype: str, target: str, tuning: MatmulTuning | None) -> None:
    case = kernels.find(name)
    args = case.inputs(sizes, dtype, Values(sum(sizes.values())))
    run = case.run(args, target, tuning)
    assert run.warnings == ()
    case.check(run.result, case.reference(*args), dtype)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_product(m: int, k: int, n: int, dtype: str, target: str) -> None:
    check("matmul", {"M": m, "K": k, "N": n}, dtype, target, MatmulTuning())


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("t", "d", "f"), [(1, 2, 3), (130, 260, 140), (600, 128, 1100)])
def test_swiglu(t: int, d: int, f: int, dtype: str, target: str) -> None:
    check("swiglu", {"T": t, "D": d, "F": f}, dtype, target, None)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("t", "d", "f"), [(1, 2, 3), (130, 160, 140), (530, 128, 600)])
def test_swiglu_backward(t: int, d: int, f: int, dtype: str, target: str) -> None:
    check("swiglu_backward", {"T": t, "D": d, "F": f}, dtype, target, None)


def test_swiglu_backward_is_the_gradient_of_swiglu() -> None:
    forward, backward = kernels.find("swiglu"), kernels.find("swiglu_backward")
    *layer, grad = backward.inputs({"T": 2, "D": 3, "F": 4}, "fp32", Values(1))
    gradients = backward.run((*layer, grad)).result
    for which, gradient in enumerate(gradients):
        for at in np.ndindex(*gradient.shape):
            sums = []
            for step in (1e-5, -1e-5):
                moved = [np.array(each, np.float64) for each in layer]
                moved[which][at] += step
                sums.append((forward.reference(*moved) * grad).sum())
            assert abs(gradient[at] - (sums[0] - sums[1]) / 2e-5) < 1e-4


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 2, 3), (300, 260, 520)])
def test_product_over_ranks(m: int, k: int, n: int, dtype: str, target: str) -> None:
    case = kernels.find("reduced_matmul")
    args = case.inputs({"M": m, "K": k, "N": n}, dtype, Values(4))
    run = case.run(args, target)
    for result in run.results:
        case.check(result, case.reference(*args), dtype)


@pytest.mark.parametrize("k", [128, 256, 640, 300])
def test_double_rows(k: int) -> None:
    check("matmul_double_row", {"M": 160, "K": k, "N": 520}, "fp8", "trn2", MatmulTuning())


@pytest.mark.parametrize(
    "tuning",
    [MatmulTuning(128, 512, 1, 1), MatmulTuning(256, 512, 8, 2), MatmulTuning(2048, 2048, 2, 8)],
)
def test_choices_change_no_value(tuning: MatmulTuning | None) -> None:
    check("matmul", {"M": 300, "K": 520, "N": 1100}, "bf16", "trn2", tuning)
