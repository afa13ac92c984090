"""dma_copy against NumPy: order, bits, conversions, gathers and scatters, and every rule's refusal."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.dtypes import ALL, DType, find
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
HBM = "shared_hbm"
VALUES = [each for each in ALL if each.lanes == 1]


def rule_of(err: pytest.ExceptionInfo[KernelRefused]) -> str:
    return err.value.rule.name


def bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array).view(np.uint8)


def random_bits(shape: tuple[int, ...], dtype: DType, seed: int = 0) -> np.ndarray[Any, Any]:
    raw = np.random.default_rng(seed).integers(0, 256, (*shape[:-1], shape[-1] * dtype.itemsize), np.uint8)
    return raw.view(dtype.numpy).reshape(shape)


def place(c: Any, array: np.ndarray[Any, Any], dtype: DType, region: str = HBM) -> Any:
    """A tensor with exactly these bits."""
    tensor = empty(c, array.shape, dtype, region)
    tensor.array[...] = array
    c.mark_written(tensor)
    return tensor


# -- order and bits -------------------------------------------------------------------------------------------------


@st.composite
def equal_sizes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes with as many elements."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 4, 5]), min_size=1, max_size=5))

    def shape() -> tuple[int, ...]:
        order = draw(st.permutations(factors))
        cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=3)))
        edges = [0, *cuts, len(order)]
        return tuple(math.prod(order[a:b]) for a, b in itertools.pairwise(edges))

    return shape(), shape()


@FIXED
@given(
    shapes=equal_sizes(),
    places=st.tuples(st.sampled_from(["sbuf", HBM, "private_hbm"]), st.sampled_from(["sbuf", HBM])),
    dtype=st.sampled_from(ALL),
)
def test_elements_go_in_row_major_order_whatever_the_shapes(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], places: tuple[str, str], dtype: DType
) -> None:
    src_shape, dst_shape = (
        shape if region != "sbuf" or shape[0] <= 128 else (1, *shape)
        for shape, region in zip(shapes, places, strict=True)
    )
    values = random_bits(src_shape, dtype)
    with core() as c:
        src = place(c, values, dtype, places[0]) if places[0] != "sbuf" or len(src_shape) > 1 else None
        if src is None:
            values = values.reshape(-1, 1)
            src = place(c, values, dtype, "sbuf")
        dst = empty(c, dst_shape, dtype, places[1])
        nisa.dma_copy(dst, src)
        np.testing.assert_array_equal(bits(get(c, dst)).reshape(-1), bits(values).reshape(-1))


@FIXED
@given(st.data())
def test_strided_patterns_on_both_sides_move_like_numpy_slices(data: st.DataObject) -> None:
    def axis(size: int) -> slice:
        start = data.draw(st.integers(0, size - 4))
        return slice(start, start + 4, data.draw(st.integers(1, 2)))

    values = np.arange(8 * 12 * 10, dtype=np.float32).reshape(8, 12, 10)
    with core() as c:
        src = put(c, values, region=HBM)
        dst = put(c, np.zeros((8, 10, 16)), "float32")
        key = (slice(0, 8), axis(12), axis(10))
        wanted = np.transpose(values[key], (0, 2, 1))
        target = (slice(0, 8), slice(1, 1 + wanted.shape[1]), slice(2, 3 * wanted.shape[2], 3))
        nisa.dma_copy(dst[target], src[key].permute((0, 2, 1)))
        expected = np.zeros((8, 10, 16), np.float32)
        expected[target] = wanted
        np.testing.assert_array_equal(get(c, dst), expected)


def test_a_view_that_splits_no_dimension_evenly_is_still_copied_in_order() -> None:
    values = np.arange(24, dtype=np.int32).reshape(6, 4)
    with core() as c:
        dst = empty(c, (8, 3), "int32", HBM)
        nisa.dma_copy(dst, put(c, values))
        np.testing.assert_array_equal(get(c, dst).reshape(-1), np.arange(24))


def test_hbm_rows_are_repeated_to_all_partitions_with_step_0() -> None:
    row = np.arange(16, dtype=np.float32)
    with core() as c:
        dst = empty(c, (128, 16))
        nisa.dma_copy(dst, put(c, row, region=HBM).ap([[0, 128], [1, 16]]))
        np.testing.assert_array_equal(get(c, dst), np.broadcast_to(row, (128, 16)))


def test_a_copy_within_one_tensor_reads_before_it_writes() -> None:
    with core() as c:
        tensor = put(c, np.arange(32).reshape(2, 16), "int32")
        nisa.dma_copy(tensor[:, 4:16], tensor[:, 0:12])
        np.testing.assert_array_equal(get(c, tensor)[0], [0, 1, 2, 3, *range(12)])


def test_only_what_was_written_can_be_copied() -> None:
    with core() as c:
        src, dst = empty(c, (4, 8)), empty(c, (4, 8), region=HBM)
        c.write(src[:, 0:4], np.zeros((4, 4), np.float32))
        nisa.dma_copy(dst[:, 0:4], src[:, 0:4])
        with pytest.raises(KernelRefused) as err:
            nisa.dma_copy(dst, src)
        assert rule_of(err) == "uninitialized-read"
        with pytest.raises(KernelRefused):
            c.read(dst, defined=True)


# -- conversion -----------------------------------------------------------------------------------------------------


def reference_cast(values: np.ndarray[Any, Any], src: DType, dst: DType) -> np.ndarray[Any, Any]:
    """float32 in between, then once to nearest even; integers saturate and take NaN as 0."""
    middle = values.astype(np.float32)
    if dst == "bool":
        return (middle != 0).astype(np.uint8)
    if dst.is_integer:
        info = np.iinfo(dst.numpy)
        wide = np.where(np.isnan(middle), 0, np.rint(middle.astype(np.float64)))
        return np.array([int(min(max(each, info.min), info.max)) for each in wide.reshape(-1)], dst.numpy).reshape(
            values.shape
        )
    if dst == "tfloat32":
        wide = middle.astype(np.float64)
        finite = np.isfinite(wide) & (wide != 0)
        exponent = np.floor(np.log2(np.abs(np.where(finite, wide, 1.0))))
        unit = np.exp2(exponent - 10)
        return np.where(finite, np.rint(wide / unit) * unit, wide).astype(np.float32)
    with np.errstate(all="ignore"):
        return middle.astype(dst.numpy)


@pytest.mark.parametrize("src", VALUES, ids=str)
@pytest.mark.parametrize("dst", VALUES, ids=str)
def test_types_convert_through_float32(src: DType, dst: DType) -> None:
    values = random_bits((4, 64), src, seed=7)
    if src == "bool":
        values = values & 1
    if dst == "tfloat32" and src == "float32":
        values = np.where(np.abs(values) < 1e-30, np.float32(0), values)
    with core() as c:
        target = empty(c, (4, 64), dst)
        nisa.dma_copy(target, place(c, values, src))
        got = get(c, target)
    if src is dst:
        np.testing.assert_array_equal(bits(got), bits(values))
        return
    with np.errstate(all="ignore"):
        expected = reference_cast(values, src, dst)
    assert got.dtype == dst.numpy
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(got.astype(np.float64), expected.astype(np.float64))


def test_integers_beyond_2_to_24_lose_their_last_bits_on_the_way_to_another_integer() -> None:
    with core() as c:
        dst = empty(c, (1, 2), "uint32")
        nisa.dma_copy(dst, put(c, [[2**24 + 1, -5]], "int32", HBM))
        assert get(c, dst).tolist() == [[2**24, 0]]
        same = empty(c, (1, 1), "int32")
        nisa.dma_copy(same, put(c, [[2**31 - 1]], "int32", HBM))
        assert get(c, same).tolist() == [[2**31 - 1]]


def test_packed_types_are_moved_but_not_converted() -> None:
    values = random_bits((4, 8), find("float8_e4m3fn_x4"))
    with core("trn3") as c:
        src = place(c, values, find("float8_e4m3fn_x4"))
        dst = empty(c, (4, 8), "float8_e4m3fn_x4")
        nisa.dma_copy(dst, src)
        np.testing.assert_array_equal(get(c, dst), values)
        nisa.dma_copy(empty(c, (4, 8), "uint32"), src.view("uint32"))
        with pytest.raises(KernelRefused) as err:
            nisa.dma_copy(empty(c, (4, 8), "uint32"), src)
    assert rule_of(err) == "operand-dtype"
    assert "view" in str(err.value)


# -- run-time addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index_dtype", ["int32", "uint32", "uint16"])
@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_a_gather_and_a_scatter_pick_rows_as_numpy_does(target: str, index_dtype: str) -> None:
    rng = np.random.default_rng(1)
    table = rng.standard_normal((200, 3, 5), dtype=np.float32)
    rows = rng.permutation(200)[:96]
    with core(target) as c:
        hbm, index = put(c, table, region=HBM), put(c, rows[:, None], index_dtype)
        tile = empty(c, (96, 15))
        nisa.dma_copy(tile, hbm.vector_select(0, index))
        np.testing.assert_array_equal(get(c, tile).reshape(96, 3, 5), table[rows])
        out = empty(c, (200, 15), region=HBM)
        handle = nisa.dma_copy(out.ap([[15, 96], [1, 15]], vector_offset=index), tile)
        expected = np.zeros((200, 15), np.float32)
        expected[rows] = table[rows].reshape(96, 15)
        np.testing.assert_array_equal(get(c, out[int(rows[0])]), expected[rows[0]])
        missing = out.storage.unwritten(out)
        assert missing is not None
        np.testing.assert_array_equal(~missing[:, 0], np.isin(np.arange(200), rows))
    assert handle.params["rows"] == 96
    assert handle.params["dge_mode"] == "swdge"
    assert handle.params["dynamic"] == "vector"
    assert [each.allocation.name for each in handle.reads] == [tile.name, index.name]
    assert handle.writes[0].indirect


@FIXED
@given(st.data())
def test_indices_outside_are_refused_or_their_rows_are_left_out(data: st.DataObject) -> None:
    count, width, start = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 6)), data.draw(st.integers(0, 5))
    dtype = data.draw(st.sampled_from(["float32", "bfloat16", "int8"]))
    low = st.integers(-4, 30) | st.sampled_from([-(2**31), 2**31 - 1])
    rows = np.array(data.draw(st.lists(low, min_size=1, max_size=24)))
    scatters = data.draw(st.booleans())
    table = np.arange(count * 8, dtype=np.float32).reshape(count, 8) % 100
    start = min(start, 8 - width)
    inside = (rows >= 0) & (rows < count)
    with core() as c:
        hbm, index = put(c, table, dtype, HBM), put(c, rows[:, None], "int32")
        tile = put(c, np.full((rows.size, width), -7.0), dtype)
        view = hbm.ap([[8, rows.size], [1, width]], offset=start, vector_offset=index)
        dst, src = (view, tile) if scatters else (tile, view)
        if not inside.all():
            with pytest.raises(KernelRefused) as err:
                nisa.dma_copy(dst, src)
            assert rule_of(err) == "out-of-bounds"
        handle = nisa.dma_copy(dst, src, oob_mode=nisa.oob_mode.skip)
        assert handle.params["rows"] == inside.sum()
        if scatters:
            expected = table.copy()
            expected[rows[inside], start : start + width] = -7
            np.testing.assert_array_equal(get(c, hbm).astype(np.float32), expected)
        else:
            taken = np.full((rows.size, width), -7.0)
            taken[inside] = table[rows[inside], start : start + width]
            np.testing.assert_array_equal(get(c, tile).astype(np.float32), taken)


def test_rows_left_out_stay_unwritten() -> None:
    with core() as c:
        hbm, index = put(c, np.ones((4, 8)), "float32", HBM), put(c, [[0], [9], [2]], "int32")
        tile = empty(c, (3, 8))
        nisa.dma_copy(tile, hbm.vector_select(0, index), oob_mode=nisa.oob_mode.skip)
        assert get(c, tile[0:1]).sum() == 8
        with pytest.raises(KernelRefused) as err:
            c.read(tile, defined=True)
    assert rule_of(err) == "uninitialized-read"
    assert "8 of 24" in str(err.value)


def test_a_gather_of_rows_that_nothing_wrote_gives_rows_that_nothing_wrote() -> None:
    with core() as c:
        hbm, tile = empty(c, (8, 4), region=HBM), empty(c, (2, 4))
        nisa.dma_copy(hbm[2:4], put(c, np.ones((2, 4)), "float32"))
        nisa.dma_copy(tile, hbm.vector_select(0, put(c, [[3], [2]], "int32")))
        nisa.dma_copy(tile, hbm.vector_select(0, put(c, [[3], [4]], "int32")))
        assert get(c, tile[0:1]).tolist() == [[1.0] * 4]
        with pytest.raises(KernelRefused) as err:
            get(c, tile)
    assert rule_of(err) == "uninitialized-read"


def test_a_pattern_with_steps_of_its_own_gathers_pieces_of_rows() -> None:
    cache = np.arange(6 * 4 * 10, dtype=np.float32).reshape(6, 4, 10)  # a cache [sequence, head dim, position]
    index = np.array([[7], [0], [5]]) + np.array([[0], [40], [200]])
    with core() as c:
        flat = put(c, cache, region=HBM).reshape((240,))
        view = flat.ap([[1, 3], [10, 4], [1, 1]], vector_offset=put(c, index, "uint32"))
        dst = empty(c, (3, 4))
        nisa.dma_copy(dst, view)
        expected = [cache.reshape(-1)[at + 10 * np.arange(4)] for at in index[:, 0]]
        np.testing.assert_array_equal(get(c, dst), expected)


@pytest.mark.parametrize("kind", ["register", "tensor", "hbm tensor"])
def test_a_run_time_start_comes_from_a_register_or_a_tensor(kind: str) -> None:
    table = np.arange(64, dtype=np.float32).reshape(8, 8)
    with core() as c:
        hbm, dst = put(c, table, region=HBM), empty(c, (2, 8))

        def at(value: int) -> Any:
            if kind == "register":
                return VirtualRegister(c, value)
            return put(c, [[value]], "int32", HBM if kind == "hbm tensor" else "sbuf")

        handle = nisa.dma_copy(dst, hbm.ap([[8, 2], [1, 8]], scalar_offset=at(5), indirect_dim=0))
        np.testing.assert_array_equal(get(c, dst), table[5:7])
        assert handle.params["dynamic"] == "scalar"
        assert handle.params["dge_mode"] == "hwdge"
        assert len(handle.reads) == (1 if kind == "register" else 2)
        with pytest.raises(KernelRefused) as err:
            nisa.dma_copy(dst, hbm.ap([[8, 2], [1, 8]], scalar_offset=at(7), indirect_dim=0))
        assert rule_of(err) == "out-of-bounds"
        before = get(c, dst)
        nisa.dma_copy(dst, hbm.ap([[8, 2], [1, 8]], scalar_offset=at(7), indirect_dim=0), oob_mode=nisa.oob_mode.skip)
        np.testing.assert_array_equal(get(c, dst), before)


def test_a_run_time_start_of_the_destination_moves_the_write() -> None:
    with core() as c:
        out = put(c, np.zeros((4, 8)), "float32", HBM)
        nisa.dma_copy(out.select(0, VirtualRegister(c, 2)), put(c, np.ones((1, 8)), "float32"))
        np.testing.assert_array_equal(get(c, out)[:, 0], [0, 0, 1, 0])


# -- rules ----------------------------------------------------------------------------------------------------------


def refused(call: Any) -> str:
    with pytest.raises(KernelRefused) as err:
        call()
    assert "test_dma_copy.py" in str(err.value)
    assert err.value.__context__ is None
    return rule_of(err)


def test_operands_have_legal_memories_sizes_and_patterns() -> None:
    with core() as c:
        tile, hbm = put(c, np.ones((4, 8)), "float32"), put(c, np.ones((4, 8)), "float32", HBM)
        psum = empty(c, (4, 8), region="psum")
        index = put(c, [[0], [1], [2], [3]], "int32")
        assert refused(lambda: nisa.dma_copy(psum, tile)) == "operand-memory"
        assert refused(lambda: nisa.dma_copy(tile, psum)) == "operand-memory"
        assert refused(lambda: nisa.dma_copy(tile, hbm[0:3])) == "operand-shape"
        assert refused(lambda: nisa.dma_copy(tile, 3.0)) == "parameter"  # type: ignore[arg-type]
        assert refused(lambda: nisa.dma_copy(hbm.ap([[0, 4], [1, 8]]), tile)) == "dma-shape"
        assert refused(lambda: nisa.dma_copy(tile, tile.ap([[0, 4], [1, 8]]))) == "partition-step"
        picked = hbm.ap([[8, 4], [1, 8]], vector_offset=index)
        nisa.dma_copy(tile, picked)
        in_hbm = put(c, [[0], [1], [2], [3]], "int32", HBM)
        assert refused(lambda: nisa.dma_copy(tile, hbm.vector_select(0, in_hbm))) == "operand-memory"
        floats = put(c, np.zeros((4, 1)), "float32")
        assert refused(lambda: nisa.dma_copy(tile, hbm.vector_select(0, floats))) == "operand-dtype"
        wide = put(c, np.zeros((4, 2)), "int32")
        assert refused(lambda: nisa.dma_copy(tile, hbm.vector_select(0, wide))) == "operand-shape"
        few = put(c, np.zeros((2, 1)), "int32")
        assert refused(lambda: nisa.dma_copy(tile, hbm.ap([[8, 4], [1, 8]], vector_offset=few))) == "operand-shape"
        start = hbm.ap([[8, 4], [1, 8]], scalar_offset=index)
        assert refused(lambda: nisa.dma_copy(tile, start)) == "operand-shape"
        chosen = tile.ap([[8, 4], [1, 8]], vector_offset=index)
        assert refused(lambda: nisa.dma_copy(hbm, chosen)) == "operand-memory"
    with core("trn3") as c:
        tile, index = put(c, np.ones((16, 8)), "float32"), put(c, np.zeros((16, 1)), "uint16")
        out = empty(c, (16, 16), region=HBM)
        assert refused(lambda: nisa.dma_copy(out, tile.indirect(index))) == "parameter"


def test_descriptors_are_made_by_what_can_make_them() -> None:
    modes = nisa.dge_mode
    with core() as c:
        tile, hbm = empty(c, (4, 8)), put(c, np.ones((4, 8)), "float32", HBM)
        rows = hbm.vector_select(0, put(c, [[0], [1], [2], [3]], "int32"))
        start = hbm.ap([[8, 4], [1, 8]], scalar_offset=VirtualRegister(c, 0))
        for mode in (modes.none, modes.swdge, modes.hwdge):
            assert nisa.dma_copy(tile, hbm, dge_mode=mode).params["dge_mode"] == mode.name
        for mode in (modes.swdge, modes.hwdge):
            assert nisa.dma_copy(tile, start, dge_mode=mode).params["dynamic"] == "scalar"
        assert nisa.dma_copy(tile, hbm, dge_mode=3).params["dge_mode"] == "none"  # by number, as older kernels write
        assert nisa.dma_copy(tile, hbm, dge_mode=None).params["dge_mode_asked"] == "unknown"
        assert refused(lambda: nisa.dma_copy(tile, start, dge_mode=modes.none)) == "dma-descriptors"
        nisa.dma_copy(tile, rows, dge_mode=modes.swdge)
        assert refused(lambda: nisa.dma_copy(tile, rows, dge_mode=modes.none)) == "dma-descriptors"
        assert refused(lambda: nisa.dma_copy(tile, rows, dge_mode=modes.hwdge)) == "dma-descriptors"
        assert refused(lambda: nisa.dma_copy(tile, hbm, dge_mode="fast")) == "parameter"
        half = empty(c, (4, 8), "bfloat16")
        assert refused(lambda: nisa.dma_copy(half, hbm, dge_mode=modes.hwdge)) == "operand-dtype"
        assert nisa.dma_copy(half, hbm).params["dge_mode"] == "none"
        for engine in (Engine.sync, Engine.scalar):
            made = nisa.dma_copy(tile, hbm, dge_mode=modes.hwdge, engine=engine)
            assert made.params["trigger"] == engine.name
        assert refused(lambda: nisa.dma_copy(tile, hbm, dge_mode=modes.hwdge, engine=Engine.vector)) == "engine"
        assert refused(lambda: nisa.dma_copy(tile, hbm, engine=Engine.sync)) == "engine"


def test_what_a_generation_lacks_is_refused_there() -> None:
    for target, mode in (("trn1", "none"), ("trn2", "hwdge"), ("trn3", "hwdge")):
        with core(target) as c:
            tile, hbm = empty(c, (4, 8)), put(c, np.ones((4, 8)), "float32", HBM)
            assert nisa.dma_copy(tile, hbm).params["dge_mode"] == mode
            if target == "trn1":
                assert refused(lambda: nisa.dma_copy(tile, hbm, dge_mode=nisa.dge_mode.hwdge)) == "generation"  # noqa: B023
            if target == "trn3":
                assert nisa.dma_copy(tile, hbm, priority=2).params["priority"] == 2
                assert refused(lambda: nisa.dma_copy(tile, hbm, priority=4)) == "parameter"  # noqa: B023
            else:
                assert refused(lambda: nisa.dma_copy(tile, hbm, priority=2)) == "generation"  # noqa: B023


def test_a_relaxed_rule_warns_and_goes_on() -> None:
    with core(relaxed={"operand-memory"}) as c:
        psum = put(c, np.arange(8).reshape(1, 8), "float32", "psum")
        out = empty(c, (8,), region=HBM)
        with pytest.warns(KernelWarning, match="operand-memory"):
            nisa.dma_copy(out, psum)
        np.testing.assert_array_equal(get(c, out), np.arange(8))


def test_without_values_the_rules_and_the_record_are_the_same() -> None:
    with core(timing_only=True) as c:
        hbm, tile, index = empty(c, (64, 8), region=HBM), empty(c, (16, 8)), empty(c, (16, 1), "int32")
        made = nisa.dma_copy(tile, hbm.vector_select(0, index), name="rows")
        assert (made.op, made.engine, made.name) == ("dma_copy", Engine.dma, "rows")
        assert made.params["dynamic"] == "vector"
        assert refused(lambda: nisa.dma_copy(tile, hbm)) == "operand-shape"


def test_a_conversion_rounds_halves_to_even() -> None:
    with core() as c:
        dst = empty(c, (1, 4), "int8")
        nisa.dma_copy(dst, put(c, [[0.5, 1.5, -2.5, 300.0]], "float32", HBM))
        assert get(c, dst).tolist() == [[0, 2, -2, 127]]
        half = empty(c, (1, 1), "bfloat16")
        nisa.dma_copy(half, put(c, [[1 + 2**-8]], "float32", HBM))
        assert get(c, half)[0, 0] == ml_dtypes.bfloat16(1)
