"""Whole kernels of the older language: results, what is recorded, launch grids, direct allocation, modes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from outcrop.base.errors import UserError
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import legacy
from outcrop.silicon.nki.activate import activate
from outcrop.silicon.nki.defaults import defaults

_MODULES = legacy.modules()
nki: Any = _MODULES["neuronxcc.nki"]
nl: Any = _MODULES["neuronxcc.nki.language"]
nisa: Any = _MODULES["neuronxcc.nki.isa"]
ncc: Any = _MODULES["neuronxcc.nki.compiler"]


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def out_of(tile: Any, dtype: Any = None) -> Any:
    made = nl.ndarray(tile.shape, dtype=dtype or tile.dtype, buffer=nl.shared_hbm)
    nl.store(made, tile)
    return made


def ops(run: Any) -> list[str]:
    return [each.op for each in run.trace]


# -- values -----------------------------------------------------------------------------------------------------------


@nki.jit
def matmul(x: Any, y: Any) -> Any:
    (k, m), n = x.shape, y.shape[1]
    made = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.shared_hbm)
    total = nl.zeros((nl.par_dim(m), n), nl.float32, buffer=nl.psum)
    i_k, i_m, i_n = nl.arange(128)[:, None], nl.arange(m)[None, :], nl.arange(n)[None, :]
    for t in nl.affine_range((k + 127) // 128):
        inside = t * 128 + i_k < k
        left, right = nl.load(x[t * 128 + i_k, i_m], mask=inside), nl.load(y[t * 128 + i_k, i_n], mask=inside)
        total += nisa.nc_matmul(left[i_k, i_m], right[i_k, i_n], mask=inside)
    nl.store(made, nl.copy(total))
    return made


@pytest.mark.parametrize("k", [128, 256, 300])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_matmul_accumulates_in_psum(k: int, dtype: Any) -> None:
    x, y = floats(k, 64).astype(dtype), floats(k, 96).astype(dtype)
    run = matmul.run(x, y)
    np.testing.assert_allclose(run.result, x.astype(np.float64).T @ y.astype(np.float64), rtol=1e-4, atol=1e-4)
    products = [each for each in run.trace if each.op == "nc_matmul"]
    assert [each.params["accumulate"] for each in products] == [True] * len(products)
    assert {each.writes[0].allocation.name for each in products} == {products[0].writes[0].allocation.name}
    assert "tensor_tensor" not in ops(run)
    assert products[-1].reads[0].shape[0] == (k - 1) % 128 + 1  # the mask made the last one smaller


def test_a_sum_may_start_on_what_nothing_wrote() -> None:
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        total = nl.ndarray((2, nl.par_dim(32), 32), dtype=nl.float32, buffer=nl.psum)
        for _ in nl.affine_range(3):
            total[1] += nl.matmul(tile, tile, transpose_x=True)
        return out_of(total[1])

    x = floats(32, 32)
    np.testing.assert_allclose(nki.simulate_kernel(kernel, x), 3 * (x.astype(np.float64).T @ x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (lambda a, b: a + b, lambda a, b: a + b),
        (lambda a, b: 3 - a, lambda a, b: 3 - a),
        (lambda a, b: a[:, 0] * b, lambda a, b: a[:, :1] * b),
        (lambda a, b: b - a[:, 0], lambda a, b: b - a[:, :1]),
        (lambda a, b: a + b[0:1, :], lambda a, b: a + b[:1]),
        (lambda a, b: a / b, lambda a, b: a / b),
        (lambda a, b: 2 / a, lambda a, b: 2 / a),
        (lambda a, b: a**2, lambda a, b: a**2),
        (lambda a, b: nl.maximum(a, 0.25), lambda a, b: np.maximum(a, 0.25)),
        (lambda a, b: nl.floor(a), lambda a, b: np.floor(a)),
        (lambda a, b: nl.mod(a, 0.75), lambda a, b: np.mod(a, 0.75)),
        (lambda a, b: nl.fmod(a, 0.75), lambda a, b: np.fmod(a, 0.75)),
        (lambda a, b: -nl.tanh(a), lambda a, b: -np.tanh(a)),
        (lambda a, b: nl.where(a > b, a, 0.5), lambda a, b: np.where(a > b, a, 0.5)),
        (lambda a, b: nl.where(nl.less(a, b), 1.0, b), lambda a, b: np.where(a < b, 1.0, b)),
        (lambda a, b: nl.softmax(a, axis=1), lambda a, b: np.exp(a) / np.exp(a).sum(1, keepdims=True)),
        (lambda a, b: nl.mean(a, axis=[1]), lambda a, b: a.mean(1, keepdims=True)),
        (lambda a, b: nl.var(a, axis=1), lambda a, b: a.var(1, keepdims=True)),
        (
            lambda a, b: nl.rms_norm(a, b, axis=1, n=24),
            lambda a, b: a / np.sqrt((a * a).mean(1, keepdims=True) + 1e-6) * b,
        ),
        (lambda a, b: nl.transpose(a), lambda a, b: a.T),
        (lambda a, b: a.broadcast_to((16, 24)), lambda a, b: a),
        (lambda a, b: nl.expand_dims(a, 1), lambda a, b: a[:, None]),
        (lambda a, b: a.reshape((16, 4, 6)), lambda a, b: a.reshape(16, 4, 6)),
        (lambda a, b: nl.min(a * 2, axis=1, keepdims=True), lambda a, b: (a * 2).min(1, keepdims=True)),
    ],
)
def test_operators(function: Callable[..., Any], reference: Callable[..., Any]) -> None:
    a, b = floats(16, 24), np.abs(floats(16, 25)[:, :24]) + 0.5

    def kernel(x: Any, y: Any) -> Any:
        return out_of(function(nl.load(x), nl.load(y)))

    wanted = reference(a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(nki.simulate_kernel(kernel, a, b), wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("one", "two", "wanted"),
    [
        ("int32", "float16", "float16"),
        ("float32", "bfloat16", "float32"),
        ("float16", "bfloat16", "float32"),
        ("float8_e4m3", "float8_e5m2", "bfloat16"),
        ("float8_e4m3", "bfloat16", "bfloat16"),
        ("int8", "uint8", "int16"),
        ("int8", "uint16", "int32"),
        ("int32", "uint32", "float32"),
        ("uint8", "uint16", "uint16"),
    ],
)
def test_promotion_follows_the_published_table(one: str, two: str, wanted: str) -> None:
    types: list[Any] = []

    def kernel() -> None:
        a = nl.full((4, 4), 1, dtype=getattr(nl, one))
        b = nl.full((4, 4), 1, dtype=getattr(nl, two))
        types.append(nl.add(a, b).dtype)
        types.append(nisa.tensor_tensor(b, a, op=np.multiply).dtype)

    nki.simulate_kernel(kernel)
    assert types == [np.dtype(wanted)] * 2


def test_a_result_is_rounded_to_its_own_type_first() -> None:
    def kernel(x: Any) -> Any:
        made = nl.ndarray(x.shape, dtype=nl.float32)
        made[...] = nisa.activation(np.square, nl.load(x), dtype=nl.bfloat16)
        return out_of(made)

    x = floats(8, 16)
    wanted = np.square(x).astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(nki.simulate_kernel(kernel, x), wanted)


def test_loop_reduce_reduces_into_what_it_is_assigned_to() -> None:
    def kernel(x: Any) -> Any:
        top, total = nl.ndarray((8, 5), dtype=nl.float32), nl.zeros((8, 5), dtype=nl.float32)
        for b in nl.affine_range(3):
            top[...] = nl.loop_reduce(nl.load(x[b]), op=np.max, loop_indices=[b])
            total[:, 0:5] = nl.loop_reduce(nl.load(x[b]), op=np.add, loop_indices=[b])
        return out_of(top), out_of(total)

    x = floats(3, 8, 5)
    top, total = nki.simulate_kernel(kernel, x)
    assert np.array_equal(top, x.max(0))
    np.testing.assert_allclose(total, x.sum(0), rtol=1e-5, atol=1e-6)


# -- records ----------------------------------------------------------------------------------------------------------


def test_an_assigned_result_is_written_in_place() -> None:
    @nki.jit
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        made = nl.ndarray((16, 2, 8), dtype=nl.float32, name="made")
        made[:, 0] = nl.exp(tile)
        kept = nl.square(tile)
        made[:, 1] = kept
        return out_of(made), out_of(kept + 0.0)

    x = floats(16, 8)
    run = kernel.run(x)
    assert ops(run)[:3] == ["dma_copy", "activation", "activation"]
    assert "tensor_copy" not in ops(run)
    assert [each.allocation.name for each in run.trace[1].writes] == ["made"]
    assert len(run.trace[2].writes) == 2  # its result is also used by itself
    both, kept = run.result
    assert np.array_equal(both[:, 1], kept)
    used = [each for each in run.machine.cores[0].allocations if each.first_use >= 0]
    assert {each.name for each in used} >= {"made"}


def test_a_copy_is_recorded_where_the_result_was_looked_at() -> None:
    @nki.jit
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        made = nl.ndarray((16, 8), dtype=nl.float32)
        square = nl.square(tile)
        more = square + 1.0
        made[...] = square
        return out_of(made), out_of(more)

    assert "tensor_copy" in ops(kernel.run(floats(16, 8)))


# -- launching --------------------------------------------------------------------------------------------------------


def test_programs_of_a_grid_share_their_output() -> None:
    @nki.jit
    def kernel(x: Any) -> Any:
        made = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        i, j = nl.program_id(0), nl.program_id(1)
        assert nl.num_programs() == 6
        assert (nl.num_programs(1), nl.program_ndim()) == (2, 2)
        nl.store(made[i, j], nl.load(x[i, j]) * (10 * i + j))
        return made

    x = floats(3, 2, 8, 4)
    factor = np.arange(3)[:, None, None, None] * 10 + np.arange(2)[None, :, None, None]
    assert np.array_equal(kernel[3, 2](x), x * factor.astype(np.float32))
    assert np.array_equal(kernel[nl.spmd_dim(nl.nc(1), 3), 2](x), x * factor.astype(np.float32))
    assert np.array_equal(nki.simulate_kernel(kernel[3 * nl.nc(1), 2], x), x * factor.astype(np.float32))


def test_parameters_may_be_outputs() -> None:
    @nki.trace
    def kernel(x: Any, made: Any) -> None:
        nl.store(made, nl.load(x) + 1)

    x, made = floats(8, 4), np.zeros((8, 4), np.float32)
    nki.simulate_kernel(kernel, x, made)
    assert np.array_equal(made, x + 1)


def test_kernels_call_kernels_and_decorators_stack() -> None:
    @nki.jit(mode="trace")
    def inner(tile: Any, scale: float) -> Any:
        return tile * scale

    @ncc.enable_stack_allocator
    @ncc.skip_middle_end_transformations
    @nki.baremetal(save_neff_name="file.neff")
    def outer(x: Any) -> Any:
        return out_of(inner(nl.load(x), 3.0))

    x = floats(8, 4)
    assert np.array_equal(outer(x), x * 3)


def test_measuring_is_refused() -> None:
    kernel = nki.benchmark(warmup=1)(lambda x: out_of(nl.load(x)))
    with pytest.raises(UserError, match="no clock"):
        kernel(floats(4, 4))
    with pytest.raises(UserError):
        print(kernel.benchmark_result)
    assert np.array_equal(nki.simulate_kernel(kernel, floats(4, 4)), floats(4, 4))


def test_import_names() -> None:
    with activate():
        import neuronxcc.nki.compiler as found_compiler
        import neuronxcc.nki.isa as found_isa
        from neuronxcc import nki as found
        from neuronxcc.nki.isa.constants import dge_mode
        from neuronxcc.nki.typing import tensor
        from neuronxcc.starfish.support.dtype import bfloat16
    assert found is nki
    assert (found_isa, found_compiler) == (nisa, ncc)
    assert dge_mode.hwdge.name == "hwdge"
    assert np.dtype(bfloat16) == ml_dtypes.bfloat16
    assert tensor[128, 512] is tensor


def test_targets_and_timing_only() -> None:
    versions: list[Any] = []

    @nki.jit
    def kernel(x: Any) -> Any:
        versions.append(nisa.get_nc_version())
        return out_of(nl.exp(nl.load(x)))

    x = floats(8, 4)
    for target in ("trn1", "trn2"):
        with defaults(target=target):
            kernel(x)
    assert versions == [nisa.nc_version.gen2, nisa.nc_version.gen3]
    assert nisa.nc_version.gen3 > nisa.nc_version.gen2
    with defaults(timing_only=True):
        assert ops(kernel.run(x)) == ["dma_copy", "activation", "dma_copy"]


# -- direct allocation ------------------------------------------------------------------------------------------------


def test_modulo_allocation_takes_turns() -> None:
    @nki.jit
    def kernel(x: Any) -> Any:
        made = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        byte = 64
        for _ in nl.affine_range(2):  # the older compiler ran such a body's Python once
            tile = nl.ndarray(
                (4, nl.par_dim(16), 8), dtype=nl.float32, buffer=ncc.sbuf.mod_alloc(base_addr=byte, num_free_tiles=(2,))
            )
            byte += 100_000
            for b in nl.affine_range(4):
                tile[b] = nl.load(x[b])
                nl.store(made[b], tile[b])
        return made

    x = floats(4, 16, 8)
    run = kernel.run(x)
    assert np.array_equal(run.result, x)
    starts = [each.address for each in run.machine.cores[0].allocations if each.explicit]
    assert starts == [64, 96, 64, 96] * 2


def test_overwritten_blocks_are_refused() -> None:
    def kernel(x: Any) -> Any:
        tile = nl.ndarray(
            (2, nl.par_dim(16), 8), dtype=nl.float32, buffer=ncc.sbuf.mod_alloc(base_addr=0, num_free_tiles=(1,))
        )
        for b in nl.affine_range(2):
            tile[b] = nl.load(x[b])
        return out_of(tile[0] + tile[1])

    with pytest.raises(KernelRefused) as err:
        nki.simulate_kernel(kernel, floats(2, 16, 8))
    assert err.value.rule.name == "address-overlap"


def test_psum_banks_by_function() -> None:
    def kernel(x: Any) -> Any:
        def bank(scale: int, idx: Any, pdim_size: int, fdim_size: int) -> tuple[int, int, int]:
            assert (pdim_size, fdim_size) == (32, 128)
            return (idx[0] * scale, 0, 0)

        import functools

        total = nl.ndarray(
            (2, nl.par_dim(32), 32), dtype=nl.float32, buffer=ncc.psum.alloc(functools.partial(bank, scale=3))
        )
        tile = nl.load(x)
        total[1] = nisa.nc_matmul(tile, tile)
        return out_of(total[1])

    x = floats(32, 32)
    np.testing.assert_allclose(nki.simulate_kernel(kernel, x), x.T @ x, rtol=1e-4, atol=1e-4)


def test_blocks_in_psum_live_only_while_they_are_needed() -> None:
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        made = nl.ndarray((128, 512), dtype=nl.float32)
        sums = nl.ndarray((20, nl.par_dim(128), 512), dtype=nl.float32, buffer=nl.psum)  # more than PSUM holds at once
        for b in nl.affine_range(20):
            sums[b] = nisa.nc_matmul(tile[:, 0:128], tile)
            made[...] = nl.copy(sums[b])
        return out_of(made)

    x = floats(128, 512)
    np.testing.assert_allclose(nki.simulate_kernel(kernel, x), x[:, :128].T @ x, rtol=1e-3, atol=1e-3)

    def hoarding(x: Any) -> Any:
        tile = nl.load(x)
        sums = nl.ndarray((20, nl.par_dim(128), 512), dtype=nl.float32, buffer=nl.psum)
        for b in nl.affine_range(20):
            sums[b] = nisa.nc_matmul(tile[:, 0:128], tile)
        for b in nl.affine_range(20):
            nl.copy(sums[b])

    with pytest.raises(KernelRefused) as err:
        nki.simulate_kernel(hoarding, x)
    assert err.value.rule.name == "psum-capacity"


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "rule"),
    [
        (lambda x: nl.sum(nl.load(x), axis=0), "parameter"),
        (lambda x: nl.add(1, 2), "parameter"),
        (lambda x: bool(nl.load(x)), "parameter"),
        (lambda x: nl.store(nl.load(x), 1), "operand-memory"),
        (lambda x: nl.load(x).assert_shape((3, 3)), "operand-shape"),
        (lambda x: nl.load(x).broadcast_to((16, 9)), "operand-shape"),
        (lambda x: nl.ndarray((nl.par_dim(4), nl.par_dim(4)), dtype=nl.float32), "parameter"),
        (lambda x: nl.ndarray((4, 4), dtype=nl.float32, buffer="sram"), "parameter"),
        (lambda x: nl.ndarray((200, 4), dtype=nl.float32), "partition-count"),
        (lambda x: nisa.dma_transpose(x, axes=(0, 1)), "parameter"),
        (lambda x: nisa.dma_copy(dst=x, src=x, dst_rmw_op=np.multiply), "parameter"),
        (lambda x: nisa.iota("i", dtype=nl.int32), "parameter"),
        (lambda x: nl.program_id(1), "parameter"),
        (lambda x: nl.load(x) + "1", "parameter"),
    ],
)
def test_refused(kernel: Callable[[Any], Any], rule: str) -> None:
    with pytest.raises(KernelRefused) as err:
        nki.simulate_kernel(kernel, floats(16, 8))
    assert err.value.rule.name == rule


def test_what_needs_a_tracer_says_so() -> None:
    with pytest.raises(KernelRefused, match="LoopReduction"):
        nki.simulate_kernel(lambda x: nl.exp(nl.loop_reduce(nl.load(x), np.add, [])), floats(4, 4))
    with pytest.raises(UserError, match="all_reduce"):
        nki.simulate_kernel(lambda x: nl.all_reduce(nl.load(x), np.add, 0), floats(4, 4))


def test_what_does_not_fit_into_sbuf_is_spilled_with_a_warning():
    def kernel(x):
        made = nl.ndarray((80, nl.par_dim(128), 1024), dtype=np.float32, buffer=nl.sbuf)
        out = nl.ndarray((80, 128, 1024), dtype=np.float32, buffer=nl.shared_hbm)
        tile = nl.load(x)
        for at in range(80):
            made[at] = nl.add(tile, float(at))
        for at in range(80):
            nl.store(out[at], nl.multiply(made[at], 2.0))
        return out

    x = floats(128, 1024)
    with pytest.warns(KernelWarning, match=r"\[sbuf-spill\] \d+ tensors alive at once"):
        found = nki.simulate_kernel(nki.jit(kernel), x)
    np.testing.assert_allclose(found, 2 * (x + np.arange(80, dtype=np.float32)[:, None, None]))


def test_brackets_that_come_back_with_other_starts_and_axes():
    """One family of places serves them all: offsets, negative starts and the axes of masks stay right."""

    def kernel(x):
        out = nl.ndarray((128, 24), dtype=np.float32, buffer=nl.shared_hbm)
        tile = nl.load(x)
        made = nl.ndarray((4, nl.par_dim(128), 6), dtype=np.float32, buffer=nl.sbuf)
        for block in nl.affine_range(4):
            rows, columns = nl.arange(128)[:, None], nl.arange(6)[None, :]
            made[block - 4, rows, columns] = nl.add(tile[rows, columns + 6 * block], 1.0, mask=rows < 128 - block)
            nl.store(out[:, 6 * block : 6 * block + 6], made[block, :, 0:6])
        return out

    x = floats(128, 24)
    expected = x + 1
    for block in range(1, 4):
        expected[128 - block :, 6 * block : 6 * block + 6] = 0
    np.testing.assert_allclose(nki.simulate_kernel(nki.jit(kernel), x), expected)
    with pytest.raises(KernelRefused, match="out-of-bounds"):
        nki.simulate_kernel(nki.jit(kernel), floats(128, 23))


def test_bytes_of_dead_tiles_are_free_without_the_garbage_collector():
    seen: list[weakref.ref[Any]] = []

    def kernel(x):
        tile = nl.load(x)
        made = nl.ndarray(tile.shape, dtype=np.float32, buffer=nl.sbuf)
        for _ in range(3):
            result = nl.add(tile, 1.0)
            seen.append(weakref.ref(result.source.storage))
            made[...] = result
            del result
            assert seen[-1]() is None
        return out_of(made)

    gc.disable()
    try:
        np.testing.assert_array_equal(nki.simulate_kernel(nki.jit(kernel), floats(8, 4)), floats(8, 4) + 1)
    finally:
        gc.enable()
    assert len(seen) == 3
