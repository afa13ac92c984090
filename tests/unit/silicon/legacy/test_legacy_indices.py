"""Index expressions and masks against NumPy's own arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki.legacy.indices import Index, arange, box_of, mgrid
from outcrop.silicon.nki.legacy.regions import region_of

_SMALL = st.integers(-7, 7)


def test_arange_and_brackets() -> None:
    i, j = arange(3, 9)[:, None], arange(4)[None, :]
    assert i.shape == (6, 1)
    assert j.shape == (1, 4)
    assert np.array_equal((i * 4 + j).values(), np.arange(3, 9)[:, None] * 4 + np.arange(4)[None, :])
    assert np.array_equal(arange(0, 10, 3).values(), np.arange(0, 10, 3))


def test_mgrid_spans_by_name() -> None:
    grid = mgrid[0:3, 1:5, 0:2, 0:7]
    reference = np.mgrid[0:3, 1:5, 0:2, 0:7]
    total = grid.p * 1000 + grid.x * 100 + grid.y * 10 + grid.z
    assert np.array_equal(total.values(), reference[0] * 1000 + reference[1] * 100 + reference[2] * 10 + reference[3])
    assert len(grid) == 4


@settings(max_examples=60, derandomize=True, deadline=None)
@given(_SMALL, _SMALL, _SMALL, st.integers(1, 5), st.integers(1, 6), st.sampled_from("+-*/%"))
def test_arithmetic_is_numpys(a: int, b: int, c: int, rows: int, columns: int, op: str) -> None:
    i, j = arange(rows)[:, None], arange(columns)[None, :]
    x, y = np.arange(rows)[:, None], np.arange(columns)[None, :]
    one, two = a * i + b, c - j * b
    first, second = a * x + b, c - y * b
    if op == "+":
        made, wanted = one + two, first + second
    elif op == "-":
        made, wanted = one - two, first - second
    elif op == "*":
        made, wanted = one * two, first * second
    else:
        made, wanted = (one // 3, first // 3) if op == "/" else (one % 3, first % 3)
    wanted = np.broadcast_to(wanted, made.shape)
    assert np.array_equal(np.broadcast_to(made.values(), made.shape), wanted)
    assert made.bounds()[0] <= wanted.min()
    assert made.bounds()[1] >= wanted.max()


def test_sums_stay_affine_and_quotients_do_not() -> None:
    i, j = arange(128)[:, None], arange(512)[None, :]
    assert (3 * i + j * 2 - 5).listed is None
    assert (i // 2).listed is not None
    assert (i * j).listed is not None


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), _SMALL, _SMALL, st.booleans())
def test_masks_are_numpys(rows: int, columns: int, a: int, b: int, both: bool) -> None:
    i, j = arange(rows)[:, None], arange(columns)[None, :]
    x, y = np.arange(rows)[:, None], np.arange(columns)[None, :]
    made = (i < a) & (j >= b) if both else (i < a) | ~(i + j != b)
    wanted = (x < a) & (y >= b) if both else (x < a) | ~(x + y != b)
    wanted = np.broadcast_to(wanted, (rows, columns))
    assert np.array_equal(np.broadcast_to(made.values(), made.shape), np.broadcast_to(wanted, made.shape))
    region = region_of(made, (rows, columns))
    if region is None:
        assert wanted.all()
    elif region.box is not None:
        (r0, r1), (c0, c1) = region.box.ranges
        inside = np.zeros((rows, columns), np.bool_)
        inside[r0:r1, c0:c1] = True
        assert np.array_equal(inside, wanted)
    else:
        assert np.array_equal(np.broadcast_to(region.truth, wanted.shape), wanted)


def test_box_of_a_diagonal_is_none() -> None:
    assert box_of(np.tri(4, dtype=np.bool_), (4, 4)) is None
    made = box_of(np.array([[False], [True], [True], [False]]), (4, 9))
    assert made is not None
    assert made.ranges == ((1, 3), (0, 9))


def test_a_predicate_is_no_truth_value() -> None:
    with pytest.raises(KernelRefused) as err:
        bool(arange(4) < 2)
    assert err.value.rule.name == "parameter"
    assert "&" in str(err.value)


def test_wrong_brackets_are_refused() -> None:
    with pytest.raises(KernelRefused) as err:
        arange(4)[0]
    assert err.value.rule.name == "parameter"
    with pytest.raises(KernelRefused):
        arange(0)


def test_index_expressions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(KernelRefused) as err:
        arange(4) + arange(5)
    assert err.value.rule.name == "operand-shape"


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(KernelRefused) as err:
        region_of(arange(7)[:, None] + arange(3)[None, :] < 5, (4, 3))
    assert err.value.rule.name == "operand-shape"
    with pytest.raises(KernelRefused):
        region_of(3, (4, 3))
    assert isinstance(arange(3), Index)
