"""Brackets on tensors and tiles: what is read and written, against NumPy's indexing of the same arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import legacy

_MODULES = legacy.modules()
nki: Any = _MODULES["neuronxcc.nki"]
nl: Any = _MODULES["neuronxcc.nki.language"]
nisa: Any = _MODULES["neuronxcc.nki.isa"]


def run(kernel: Callable[..., Any], *args: Any) -> Any:
    return nki.simulate_kernel(kernel, *args)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def out_of(tile: Any) -> Any:
    made = nl.ndarray(tile.shape, dtype=tile.dtype, buffer=nl.shared_hbm)
    nl.store(made, tile)
    return made


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(0, 5))
def test_affine_load(rows: int, columns: int, step_p: int, step_f: int, start_p: int, start_f: int) -> None:
    a = floats(32, 40)

    def kernel(x: Any) -> Any:
        i, j = nl.mgrid[0:rows, 0:columns]
        return out_of(nl.load(x[start_p + i * step_p, start_f + step_f * j]))

    i, j = np.mgrid[0:rows, 0:columns]
    assert np.array_equal(run(kernel, a), a[start_p + i * step_p, start_f + step_f * j])


def test_windows_overlap_on_chip() -> None:
    a = floats(16, 6, 10)

    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        p, h, w, kh, kw = nl.mgrid[0:16, 0:4, 0:4, 0:3, 0:3]
        return out_of(nl.max(tile[p, h + kh, 2 * w + kw], axis=[3, 4]))

    p, h, w, kh, kw = np.mgrid[0:16, 0:4, 0:4, 0:3, 0:3]
    assert np.array_equal(run(kernel, a), a[p, h + kh, 2 * w + kw].max(axis=(3, 4)))


def test_reduced_dimensions_need_not_be_last() -> None:
    a = floats(8, 4, 3, 5)

    def kernel(x: Any) -> Any:
        return out_of(nl.sum(nl.load(x), axis=[1, 3])), out_of(nl.max(nl.load(x), axis=-1, keepdims=True))

    total, top = run(kernel, a)
    np.testing.assert_allclose(total, a.astype(np.float64).sum(axis=(1, 3)), rtol=1e-5, atol=1e-5)
    assert np.array_equal(top, a.max(axis=-1, keepdims=True))


def test_indices_that_are_not_affine() -> None:
    a = floats(16, 24)

    def kernel(x: Any) -> Any:
        i, j = nl.mgrid[0:16, 0:24]
        return out_of(nl.load(x[i // 2, (j * 5) % 24]))

    i, j = np.mgrid[0:16, 0:24]
    assert np.array_equal(run(kernel, a), a[i // 2, (j * 5) % 24])


def test_views_of_views() -> None:
    a = floats(4, 16, 24)

    def kernel(x: Any) -> Any:
        block = x[2]
        part = nl.load(block[:, 4:20])
        j = nl.arange(8)[None, :]
        p = nl.arange(16)[:, None]
        return out_of(nl.copy(part[p, 2 * j + 1][:, 2:6]))

    assert np.array_equal(run(kernel, a), a[2][:, 4:20][:, 1::2][:, 2:6])


def test_block_dimensions() -> None:
    a = floats(3, 2, 16, 8)

    def kernel(x: Any) -> Any:
        tile = nl.ndarray((3, 2, nl.par_dim(16), 8), dtype=x.dtype)
        for b in nl.affine_range(3):
            for c in nl.affine_range(2):
                tile[b, c] = nl.load(x[b, c])
        p, f = nl.mgrid[0:16, 0:8]
        tile[1, 1, p, f] = nl.multiply(tile[1, 1, p, f], 2.0)
        made = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nl.store(made, tile)
        return made

    wanted = a.copy()
    wanted[1, 1] *= 2
    assert np.array_equal(run(kernel, a), wanted)


def test_one_element_of_a_dimension_keeps_two() -> None:
    a = floats(16, 6)

    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        assert tile[:, 2].shape == (16, 1)
        assert tile[0, nl.arange(6)[None, :]].shape == (1, 6)
        return out_of(tile - tile[:, 2])

    assert np.array_equal(run(kernel, a), a - a[:, 2:3])


def test_a_mask_leaves_out_what_lies_outside() -> None:
    a = floats(100, 50)

    def kernel(x: Any) -> Any:
        made = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        i, j = nl.mgrid[0:64, 0:64]
        for t in nl.affine_range(2):
            inside = (t * 64 + i < 100) & (j < 50)
            tile = nl.load(x[t * 64 + i, j], mask=inside)
            nl.store(made[t * 64 + i, j], nl.exp(tile, mask=inside), mask=inside)
        return made

    np.testing.assert_allclose(run(kernel, a), np.exp(a.astype(np.float64)), rtol=1e-6)


def test_a_mask_that_is_no_box() -> None:
    a = floats(16, 16)

    def kernel(x: Any) -> Any:
        i, j = nl.mgrid[0:16, 0:16]
        tile = nl.zeros((16, 16), dtype=x.dtype)
        tile[i, j] = nl.load(x[i, j], mask=j <= i)
        return out_of(tile)

    assert np.array_equal(run(kernel, a), np.tril(a))


def test_words_in_masks_mean_operators() -> None:
    a = floats(16, 16)

    def kernel(x: Any) -> Any:
        i, j = nl.mgrid[0:16, 0:16]
        tile = nl.zeros((16, 16), dtype=x.dtype)
        tile[i, j] = nl.load(x[i, j], mask=(i < 5 and not j < 3))
        return out_of(tile)

    wanted = np.zeros_like(a)
    wanted[:5, 3:] = a[:5, 3:]
    assert np.array_equal(run(kernel, a), wanted)


def test_gather_and_scatter() -> None:
    a = floats(32, 8)
    rows = np.random.default_rng(3).permutation(32)[:16].astype(np.int32)

    def kernel(x: Any, index: Any) -> Any:
        p, f = nl.arange(16)[:, None], nl.arange(8)[None, :]
        picks = nl.load(index[p])
        made = nl.zeros((32, 8), dtype=x.dtype, buffer=nl.shared_hbm)
        nl.store(made[picks[p, 0], f], nl.load(x[picks, f]) + 1.0)
        return made

    wanted = np.zeros_like(a)
    wanted[rows] = a[rows] + 1
    assert np.array_equal(run(kernel, a, rows), wanted)


def test_run_time_indices_outside_are_an_index_error() -> None:
    a, rows = floats(32, 8), np.array([0, 40, 2, 3], np.int32)

    def kernel(x: Any, index: Any) -> Any:
        p, f = nl.arange(4)[:, None], nl.arange(8)[None, :]
        return out_of(nl.load(x[nl.load(index[p]), f]))

    with pytest.raises(IndexError, match="index 320 is out of bounds for axis 0 with size 256") as err:
        run(kernel, a, rows)
    assert isinstance(err.value.__cause__, KernelRefused)
    assert err.value.__cause__.rule.name == "out-of-bounds"


@pytest.mark.parametrize(
    ("kernel", "rule"),
    [
        (lambda x: nl.load(x[nl.arange(40)[:, None], nl.arange(8)[None, :]]), "out-of-bounds"),
        (lambda x: nl.load(x[0:40]), "out-of-bounds"),
        (lambda x: nl.load(x)[nl.arange(8)[None, :], nl.arange(4)[:, None]] + 1, "partition-step"),
        (lambda x: nl.exp(nl.ndarray((8, 8), dtype=nl.float32)), "uninitialized-read"),
        (lambda x: nl.load(nl.load(x)), "operand-memory"),
        (lambda x: nl.load(x)["a"], "parameter"),
        (lambda x: nl.load(x)[0, 0, 0], "out-of-bounds"),
        (lambda x: nl.load(x, mask=nl.arange(7)[:, None] < 2), "operand-shape"),
    ],
)
def test_refused(kernel: Callable[[Any], Any], rule: str) -> None:
    with pytest.raises(KernelRefused) as err:
        run(kernel, floats(32, 8))
    assert err.value.rule.name == rule
