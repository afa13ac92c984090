"""nki.language: tensors out of nothing, movement, reductions and normalisations, sizes and names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from kernel_rig import CHIPS, core, get, put
from outcrop.base.errors import UserError
from outcrop.silicon.device.dtypes import ALL
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl

RANDOM = np.random.default_rng(6)
X = RANDOM.standard_normal((33, 40)).astype(np.float32)
X3 = X.reshape(33, 8, 5)


def result(function: Callable[..., Any], *arrays: Any, target: str = "trn2") -> Any:
    with core(target) as on:
        return get(on, function(*[put(on, each) if isinstance(each, np.ndarray) else each for each in arrays]))


def refused_rule(call: Callable[[], Any]) -> str:
    with pytest.raises(KernelRefused) as refused:
        call()
    return refused.value.rule.name


# -- reductions -------------------------------------------------------------------------------------------------------

REDUCTIONS = {"max": np.max, "min": np.min, "sum": np.sum, "mean": np.mean, "prod": np.prod, "var": np.var}


@pytest.mark.parametrize("target", sorted(CHIPS))
@pytest.mark.parametrize("axis", [2, -1, [1, 2], (2, 1)])
@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_reductions_over_trailing_dimensions(name: str, axis: Any, target: str):
    found = result(lambda tile: getattr(nl, name)(tile, axis, keepdims=True), X3, target=target)
    over = (axis,) if isinstance(axis, int) else tuple(axis)
    expected = REDUCTIONS[name](X3.astype(np.float64), axis=over, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(REDUCTIONS) - {"var"}))
def test_reduced_dimensions_go_away_unless_kept(name: str):
    with core() as on:
        tile = put(on, X3)
        reduce = getattr(nl, name)
        assert reduce(tile, 2).shape == (33, 8)
        assert reduce(tile, 2, keepdims=True).shape == (33, 8, 1)
        assert reduce(tile, [1, 2]).shape == (33, 1)  # tiles keep two dimensions
        assert reduce(tile, 2, dtype=nl.bfloat16).dtype == nl.bfloat16


def test_all_is_a_logical_and():
    values = (RANDOM.random((33, 40)) > 0.05).astype(np.float32)
    np.testing.assert_array_equal(result(lambda tile: nl.all(tile, 1), values), values.all(axis=1, keepdims=True))


@pytest.mark.parametrize("width", [1, 7, 512, 513, 1200])
def test_variance_of_any_width(width: int):
    values = (RANDOM.standard_normal((5, width)) + 100).astype(np.float32)
    found = result(lambda tile: nl.var(tile, 1), values)
    np.testing.assert_allclose(found, values.astype(np.float64).var(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, [0, 1], [0, 2], 3, []])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "softmax"])
def test_partitions_and_leading_dimensions_are_not_reduced(name: str, axis: Any):
    with core() as on:
        tile = put(on, X3)
        assert refused_rule(lambda: getattr(nl, name)(tile, axis)) == "parameter"


def softmax(values: Any, axis: Any) -> Any:
    powers = np.exp(values.astype(np.float64) - values.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize("target", sorted(CHIPS))
def test_softmax(target: str):
    large = X * 50
    np.testing.assert_allclose(result(nl.softmax, large, target=target), softmax(large, 1), rtol=1e-5, atol=1e-7)
    rows = result(lambda tile: nl.softmax(tile, 2), X3, target=target)
    np.testing.assert_allclose(rows, softmax(X3, 2), rtol=1e-5, atol=1e-7)
    planes = result(lambda tile: nl.softmax(tile, [1, 2], dtype=nl.bfloat16), X3, target=target)
    assert planes.dtype == ml_dtypes.bfloat16
    np.testing.assert_allclose(planes.astype(np.float64), softmax(X3, (1, 2)), rtol=1e-2)


def test_softmax_of_a_view_that_is_not_dense():
    found = result(lambda tile: nl.softmax(tile[:, ::2]), X)
    np.testing.assert_allclose(found, softmax(X[:, ::2], 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("target", sorted(CHIPS))
@pytest.mark.parametrize("weights", ["tile", "row"])
def test_rms_norm(weights: str, target: str):
    w = RANDOM.standard_normal((33 if weights == "tile" else 1, 40)).astype(np.float32)
    found = result(lambda a, b: nl.rms_norm(a, b, 1, 40, epsilon=1e-3), X, w, target=target)
    wide = X.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-3) * w
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# -- movement ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int32, np.int8, ml_dtypes.float8_e5m2])
def test_load_and_store_keep_every_bit(dtype: Any):
    values = RANDOM.integers(-60, 60, (33, 40)).astype(dtype)
    with core() as on:
        source = put(on, values, region="private_hbm")
        target = nl.ndarray((33, 40), source.dtype, buffer=nl.shared_hbm)
        nl.store(target, nl.load(source))
        assert get(on, target).tobytes() == values.tobytes()


def test_load_converts_and_takes_slices_and_one_dimension():
    with core() as on:
        source = put(on, X, region="private_hbm")
        loaded = nl.load(source[1:9, ::2], dtype=nl.bfloat16)
        np.testing.assert_array_equal(get(on, loaded), X[1:9, ::2].astype(ml_dtypes.bfloat16))
        line = nl.load(source[3])
        assert line.shape == (40, 1)
        np.testing.assert_array_equal(get(on, line)[:, 0], X[3])


def test_store_takes_a_tile_in_psum():
    with core() as on:
        target = nl.ndarray((40, 33), nl.float32, buffer=nl.shared_hbm)
        nl.store(target, nl.transpose(put(on, X)))
        np.testing.assert_array_equal(get(on, target), X.T)


def test_load_and_store_refuse_what_is_no_tensor():
    with core() as on:
        hbm = put(on, X, region="shared_hbm")
        assert refused_rule(lambda: nl.load(X)) == "parameter"
        assert refused_rule(lambda: nl.store(hbm, 1.0)) == "parameter"


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((33, 40), np.float32), ((300, 100), np.float32), ((64, 128), ml_dtypes.bfloat16), ((32, 32), np.int32)],
)
def test_load_transpose2d(shape: tuple[int, int], dtype: Any):
    values = RANDOM.integers(-60, 60, shape).astype(dtype)
    with core() as on:
        found = nl.load_transpose2d(put(on, values, region="private_hbm"))
        np.testing.assert_array_equal(get(on, found), values.T)


def test_transpose_is_exact_and_takes_two_dimensions():
    for dtype in (np.float32, ml_dtypes.bfloat16):
        values = X.astype(dtype)
        np.testing.assert_array_equal(result(nl.transpose, values), values.T)
    assert refused_rule(lambda: result(nl.transpose, X3)) == "operand-shape"


@pytest.mark.parametrize("transposed", [False, True])
def test_matmul(transposed: bool):
    x = RANDOM.standard_normal((20, 33)).astype(np.float32)
    found = result(lambda a, b: nl.matmul(a, b, transpose_x=transposed), x.T.copy() if transposed else x, X)
    np.testing.assert_allclose(found, x.astype(np.float64) @ X, rtol=1e-5, atol=1e-5)


def test_broadcast_to_repeats_along_any_dimension():
    row, column = X[:1].copy(), X[:, :1].copy()
    for values, shape in ((row, (128, 40)), (column, (33, 700)), (X[:1, :1].copy(), (64, 9)), (X, (33, 40))):
        found = result(lambda tile, shape=shape: nl.broadcast_to(tile, shape), values)
        np.testing.assert_array_equal(found, np.broadcast_to(values, shape))
    long_row = RANDOM.standard_normal((1, 1100)).astype(np.float32)
    found = result(lambda tile: nl.broadcast_to(tile, (7, 1100), dtype=nl.bfloat16), long_row)
    assert np.unique(found.astype(np.float32), axis=0).shape == (1, 1100)
    np.testing.assert_allclose(found.astype(np.float32)[0], long_row[0], rtol=1e-2)


@pytest.mark.parametrize("shape", [(33, 40, 1), (33, 41), (32, 40), (40,)])
def test_broadcast_to_refuses_what_numpy_would(shape: tuple[int, ...]):
    assert refused_rule(lambda: result(lambda tile: nl.broadcast_to(tile, shape), X)) == "operand-shape"


def test_expand_dims_is_a_view():
    with core() as on:
        tile = put(on, X)
        assert nl.expand_dims(tile, 1).shape == (33, 1, 40)
        assert nl.expand_dims(tile, 2).shape == (33, 40, 1)
        assert nl.expand_dims(tile, -1).shape == (33, 40, 1)
        assert nl.expand_dims(tile, 1).storage is tile.storage


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_gather_flattened(dtype: Any):
    indices = RANDOM.integers(0, 40, (33, 12)).astype(dtype)
    found = result(nl.gather_flattened, X, indices)
    np.testing.assert_array_equal(found, np.take_along_axis(X, indices.astype(np.int64), axis=1))


# -- creation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", ["sbuf", "psum", "private_hbm", "shared_hbm"])
@pytest.mark.parametrize("shape", [(5, 7), (128, 3, 5), (1, 1)])
def test_filled_tensors(shape: tuple[int, ...], buffer: str):
    with core() as on:
        memory = getattr(nl, buffer)
        np.testing.assert_array_equal(get(on, nl.zeros(shape, nl.int32, buffer=memory)), np.zeros(shape))
        np.testing.assert_array_equal(get(on, nl.ones(shape, nl.bfloat16, buffer=memory)), np.ones(shape))
        np.testing.assert_array_equal(get(on, nl.full(shape, 2.5, nl.float32, buffer=memory)), np.full(shape, 2.5))


def test_large_fills_of_hbm():
    with core() as on:
        made = nl.full((5, 300, 70), 2.5, nl.float32, buffer=nl.shared_hbm)
        assert np.all(get(on, made) == 2.5)
        assert np.all(get(on, nl.zeros((7919,), nl.int32, buffer=nl.hbm)) == 0)  # a prime number of elements


def test_likes_take_shape_type_and_memory():
    with core() as on:
        x = put(on, X.astype(np.float16), region="psum")
        same, other = nl.zeros_like(x), nl.empty_like(x, dtype=nl.int8, buffer=nl.sbuf)
        assert (same.shape, same.dtype, same.buffer) == (x.shape, nl.float16, nl.psum)
        assert (other.shape, other.dtype, other.buffer) == (x.shape, nl.int8, nl.sbuf)
        assert np.all(get(on, same) == 0)
        assert refused_rule(lambda: nl.copy(other)) == "uninitialized-read"


def test_ndarray_takes_names_of_memories_and_types():
    with core():
        assert nl.ndarray((4,), "bfloat16", nl.psum).shape == (4, 1)
        assert nl.ndarray((4,), np.float32, nl.hbm).buffer == "private_hbm"
        assert refused_rule(lambda: nl.ndarray((4, 4), nl.float32, 7)) == "parameter"
        for name in ("sbuf", "hbm", "dram"):
            assert refused_rule(lambda name=name: nl.zeros((4, 4), nl.float32, name)) == "buffer-name"
        with pytest.raises(UserError, match="not a data type"):
            nl.ndarray((4, 4), "float64x")


def test_memories_named_by_strings_when_relaxed():
    with core(relaxed={"buffer-name"}), pytest.warns(KernelWarning, match=r"buffer=nl\.hbm"):
        assert nl.ndarray((4, 4), nl.float32, "hbm").buffer == nl.private_hbm


def test_assigning_a_tile_to_elements_copies_it():
    with core() as on:
        tile = put(on, X)
        tile[:, 0:4] = nl.exp(tile[:, 4:8])
        tile[:, 4] = 2.5
        expected = X.copy()
        expected[:, 0:4] = np.exp(X[:, 4:8])
        expected[:, 4] = 2.5
        np.testing.assert_allclose(get(on, tile), expected, rtol=1e-6)
        assert [each.op for each in on.trace][-2:] == ["tensor_copy", "memset"]


def test_assigning_between_chip_and_hbm_is_a_dma():
    with core() as on:
        tile = put(on, X)
        out = nl.ndarray((*X.shape, 2, 1), nl.float32, nl.shared_hbm)
        out[:, :, 1, 0] = tile
        tile[:, 0:4] = out[:, 4:8, 1, 0]
        expected = X.copy()
        expected[:, 0:4] = X[:, 4:8]
        np.testing.assert_array_equal(get(on, tile), expected)
        assert [each.op for each in on.trace][-2:] == ["dma_copy", "dma_copy"]


def test_what_is_assigned_to_elements_is_a_tensor_or_on_chip_a_number():
    with core() as on:
        tile = put(on, X)
        out = nl.ndarray(X.shape, nl.float32, nl.shared_hbm)
        made = nl.ndarray(X.shape, nl.float32, nl.sbuf)
        for write in (
            lambda: out.__setitem__(..., 1.0),
            lambda: tile.__setitem__(..., nisa.reciprocal(made, tile)),
            lambda: tile.__setitem__(..., X),
        ):
            with pytest.raises(KernelRefused, match="dst= of the instruction") as refused:
                write()
            assert refused.value.rule.name == "assignment"
        assert refused_rule(lambda: tile.__setitem__((slice(0, 4), slice(0, 4)), tile[0:4, 0:8])) == "operand-shape"


def test_random_numbers_are_uniform_and_follow_the_seed():
    with core() as on:
        seed = nl.full((1, 1), 42, nl.int32)
        nl.random_seed(seed)
        first = get(on, nl.rand((128, 512), nl.float32))
        nl.random_seed(seed)
        again = get(on, nl.rand((128, 512), nl.float32))
        other = get(on, nl.rand((128, 512), nl.float32))
        hbm = get(on, nl.rand((300, 100), nl.float32, buffer=nl.shared_hbm))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    for values in (first, hbm):
        assert values.min() >= 0
        assert values.max() < 1
        assert abs(values.mean() - 0.5) < 0.01
        assert abs(values.var() - 1 / 12) < 0.01


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_dropout_sets_a_share_to_zero(rate: float):
    found = result(lambda tile: nl.dropout(tile, rate), np.full((128, 512), 3.0, np.float32))
    assert set(np.unique(found)) <= {0.0, 3.0}
    assert abs((found == 0).mean() - rate) < 0.01


def test_shared_constant_from_an_array_and_a_file(tmp_path: Path):
    np.save(tmp_path / "c.npy", X)
    with core() as on:
        for constant in (X, str(tmp_path / "c.npy"), tmp_path / "c.npy"):
            made = nl.shared_constant(constant)
            assert made.buffer == nl.shared_hbm
            np.testing.assert_array_equal(get(on, made), X)
        counted = nl.shared_constant(np.arange(6).reshape(2, 3))
        assert counted.dtype == nl.int32
        nl.store(made, nl.zeros((33, 40), nl.float32))
        with pytest.raises(UserError, match="no file"):
            nl.shared_constant("nowhere.npy")
    assert X.any(), "a kernel that writes to a constant does not write to the caller's array"


def test_identity_matrices():
    with core() as on:
        for dtype in (nl.uint8, nl.float32, nl.bfloat16):
            np.testing.assert_array_equal(get(on, nl.shared_identity_matrix(9, dtype)), np.eye(9))
        target = nl.ndarray((9, 9), nl.float16)
        assert nl.shared_identity_matrix(9, nl.float16, dst=target) is target
        np.testing.assert_array_equal(get(on, target), np.eye(9))


# -- names, sizes, printing -------------------------------------------------------------------------------------------


def test_tensors_are_called_by_the_variable_that_they_are_assigned_to():
    held = {}
    tiles = []
    with core():
        first_tile = nl.ndarray((4, 4), nl.float32)
        annotated: Any = nl.ndarray((4, 4), nl.float32)
        held["key"] = nl.ndarray((4, 4), nl.float32)
        tiles.append(nl.ndarray((4, 4), nl.float32))
        named = nl.ndarray((4, 4), nl.float32, name="weights")
        several = nl.ndarray(
            (4, 4),
            nl.float32,
        )
        one, two = nl.ndarray((4, 4), nl.float32), nl.ndarray((4, 4), nl.float32)
        names = [first_tile.name, annotated.name, held["key"].name, tiles[0].name, named.name, several.name]
        assert names == ["first_tile", "annotated", 'held["key"]', "tiles", "weights", "several"]
        assert re.fullmatch(r"tensor\d+", one.name)
        assert one.name != two.name


@pytest.mark.parametrize("target", sorted(CHIPS))
def test_tile_sizes_are_the_chips(target: str):
    chip = CHIPS[target].core
    with core(target):
        sizes = nl.tile_size
        assert sizes.pmax == 128
        assert sizes.psum_bank_fmax == sizes.psum_fmax == 512
        assert (sizes.psum_num_banks, sizes.psum_bank_fmax_bytes) == (8, 2048)
        assert sizes.sbuf_fmax_bytes == chip.sbuf.bytes_per_partition.int_in("B") == sizes.total_available_sbuf_size
        assert sizes.sbuf_size_bytes == 128 * sizes.sbuf_fmax_bytes == 128 * 4 * sizes.sbuf_fmax
        assert sizes.gemm_stationary_fmax == 128
        assert sizes.gemm_moving_fmax == 512 <= chip.tensor.moving_free_limit["fp32"].int_in("count")


def test_tile_sizes_outside_of_a_kernel_are_the_default_targets(monkeypatch: pytest.MonkeyPatch):
    for target in CHIPS:
        monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", target)
        assert nl.tile_size.sbuf_fmax_bytes == CHIPS[target].core.sbuf.bytes_per_partition.int_in("B")


def test_every_data_type_is_there_by_its_name():
    for dtype in ALL:
        assert getattr(nl, "bool_" if dtype == "bool" else dtype.name) is dtype


def test_memories_by_name():
    with core() as on:
        assert nl.is_sbuf(put(on, X).buffer)
        assert [nl.is_on_chip(each) for each in (nl.sbuf, nl.psum, nl.hbm, nl.shared_hbm)] == [True, True, False, False]
        assert [nl.is_hbm(each) for each in (nl.sbuf, "psum", "hbm", "shared_hbm")] == [False, False, True, True]
        assert nl.is_psum("psum")


def test_device_print_shows_the_values_now(capsys: pytest.CaptureFixture[str]):
    with core() as on:
        tile = put(on, np.array([[1.5, -2.0]], np.float32))
        nl.device_print("tile is", tile)
        nisa.memset(tile, 7.0)
        with pytest.raises(UserError, match="device_print"):
            nl.device_print("number", 3)
    out = capsys.readouterr().out
    assert out.startswith("tile is ")
    assert "1.5" in out
    assert "7" not in out.split("\n", 1)[1]


def test_kernel_classes_get_an_initialiser_from_their_fields():
    class Base(nl.NKIObject):
        size: int

    class Config(Base):
        flag: bool = False

        def __post_init__(self) -> None:
            self.double = self.size * 2

    made = Config(3)
    assert (made.size, made.flag, made.double) == (3, False, 6)
    assert Config(size=1, flag=True).flag
    assert Base().size is None
    for wrong in (lambda: Config(1, 2, 3), lambda: Config(1, size=2), lambda: Config(1, colour=2)):
        with pytest.raises(TypeError):
            wrong()
