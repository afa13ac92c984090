"""The layer of experts against float64: routing, lists that fill up, types and chips."""

from __future__ import annotations

import numpy as np
import pytest

from outcrop.silicon import kernels
from outcrop.silicon.kernels.base import Values

CASE = kernels.find("experts")


def check(sizes, dtype, target, best, capacity, tuning=None):
    args = CASE.inputs(sizes, dtype, Values(11))
    options = {} if tuning is None else {"tuning": tuning}
    run = CASE.kernel.with_settings(target=target).run(*args, best=best, capacity=capacity, **options)
    expected = CASE.reference(*args, best=best, capacity=capacity)
    CASE.check(run.result, expected, dtype)
    return expected


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("sizes", "best", "capacity"),
    [
        ({"T": 1, "D": 2, "E": 1, "F": 3}, 1, 1),
        ({"T": 140, "D": 160, "E": 9, "F": 130}, 2, 64),
        ({"T": 260, "D": 40, "E": 4, "F": 20}, 3, 260),
    ],
)
def test_values(sizes, best, capacity, dtype, target):
    check(sizes, dtype, target, best, capacity)


def test_full_lists_drop_later_tokens():
    sizes = {"T": 200, "D": 16, "E": 8, "F": 8}
    dropped = check(sizes, "fp32", "trn2", 1, 3)
    assert (np.abs(dropped).sum(axis=1) == 0).sum() >= 200 - 8 * 3


def test_choices_change_no_value():
    for tuning in CASE.tuning.variants():
        check({"T": 30, "D": 140, "E": 4, "F": 140}, "fp32", "trn2", 2, 16, tuning)
