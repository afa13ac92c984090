"""bn_stats and bn_aggr against float64 statistics, and the rules they keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa

Array = np.ndarray[Any, Any]


def values(*shape: int, mean: float = 0.0) -> Array:
    return (np.random.default_rng(sum(shape)).normal(size=shape) + mean).astype(np.float32)


def triples(x: Array) -> Array:
    """Independent: one triple for the even and one for the odd places, in float64."""
    made = []
    for half in (x[:, ::2].astype(np.float64), x[:, 1::2].astype(np.float64)):
        count = half.shape[1]
        made += (
            [np.full(len(x), count), half.mean(axis=1), half.var(axis=1) * count] if count else [np.zeros(len(x))] * 3
        )
    return np.stack(made, axis=1)


def refused(rule: str, call: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(KernelRefused) as err:
        call(*args)
    assert err.value.rule.name == rule


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(("partitions", "columns"), [(128, 512), (128, 511), (1, 1), (33, 2), (5, 3)])
def test_six_results(target: str, partitions: int, columns: int) -> None:
    x = values(partitions, columns, mean=3)
    with core(target) as on:
        dst = empty(on, (partitions, 6))
        made = nisa.bn_stats(dst, put(on, x))
        assert np.allclose(get(on, dst), triples(x), rtol=2e-6, atol=1e-5)
        assert np.array_equal(get(on, dst)[0, ::3], [(columns + 1) // 2, columns // 2])
        assert (made.op, made.engine) == ("bn_stats", Engine.vector)


def test_places_are_counted_over_all_free_dimensions() -> None:
    x = values(4, 3, 5)
    with core() as on:
        dst, strided = empty(on, (4, 2, 3)), empty(on, (4, 6))
        nisa.bn_stats(dst, put(on, x))
        assert np.allclose(get(on, dst).reshape(4, 6), triples(x.reshape(4, 15)), atol=1e-5)
        nisa.bn_stats(strided, put(on, values(4, 20), region="psum")[:, ::3])
        assert np.allclose(get(on, strided), triples(values(4, 20)[:, ::3]), atol=1e-5)


@given(
    pieces=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    rows=st.integers(1, 32),
    mean=st.sampled_from([0.0, 10.0, -100.0]),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_mean_and_variance_of_a_row_in_pieces(pieces: list[int], rows: int, mean: float, dtype: str) -> None:
    with core() as on:
        data = put(on, values(rows, sum(pieces), mean=mean), dtype)
        stats, dst = empty(on, (rows, len(pieces) * 6)), empty(on, (rows, 2))
        start = 0
        for at, size in enumerate(pieces):
            nisa.bn_stats(stats[:, 6 * at : 6 * at + 6], data[:, start : start + size])
            start += size
        nisa.bn_aggr(dst, stats)
        x = get(on, data).astype(np.float64)
        assert np.allclose(get(on, dst)[:, 0], x.mean(axis=1), rtol=1e-6, atol=1e-6)
        assert np.allclose(get(on, dst)[:, 1], x.var(axis=1), rtol=1e-4, atol=1e-5)


def test_large_mean_keeps_a_small_variance() -> None:
    x = (1000 + np.tile([0.0, 0.25, 0.5, 0.75], (8, 64))).astype(np.float32)
    with core() as on:
        stats, dst = empty(on, (8, 6)), empty(on, (8, 2))
        nisa.bn_stats(stats, put(on, x))
        nisa.bn_aggr(dst, stats)
        assert np.allclose(get(on, dst), [1000.375, x[0].var(dtype=np.float64)], rtol=1e-6)


def test_results_are_rounded_to_dst() -> None:
    with core() as on:
        exact, low = empty(on, (8, 6)), empty(on, (8, 6), "bfloat16")
        data = put(on, values(8, 50))
        nisa.bn_stats(exact, data)
        nisa.bn_stats(low, data)
        assert np.array_equal(get(on, low), get(on, exact).astype(get(on, low).dtype))


def test_single_triples_and_empty_ones() -> None:
    given_triples = np.array([[4, 2.0, 8.0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], np.float32)
    with core() as on:
        stats, dst = put(on, given_triples), empty(on, (2, 2))
        nisa.bn_aggr(dst, stats)
        assert get(on, dst)[0].tolist() == [2.0, 2.0]
        assert np.isnan(get(on, dst)[1]).all()
        nisa.bn_aggr(dst[:1], stats[:1, :3])
        assert get(on, dst)[0].tolist() == [2.0, 2.0]


def test_rules() -> None:
    with core() as on:
        dst, data = empty(on, (8, 6)), put(on, values(8, 513))
        refused("bn-stats-size", nisa.bn_stats, dst, data)
        refused("operand-shape", nisa.bn_stats, empty(on, (8, 5)), data[:, :9])
        refused("operand-shape", nisa.bn_stats, empty(on, (4, 6)), data[:, :9])
        refused("operand-shape", nisa.bn_aggr, empty(on, (8, 2)), data[:, :10])
        refused("operand-shape", nisa.bn_aggr, empty(on, (8, 3)), data[:, :9])
        refused("operand-memory", nisa.bn_stats, dst, empty(on, (8, 9), region="private_hbm"))
        refused("operand-dtype", nisa.bn_stats, dst, empty(on, (8, 9), "float8_e5m2_x4"))
        refused("uninitialized-read", nisa.bn_stats, dst, empty(on, (8, 9)))
        refused("uninitialized-read", nisa.bn_aggr, empty(on, (8, 2)), dst)
        assert on.trace == []


def test_a_relaxed_size_is_computed() -> None:
    x = values(8, 600)
    with core(relaxed={"bn-stats-size"}) as on:
        dst = empty(on, (8, 6))
        with pytest.warns(UserWarning, match="bn-stats-size"):
            nisa.bn_stats(dst, put(on, x))
        assert np.allclose(get(on, dst), triples(x), atol=1e-4)
