"""Views of tensors against NumPy: every method shows the elements that the same NumPy operation shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.device.views import DynamicSlice
from outcrop.silicon.nki import isa as nisa

FIXED = settings(derandomize=True, deadline=None, max_examples=60)


def numbered(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def rule_of(err: pytest.ExceptionInfo[KernelRefused]) -> str:
    return err.value.rule.name


@st.composite
def slices(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    key: list[Any] = []
    for size in shape:
        if draw(st.booleans()):
            key.append(draw(st.integers(-size, size - 1)))
        else:
            start = draw(st.integers(0, size - 1))
            stop = draw(st.integers(start + 1, size))
            key.append(slice(start, stop, draw(st.integers(1, 3))))
    return tuple(key)


@FIXED
@given(data=st.data(), shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
def test_indexing_hbm_shows_what_numpy_shows(data: st.DataObject, shape: tuple[int, ...]) -> None:
    values = numbered(shape)
    with core() as c:
        tensor = put(c, values, region="shared_hbm")
        key = data.draw(slices(shape))
        wanted = values[key]
        got = get(c, tensor[key])
    assert got.shape == (wanted.shape or (1,))
    assert np.array_equal(got.reshape(-1), wanted.reshape(-1))


@FIXED
@given(data=st.data(), free=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple))
def test_indexing_on_chip_keeps_the_partition_dimension(data: st.DataObject, free: tuple[int, ...]) -> None:
    shape = (8, *free)
    values = numbered(shape)
    with core() as c:
        tensor = put(c, values)
        key = data.draw(slices(shape))
        view = tensor[key]
        got = get(c, view)
    first = key[0]
    kept = (slice(first % 8, first % 8 + 1), *key[1:]) if isinstance(first, int) else key
    wanted = values[kept]
    assert got.shape == (wanted.shape if wanted.ndim > 1 else (*wanted.shape, 1))
    assert np.array_equal(got.reshape(-1), wanted.reshape(-1))


def test_an_access_pattern_reads_as_the_guide_says() -> None:
    values = numbered((16, 16))
    with core() as c:
        tensor = put(c, values)
        sliced = tensor.slice(1, 8, 16)
        assert sliced.get_pattern() == [[16, 16], [1, 8]]
        assert sliced.offset == 8
        same = tensor.ap(pattern=[[16, 16], [1, 8]], offset=8)
        assert np.array_equal(get(c, same), values[:, 8:])
        again = same.ap(pattern=[[16, 16], [2, 4]], offset=0)
        assert np.array_equal(get(c, again), values[:, :8:2])


def test_an_access_pattern_may_overlap_itself() -> None:
    values = numbered((4, 10))
    with core() as c:
        windows = put(c, values).ap(pattern=[[10, 4], [1, 8], [1, 3]])
        got = get(c, windows)
    assert np.array_equal(got, np.lib.stride_tricks.sliding_window_view(values, 3, axis=1))


@FIXED
@given(data=st.data())
def test_reshapes_and_permutations_compose(data: st.DataObject) -> None:
    values = numbered((4, 2, 6, 4))
    with core() as c:
        view, wanted = put(c, values), values
        for _ in range(data.draw(st.integers(1, 4))):
            order = data.draw(st.permutations(range(1, wanted.ndim)))
            view, wanted = view.permute((0, *order)), wanted.transpose((0, *order))
            dim = data.draw(st.integers(1, wanted.ndim - 1))
            size = wanted.shape[dim]
            if size % 2 == 0:
                view = view.reshape_dim(dim, (2, -1))
                wanted = wanted.reshape((*wanted.shape[:dim], 2, size // 2, *wanted.shape[dim + 1 :]))
        assert view.shape == wanted.shape
        assert np.array_equal(get(c, view), wanted)


@FIXED
@given(
    keep=st.lists(st.booleans(), min_size=3, max_size=3),
    order=st.permutations([1, 2, 3]),
    wanted=st.sampled_from([(24,), (4, 6), (2, 12), (2, 3, 4), (6, 4), (12, 2), (24, 1), (1, 24)]),
)
def test_reshape_never_shows_other_elements(keep: list[bool], order: list[int], wanted: tuple[int, ...]) -> None:
    values = numbered((2, 2, 3, 4))
    with core() as c:
        tensor = put(c, values).permute((0, *order))
        shown = values.transpose((0, *order))
        try:
            got = get(c, tensor.reshape((2, *wanted)))
        except KernelRefused:
            assert tuple(order) != (1, 2, 3), "a dense tensor takes every shape"
            return
    assert np.array_equal(got, shown.reshape((2, *wanted)))


def test_rearrange_splits_reorders_and_merges() -> None:
    values = numbered((8, 24))
    with core() as c:
        view = put(c, values).rearrange(("b", ("h", "w")), ("b", "w", "h"), {"h": 4})
        assert np.array_equal(get(c, view), values.reshape(8, 4, 6).transpose(0, 2, 1))
        merged = view.permute((0, 2, 1)).rearrange(("b", "h", "w"), ("b", ("h", "w")))
        assert np.array_equal(get(c, merged), values)


def test_broadcast_expand_squeeze_flatten() -> None:
    values = numbered((4, 6))
    with core() as c:
        tensor = put(c, values)
        wide = tensor.expand_dim(1).broadcast(1, 3)
        assert np.array_equal(get(c, wide), np.broadcast_to(values[:, None], (4, 3, 6)))
        assert np.array_equal(get(c, wide[:, 0:1].squeeze_dim(1)), values)
        assert np.array_equal(get(c, tensor.reshape((4, 2, 3)).flatten_dims(1, 2)), values)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "bfloat16", "int32"])
def test_view_reads_the_same_bytes(dtype: str) -> None:
    values = np.random.default_rng(1).integers(-(2**31), 2**31 - 1, (4, 8), dtype=np.int32)
    with core() as c:
        view = put(c, values).view(dtype)
        assert np.array_equal(get(c, view).view(np.uint8), values.view(np.uint8))
        assert np.array_equal(get(c, view.view("int32")), values)


def test_views_share_bytes() -> None:
    with core() as c:
        tensor = put(c, np.zeros((4, 8), np.float32))
        c.write(tensor.reshape((4, 2, 4))[:, 1, ::2], np.ones((4, 2), np.float32))
        assert get(c, tensor)[0].tolist() == [0, 0, 0, 0, 1, 0, 1, 0]


def test_a_dynamic_slice_moves_with_its_index() -> None:
    values = numbered((6, 8))
    with core() as c:
        tensor = put(c, values, region="shared_hbm")
        at = put(c, np.array([[2]], np.int32))
        view = tensor[DynamicSlice(at, 3), 4:8]
        assert view.is_indirect()
        assert np.array_equal(get(c, view), values[2:5, 4:8])
        c.write(at, np.array([[3]], np.int32))
        assert np.array_equal(get(c, view), values[3:6, 4:8])
        c.write(at, np.array([[4]], np.int32))
        with pytest.raises(KernelRefused) as err:
            get(c, view)
        assert rule_of(err) == "out-of-bounds"


def test_a_vector_offset_gathers_rows_of_the_base() -> None:
    values = numbered((10, 6))
    rows = np.array([[7], [0], [7], [9]], np.int32)
    with core() as c:
        tensor, index = put(c, values, region="shared_hbm"), put(c, rows)
        picked = tensor.ap(pattern=[[6, 4], [1, 3]], offset=2, vector_offset=index)
        assert np.array_equal(get(c, picked), values[rows[:, 0], 2:5])
        assert np.array_equal(get(c, tensor.vector_select(0, index)), values[rows[:, 0]])
        c.write(index, np.array([[7], [10], [0], [0]], np.int32))
        with pytest.raises(KernelRefused) as err:
            get(c, tensor.vector_select(0, index))
    assert rule_of(err) == "out-of-bounds"
    assert "10" in str(err.value)


def test_a_pattern_that_leaves_the_tensor_is_refused_when_it_is_used() -> None:
    with core() as c:
        outside = put(c, np.ones((8, 6))).ap(pattern=[[6, 8], [1, 7]], offset=0)  # as kernels form them before an if
        for use in (lambda: nisa.tensor_copy(empty(c, (8, 7)), outside), lambda: nisa.memset(outside, 1.0)):
            with pytest.raises(KernelRefused) as err:
                use()
            assert rule_of(err) == "out-of-bounds"
            assert __file__ in str(err.value)
        assert get(c, outside[:, 0:6]).tolist() == [[1.0] * 6] * 8, "a part of it may lie inside"


def test_a_slice_of_no_elements_is_refused_when_it_is_used() -> None:
    with core() as c:
        tensor = put(c, np.ones((8, 6)))
        for nothing in (tensor[:, DynamicSlice(6, 0)], tensor[DynamicSlice(0, 0), :]):
            with pytest.raises(KernelRefused) as err:
                nisa.memset(nothing, 1.0)
            assert rule_of(err) == "operand-shape"
        with pytest.raises(KernelRefused) as err:
            tensor[:, DynamicSlice(7, 0)]
        assert rule_of(err) == "out-of-bounds"


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda t: t[0:9], "out-of-bounds"),
        (lambda t: t[:, 4:4], "out-of-bounds"),
        (lambda t: t[:, 6], "out-of-bounds"),
        (lambda t: t[:, DynamicSlice(4, 3)], "out-of-bounds"),
        (lambda t: t[0, 0, 0], "out-of-bounds"),
        (lambda t: t.ap(pattern=[[12, 4], [1, 6]]), "partition-step"),
        (lambda t: t.permute((1, 0)), "partition-step"),
        (lambda t: t.broadcast(0, 2), "partition-step"),
        (lambda t: t.reshape((4, 12)), "partition-step"),
        (lambda t: t.reshape((8, 5)), "operand-shape"),
        (lambda t: t[:, ::2].view("int8"), "operand-shape"),
        (lambda t: t.vector_select(0, t), "parameter"),
    ],
)
def test_what_leaves_the_tensor_or_moves_partitions_is_refused(make: Any, rule: str) -> None:
    with core() as c:
        tensor = empty(c, (8, 6))
        with pytest.raises(KernelRefused) as err:
            make(tensor)
    assert rule_of(err) == rule
    assert __file__ in str(err.value), "the message points at the kernel's line"


def test_dimensions_may_count_from_the_end() -> None:
    with core() as c:
        tensor = put(c, np.arange(16 * 24.0).reshape(16, 4, 6))
        assert tensor.select(-1, 2).shape == (16, 4)
        assert np.array_equal(get(c, tensor.select(-1, 2)), get(c, tensor[:, :, 2]))
        assert np.array_equal(get(c, tensor.slice(-2, 1, 3)), get(c, tensor[:, 1:3]))
        assert tensor.slice(-1, 0, 1).squeeze_dim(-1).shape == (16, 4)
        assert tensor.reshape_dim(-1, (2, 3)).shape == (16, 4, 2, 3)
        assert tensor.expand_dim(-1).shape == (16, 4, 6, 1)
        assert tensor.flatten_dims(-2, -1).shape == (16, 24)
        with pytest.raises(KernelRefused) as err:
            tensor[0:1].broadcast(-3, 4)
        assert err.value.rule.name == "partition-step"


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.select(3, 0),
        lambda t: t.slice(-4, 0, 1),
        lambda t: t.expand_dim(5),
        lambda t: t.broadcast(7, 2),
        lambda t: t.flatten_dims(1, 4),
    ],
)
def test_dimensions_that_a_tensor_lacks_are_refused(make: Callable[[Tensor], Tensor]) -> None:
    with core() as c, pytest.raises(KernelRefused) as err:
        make(put(c, np.ones((16, 4, 6))))
    assert err.value.rule.name == "out-of-bounds"


@pytest.mark.parametrize("key", [1.0, [1, 2], None, "a"])
def test_what_is_no_index_is_refused(key: object) -> None:
    with core() as c, pytest.raises(KernelRefused) as err:
        put(c, np.ones((16, 4)))[:, key]
    assert err.value.rule.name == "parameter"


@pytest.mark.parametrize(
    ("pattern", "offset"),
    [([[24, 8], [1, 25]], 0), ([[24, 8], [1, 24]], 1), ([[24, 1], [24, 4]], 0), ([[24, 8], [-1, 4]], 26)],
)
def test_free_dimensions_stay_in_their_partition(pattern: list[list[int]], offset: int) -> None:
    with core() as c:
        tensor = put(c, np.ones((16, 24)))
        view = tensor.ap(pattern, offset=offset)
        with pytest.raises(KernelRefused) as err:
            nisa.tensor_copy(empty(c, view.shape), view)
        assert err.value.rule.name == "out-of-bounds"


def test_a_pattern_in_another_type_needs_whole_elements_in_each_partition() -> None:
    with core() as c:
        tensor = put(c, np.ones((16, 3)), "bfloat16")
        with pytest.raises(KernelRefused) as err:
            tensor.ap([[1, 16], [1, 1]], dtype="float32")
        assert err.value.rule.name == "operand-shape"
        with pytest.raises(KernelRefused) as err:
            put(c, np.ones((16, 4)), "bfloat16")[:, 1:4].ap([[2, 16], [1, 1]], dtype="float32")
        assert err.value.rule.name == "operand-shape"


def test_rows_that_indices_pick_are_not_sliced() -> None:
    with core() as c:
        table = c.allocate((8, 6), "float32", MemoryRegion.private_hbm)
        nisa.dma_copy(table, put(c, np.arange(48.0).reshape(8, 6)))
        picked = table.vector_select(0, put(c, [[3], [1], [7]], "int32"))
        for key in (slice(1, 3), 0):
            with pytest.raises(KernelRefused) as err:
                picked[key]
            assert err.value.rule.name == "parameter"
        dst = empty(c, (3, 2))
        nisa.dma_copy(dst, picked[0:3, 1:3])
        assert get(c, dst)[:, 0].tolist() == [19, 7, 43]


def test_views_of_tensor_indirection_are_refused() -> None:
    with core("trn3") as c:
        tensor, index = put(c, np.ones((32, 4, 6))), put(c, np.zeros((32, 1)), "uint16")
        for make in (lambda: tensor.indirect(index)[:, 2:4], lambda: tensor.indirect(index).reshape((32, 4, 8))):
            with pytest.raises(KernelRefused) as err:
                make()
            assert err.value.rule.name == "parameter"
        with pytest.raises(KernelRefused) as err:
            tensor.permute((0, 2, 1)).indirect(index)
        assert err.value.rule.name == "operand-shape"
