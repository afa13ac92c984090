"""``neuronxcc.nki.isa`` against NumPy: each instruction returns, or fills, what the older reference describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import legacy

_MODULES = legacy.modules()
nki: Any = _MODULES["neuronxcc.nki"]
nl: Any = _MODULES["neuronxcc.nki.language"]
nisa: Any = _MODULES["neuronxcc.nki.isa"]
Arrays = np.ndarray[Any, Any]


def floats(*shape: int) -> Arrays:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def run(function: Callable[..., Any], *arrays: Any) -> Any:
    """Load every array, apply ``function`` to the tiles, store what it returns."""

    def kernel(*given: Any) -> Any:
        made = function(*(nl.load(each) for each in given))
        outs = []
        for tile in made if isinstance(made, tuple) else (made,):
            out = nl.ndarray(tile.shape, dtype=tile.dtype, buffer=nl.shared_hbm)
            nl.store(out, tile)
            outs.append(out)
        return tuple(outs) if len(outs) > 1 else outs[0]

    return nki.simulate_kernel(kernel, *arrays)


A, B, V = floats(32, 48), floats(32, 49)[:, :48].copy(), floats(32, 1)


def test_activation_reduces_into_a_column() -> None:
    def function(a: Any, v: Any) -> Any:
        sums = nl.ndarray((32, 3), dtype=nl.float32)
        made = nisa.activation_reduce(nl.exp, a, reduce_op=np.add, reduce_res=sums[:, 1], bias=v, scale=0.5)
        return made, nl.copy(sums[:, 1])

    made, sums = run(function, A, V)
    wanted = np.exp(A.astype(np.float64) * 0.5 + V)
    np.testing.assert_allclose(made, wanted, rtol=2e-6)
    np.testing.assert_allclose(sums, wanted.sum(1, keepdims=True), rtol=2e-5)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda a, b, v: nisa.tensor_scalar(a, np.multiply, v, op1=np.add, operand1=2.0), A * V + 2),
        (lambda a, b, v: nisa.tensor_scalar(a, np.subtract, 1.0, True, nl.maximum, 0.5), np.maximum(1 - A, 0.5)),
        (lambda a, b, v: nisa.tensor_scalar(a, np.divide, v), A / V),
        (lambda a, b, v: nisa.tensor_scalar(a, np.divide, v, reverse0=True, op1=np.add, operand1=1.0), V / A + 1),
        (
            lambda a, b, v: nisa.scalar_tensor_tensor(data=a, op0=np.subtract, operand0=v, op1=np.multiply, operand1=b),
            (A - V) * B,
        ),
        (lambda a, b, v: nisa.tensor_tensor(a, b, op=nl.minimum), np.minimum(A, B)),
        (lambda a, b, v: nisa.tensor_copy(a, engine=nisa.gpsimd_engine), A),
        (lambda a, b, v: nisa.reciprocal(b + 4), 1 / (B + 4)),
        (lambda a, b, v: nisa.tensor_reduce(np.max, a, axis=[1], negate=True), -A.max(1, keepdims=True)),
        (lambda a, b, v: nisa.tensor_partition_reduce(np.add, a), A.astype(np.float64).sum(0, keepdims=True)),
        (lambda a, b, v: nisa.memset((32, 5), 0.25, nl.float32), np.full((32, 5), 0.25)),
        (lambda a, b, v: nisa.nc_transpose(a), A.T),
        (lambda a, b, v: nisa.nc_transpose(a[:, 0:7], engine=nisa.vector_engine), A[:, :7].T),
        (lambda a, b, v: nisa.dma_transpose(a), A.T),
        (lambda a, b, v: nisa.dma_transpose(a.reshape((32, 4, 12)), axes=(2, 1, 0)), A.reshape(32, 4, 12).T),
        (lambda a, b, v: nisa.nc_matmul(a, b), A.astype(np.float64).T @ B),
        (lambda a, b, v: nisa.max8(src=a), -np.sort(-A, axis=1)[:, :8]),
        (lambda a, b, v: nisa.nc_find_index8(data=a, vals=nisa.max8(src=a)), np.argsort(-A, axis=1)[:, :8]),
        (lambda a, b, v: nisa.dropout(a, 0.0), A),
        (lambda a, b, v: nisa.dropout(a, 1.0), A * 0),
        (lambda a, b, v: nl.matmul(a, nl.transpose(b)), A.astype(np.float64) @ B.T),
    ],
)
def test_returned(function: Callable[..., Any], wanted: Arrays) -> None:
    made = run(function, A, B, V)
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, rtol=2e-5, atol=2e-5)


def test_a_mask_cuts_vector_operands_too() -> None:
    def function(a: Any, v: Any) -> Any:
        i, j = nl.mgrid[0:32, 0:48]
        rows = i < 24
        one = nisa.tensor_scalar(a[i, j], np.multiply, v, mask=rows)
        two = nisa.activation(nl.copy, a[i, j], scale=v, mask=rows)
        return one, two

    one, two = run(function, A, V)
    wanted = A * V
    wanted[24:] = 0  # what a mask leaves out of a new tile
    assert np.array_equal(one, wanted)
    assert np.array_equal(two, wanted)


def test_scan_carries_on_from_a_column() -> None:
    def function(a: Any, b: Any) -> Any:
        made = nl.ndarray((32, 48), dtype=nl.float32)
        made[:, 0:24] = nisa.tensor_tensor_scan(a[:, 0:24], b[:, 0:24], 0.5, op0=np.multiply, op1=np.add)
        made[:, 24:48] = nisa.tensor_tensor_scan(a[:, 24:48], b[:, 24:48], made[:, 23], op0=np.multiply, op1=np.add)
        return made

    state, columns = np.full(32, 0.5), []
    for a, b in zip(A.astype(np.float64).T, B.astype(np.float64).T, strict=True):
        state = a * state + b
        columns.append(state)
    np.testing.assert_allclose(run(function, A, B), np.stack(columns, 1), rtol=2e-4, atol=2e-4)


def test_running_reductions() -> None:
    def function(a: Any) -> Any:
        made, sums = nl.ndarray((32, 48), dtype=nl.float32), nl.ndarray((32, 1), dtype=nl.float32)
        nisa.tensor_scalar_cumulative(src=a, dst=made, op0=np.multiply, op1=np.add, imm0=2.0)
        twice = nisa.tensor_scalar_reduce(data=a, op0=np.multiply, operand0=2.0, reduce_op=np.add, reduce_res=sums)
        return made, twice, sums

    made, twice, sums = run(function, A)
    np.testing.assert_allclose(made, np.cumsum(2 * A.astype(np.float64), axis=1), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(twice, 2 * A)
    np.testing.assert_allclose(sums, 2 * A.astype(np.float64).sum(1, keepdims=True), rtol=2e-5, atol=2e-5)


def test_statistics() -> None:
    mean_and_variance = run(lambda a: nisa.bn_aggr(nisa.bn_stats(a)), A)
    wanted = np.stack([A.astype(np.float64).mean(1), A.astype(np.float64).var(1)], 1)
    np.testing.assert_allclose(mean_and_variance, wanted, rtol=2e-5, atol=2e-6)


def test_match_replace_within_a_mask() -> None:
    def function(a: Any) -> Any:
        i, j = nl.mgrid[0:32, 0:48]
        inside = (i < 16) & (j < 20)
        found = nl.zeros((32, 8), dtype=nl.uint32)
        eight = nisa.max8(src=a[i, j], mask=inside)
        made = nisa.nc_match_replace8(data=a[i, j], vals=eight, imm=0.0, dst_idx=found[:, :], mask=inside)
        return made, found

    made, found = run(function, A)
    part = A[:16, :20]
    order = np.argsort(-part, axis=1)[:, :8]
    wanted = part.copy()
    np.put_along_axis(wanted, order, 0, axis=1)
    assert np.array_equal(made[:16, :20], wanted)
    assert np.array_equal(found[:16], order)


def test_index_generation_and_selection() -> None:
    def function(a: Any) -> Any:
        i, j = nl.mgrid[0:32, 0:48]
        numbers = nisa.iota(100 + 3 * i - 2 * j, dtype=nl.int32)
        odd = nisa.iota((i * j) // 3, dtype=nl.int32)
        lower = nisa.affine_select(pred=(2 * i >= j), on_true_tile=a, on_false_value=nl.fp32.min)
        both = nisa.affine_select(pred=(2 * i >= j) & (j > 3), on_true_tile=a, on_false_value=7.0)
        return numbers, odd, lower, both

    numbers, odd, lower, both = run(function, A)
    i, j = np.mgrid[0:32, 0:48]
    assert np.array_equal(numbers, 100 + 3 * i - 2 * j)
    assert np.array_equal(odd, i * j // 3)
    assert np.array_equal(lower, np.where(2 * i >= j, A, np.finfo(np.float32).min))
    assert np.array_equal(both, np.where((2 * i >= j) & (j > 3), A, 7))


def test_selections() -> None:
    truth = np.asarray(A > 0)

    def function(a: Any, b: Any, v: Any, t: Any) -> Any:
        copied = nl.copy(b)
        nisa.tensor_copy_predicated(src=a, dst=copied, predicate=t)
        chosen, top = nl.ndarray((32, 48), dtype=nl.float32), nl.ndarray((32, 1), dtype=nl.float32)
        nisa.select_reduce(
            dst=chosen, predicate=t, on_true=a, on_false=v, reduce_res=top, reduce_cmd=nisa.reduce_cmd.reset_reduce,
            reverse_pred=True,
        )  # fmt: skip
        low, high = nl.full((32, 1), 5, dtype=nl.float32), nl.full((32, 1), 30, dtype=nl.float32)
        between = nisa.range_select(
            on_true_tile=a, comp_op0=np.greater_equal, comp_op1=np.less, bound0=low, bound1=high, range_start=2,
            reduce_cmd=nisa.reduce_cmd.reset_reduce,
        )  # fmt: skip
        return copied, chosen, top, between

    copied, chosen, top, between = run(function, A, B, V, truth)
    assert np.array_equal(copied, np.where(truth, A, B))
    wanted = np.where(truth, V, A)
    assert np.array_equal(chosen, wanted)
    assert np.array_equal(top, wanted.max(1, keepdims=True))
    at = np.arange(48) + 2
    assert np.array_equal(between, np.where((at >= 5) & (at < 30), A, np.finfo(np.float32).min))


def test_moves_across_partitions_and_gathers() -> None:
    picks = np.random.default_rng(0).integers(0, 48, (32, 5)).astype(np.uint32)
    local = np.random.default_rng(1).integers(0, 48, (16, 2)).astype(np.uint16)
    indices = np.tile(local, (2, 1))

    def function(a: Any, p: Any, n: Any) -> Any:
        shuffled = nl.ndarray((32, 48), dtype=nl.float32)
        nisa.nc_stream_shuffle(src=a, dst=shuffled, shuffle_mask=[(i + 3) % 32 for i in range(32)])
        return shuffled, nl.gather_flattened(a, p), nisa.local_gather(a, n)

    shuffled, picked, gathered = run(function, A, picks, indices)
    assert np.array_equal(shuffled, np.roll(A, -3, axis=0))
    assert np.array_equal(picked, np.take_along_axis(A, picks.astype(np.int64), 1))
    assert np.array_equal(gathered.reshape(32, 32), A[:, local.flatten(order="F")])


def test_places_known_at_run_time() -> None:
    where = np.array([[7]], np.int32)

    def function(a: Any, at: Any) -> Any:
        taken = nisa.tensor_copy_dynamic_src(a[:, nl.ds(at, 4)])
        made = nl.zeros((32, 48), dtype=nl.float32)
        nisa.tensor_copy_dynamic_dst(dst=made[:, nl.ds(at, 4)], src=taken)
        return taken, made

    taken, made = run(function, A, where)
    assert np.array_equal(taken, A[:, 7:11])
    wanted = np.zeros_like(A)
    wanted[:, 7:11] = A[:, 7:11]
    assert np.array_equal(made, wanted)


def test_read_modify_write_in_hbm() -> None:
    def kernel(x: Any, rows: Any) -> Any:
        made = nl.full((64, 48), 1, dtype=nl.float32, buffer=nl.shared_hbm)
        j = nl.arange(48)[None, :]
        nl.atomic_rmw(made[nl.load(rows), j], nl.load(x), op=np.add)
        return made

    rows = np.random.default_rng(5).permutation(64)[:32].astype(np.int32).reshape(32, 1)
    wanted = np.ones((64, 48), np.float32)
    wanted[rows[:, 0]] += A
    assert np.array_equal(nki.simulate_kernel(kernel, A, rows), wanted)


def test_random_numbers_are_seeded() -> None:
    def function(a: Any) -> Any:
        nl.random_seed(5)
        one = nl.rand((32, 48))
        nl.random_seed(5)
        return one, nl.rand((32, 48)), nl.rand((32, 48))

    one, two, three = run(function, A)
    assert np.array_equal(one, two)
    assert not np.array_equal(two, three)
    assert one.min() >= 0
    assert one.max() < 1
    assert 0.4 < one.mean() < 0.6


def test_matmul_of_pairs_and_of_tiles_of_the_array() -> None:
    def function(a: Any, b: Any) -> Any:
        eight = nl.ndarray((32, 2, 16), dtype=nl.float8_e5m2)
        eight[...] = nl.copy(a[:, 0:32].reshape((32, 2, 16)), dtype=nl.float8_e5m2)
        other = nl.copy(b[:, 0:32].reshape((32, 2, 16)), dtype=nl.float8_e5m2)
        pairs = nl.copy(nisa.nc_matmul(eight, other, perf_mode="double_row_gen3"))
        corner = nisa.nc_matmul(a, b, tile_position=(0, 64), tile_size=(32, 64))
        return pairs, corner

    pairs, corner = run(function, A, B)
    low = [each[:, :32].reshape(32, 2, 16).astype(np.dtype(nl.float8_e5m2)).astype(np.float64) for each in (A, B)]
    np.testing.assert_allclose(pairs, np.einsum("kri,krj->ij", *low), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(corner, A.astype(np.float64).T @ B, rtol=1e-4, atol=1e-4)


def test_the_vector_engine_transposes_only_small_tiles() -> None:
    with pytest.raises(KernelRefused) as err:
        run(lambda a: nisa.nc_transpose(a, engine=nisa.vector_engine), A)
    assert err.value.rule.name == "transpose-size"


def test_a_mask_that_is_no_box_stops_a_reduction() -> None:
    def function(a: Any) -> Any:
        i, j = nl.mgrid[0:32, 0:48]
        return nl.max(a, axis=1, mask=i >= j)

    with pytest.raises(KernelRefused) as err:
        run(function, A)
    assert err.value.rule.name == "operand-shape"
