"""PSUM accumulation: which bytes a matmul overwrites and which it adds to, against a model kept element by element."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.regions import PSUM
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa


@contextmanager
def refusal(text: str) -> Iterator[None]:
    """The block must break the accumulation rule, and the message must say what was wrong."""
    with pytest.raises(KernelRefused, match=text) as info:
        yield
    assert info.value.rule.name == "psum-accumulation"


def constant(on: Core, dst: Tensor, value: float, **options: Any) -> None:
    """A matmul whose product is ``value`` everywhere."""
    free = dst.shape[1:]
    ones, values = np.ones((1, dst.shape[0])), np.full((1, *free), value)
    nisa.nc_matmul(dst, put(on, ones, "bfloat16"), put(on, values, "bfloat16"), **options)


def test_none_overwrites_first_and_adds_from_then_on() -> None:
    with core() as on:
        dst = empty(on, (8, 16), region="psum")
        for expected in (1.0, 3.0, 6.0):
            constant(on, dst, {1.0: 1.0, 3.0: 2.0, 6.0: 3.0}[expected])
            np.testing.assert_array_equal(get(on, dst), np.full((8, 16), expected))


def test_a_sum_over_k_is_one_of_float32() -> None:
    random = np.random.default_rng(0)
    left, right = random.standard_normal((8, 128, 64)), random.standard_normal((8, 128, 96))
    for how in ("none", "flag"):
        with core() as on:
            dst = empty(on, (64, 96), region="psum")
            for k in range(8):
                accumulate = None if how == "none" else k > 0
                nisa.nc_matmul(dst, put(on, left[k], "float32"), put(on, right[k], "float32"), accumulate=accumulate)
            expected = np.einsum("tkm,tkn->mn", left, right)
            np.testing.assert_allclose(get(on, dst), expected, rtol=1e-4, atol=1e-4)


def test_false_overwrites_whatever_was_there() -> None:
    with core() as on:
        dst = empty(on, (8, 16), region="psum")
        constant(on, dst, 5, accumulate=False)
        constant(on, dst, 3, accumulate=False)
        np.testing.assert_array_equal(get(on, dst), np.full((8, 16), 3.0))
        on.write(dst, np.full((8, 16), 9.0, np.float32))
        constant(on, dst, 2, accumulate=False)
        constant(on, dst, 2, accumulate=True)
        np.testing.assert_array_equal(get(on, dst), np.full((8, 16), 4.0))


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_adding_to_bytes_that_nothing_wrote(target: str) -> None:
    with core(target) as on:
        dst = empty(on, (8, 16), region="psum")
        with refusal(r"128 of 128 elements \(the first at \[0, 0\]\)"):
            constant(on, dst, 1, accumulate=True)
        constant(on, dst[:, :6], 1)
        with refusal(r"80 of 128 elements \(the first at \[0, 6\]\)"):
            constant(on, dst, 1, accumulate=True)


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_adding_to_what_another_engine_wrote_is_refused_where_the_chip_cannot(target: str) -> None:
    with core(target) as on:
        dst = put(on, np.zeros((8, 16)), "float32", region="psum")
        with refusal("another engine wrote 128 of 128"):
            constant(on, dst, 1, accumulate=True)
        constant(on, dst, 1, accumulate=False)
        on.write(dst[2:3, 4:5], np.ones((1, 1), np.float32))
        with refusal(r"another engine wrote 1 of 128 elements \(the first at \[2, 4\]\)"):
            constant(on, dst, 1, accumulate=True)
        constant(on, dst[:, 8:], 1, accumulate=True)
        np.testing.assert_array_equal(get(on, dst[:, 8:]), np.full((8, 8), 2.0))


def test_adding_to_what_another_engine_wrote_where_the_chip_can() -> None:
    with core("trn3") as on:
        for accumulate in (True, None):
            dst = put(on, np.full((8, 16), 5.0), "float32", region="psum")
            constant(on, dst, 1, accumulate=accumulate)
            np.testing.assert_array_equal(get(on, dst), np.full((8, 16), 6.0))


def test_none_over_another_engines_values_is_refused_unless_they_are_zero() -> None:
    with core() as on:
        dst = put(on, np.zeros((8, 16)), "float32", region="psum")
        constant(on, dst, 1)
        constant(on, dst, 1)
        np.testing.assert_array_equal(get(on, dst), np.full((8, 16), 2.0))
        dst = put(on, np.eye(8, 16), "float32", region="psum")
        with refusal(r"not zero to 8 of 128 elements"):
            constant(on, dst, 1)
    with core(relaxed={"psum-accumulation"}) as on:
        dst = put(on, np.eye(8, 16), "float32", region="psum")
        with pytest.warns(KernelWarning, match="not zero"):
            constant(on, dst, 1)
        np.testing.assert_array_equal(get(on, dst), np.ones((8, 16)))


def test_relaxed_it_adds_to_whatever_the_bytes_are() -> None:
    with core(relaxed=True) as on:
        dst = empty(on, (8, 16), region="psum")
        with pytest.warns(KernelWarning, match="never written"):
            constant(on, dst, 1, accumulate=True)
        assert np.isnan(get(on, dst)).all()


def test_windows_that_overlap_add_where_they_overlap() -> None:
    """As a convolution accumulates: each window overwrites its new columns and adds to the others."""
    with core() as on:
        dst = empty(on, (4, 10), region="psum")
        for start in range(0, 7, 2):
            constant(on, dst[:, start : start + 4], 1)
        np.testing.assert_array_equal(get(on, dst), np.tile([1, 1, 2, 2, 2, 2, 2, 2, 1, 1], (4, 1)))


def test_convolution_windows_in_two_dimensions() -> None:
    random = np.random.default_rng(0)
    image, kernel = random.integers(-3, 4, (5, 6, 6)), random.integers(-3, 4, (3, 3, 5, 7))
    with core() as on:
        data = put(on, image, "bfloat16")
        dst = empty(on, (7, 8, 8), region="psum")
        expected = np.zeros((7, 8, 8))
        for y in range(3):
            for x in range(3):  # a transposed convolution: every tap writes its own shifted window
                nisa.nc_matmul(dst[:, y : y + 6, x : x + 6], put(on, kernel[y, x], "bfloat16"), data)
                expected[:, y : y + 6, x : x + 6] += np.einsum("cm,chw->mhw", kernel[y, x], image)
        np.testing.assert_array_equal(get(on, dst), expected)


Step = tuple[str, int, int, int, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["none", "add", "overwrite", "engine", "zero", "halves"]),
        st.sampled_from([0, 32]),  # first partition
        st.integers(1, 32),
        st.integers(0, 11),  # first column
        st.integers(1, 12),
        st.integers(1, 2),  # step
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(steps=steps, any_engine=st.booleans())
def test_any_sequence_of_writes_agrees_with_a_model_by_element(steps: list[Step], any_engine: bool) -> None:
    values, state = np.zeros((64, 12)), np.zeros((64, 12), int)  # 0 nothing, 1 a sum, 2 another engine's
    with core("trn3" if any_engine else "trn2") as on:
        whole = empty(on, (64, 12), region="psum")
        for number, (what, row, rows, column, columns, step) in enumerate(steps):
            at = (slice(row, row + rows), slice(column, min(column + columns, 12), step))
            dst, seen, value = whole[at], state[at].copy(), float(number + 1)
            if what in ("engine", "zero"):
                on.write(dst, np.full(dst.shape, value if what == "engine" else 0.0, np.float32))
                values[at], state[at] = value if what == "engine" else 0.0, 2
                continue
            if what == "halves":  # another engine writes an element as two of 16 bits
                on.write(whole.view("uint16")[at[0], 2 * column : 2 * column + 2], np.zeros((rows, 2), np.uint16))
                whole_element = (at[0], slice(column, column + 1))
                values[whole_element], state[whole_element] = 0.0, 2
                continue
            accumulate = {"none": None, "add": True, "overwrite": False}[what]
            if what == "overwrite":
                legal, adds = True, np.zeros_like(seen, bool)
            elif what == "add":
                legal, adds = bool(np.all(seen == 1) or (any_engine and np.all(seen > 0))), np.ones_like(seen, bool)
            else:
                adds = (seen > 0) if any_engine else (seen == 1)
                legal = any_engine or not np.any((seen == 2) & (values[at] != 0))
            if not legal:
                with refusal("accumulate="):
                    constant(on, dst, value, accumulate=accumulate)
                continue
            constant(on, dst, value, accumulate=accumulate)
            values[at] = np.where(adds, values[at], 0) + value
            state[at] = 1
        held = whole.storage.unwritten(whole)
        written = np.ones((64, 12), bool) if held is None else ~held
        np.testing.assert_array_equal(written, state > 0)
        np.testing.assert_array_equal(np.array(whole.array)[written], values[written])


def test_bfloat16_sums_round_to_nearest_even_at_every_addition() -> None:
    random = np.random.default_rng(0)
    left, right = random.standard_normal((5, 64, 16)), random.standard_normal((5, 64, 24))
    with core("trn3") as on:
        dst = empty(on, (16, 24), "bfloat16", region="psum")
        expected = np.zeros((16, 24), ml_dtypes.bfloat16)
        for k in range(5):
            one, two = put(on, left[k], "bfloat16"), put(on, right[k], "bfloat16")
            nisa.nc_matmul(dst, one, two)
            product = np.matmul(get(on, one).astype(np.float32).T, get(on, two).astype(np.float32))
            expected = (expected.astype(np.float32) + product).astype(ml_dtypes.bfloat16)
            np.testing.assert_array_equal(get(on, dst), expected)


def test_neighbouring_bfloat16_sums_do_not_touch_each_other() -> None:
    with core("trn3") as on:
        dst = empty(on, (4, 8), "bfloat16", region="psum")
        constant(on, dst[:, 0:1], 1)
        with refusal("never written"):
            constant(on, dst[:, 0:2], 1, accumulate=True)
        constant(on, dst[:, 0:2], 2)
        np.testing.assert_array_equal(get(on, dst[:, 0:2]).astype(float), [[3, 2]] * 4)


def test_half_an_element_written_by_another_engine_is_no_sum() -> None:
    with core() as on:
        dst = empty(on, (8, 16), region="psum")
        constant(on, dst, 1)
        on.write(dst.view("uint16")[:, 6:7], np.zeros((8, 1), np.uint16))
        with refusal(r"another engine wrote 8 of 128 elements \(the first at \[0, 3\]\)"):
            constant(on, dst, 1, accumulate=True)


def test_a_tensor_written_over_at_the_same_address_is_no_sum_any_more() -> None:
    with core() as on:
        first = on.allocate((8, 16), "float32", PSUM, address=(0, 0))
        second = on.allocate((8, 16), "float32", PSUM, address=(0, 32))
        constant(on, first, 1)
        constant(on, second, 2)  # its first 8 columns are the last 8 of the other
        with refusal(r"64 of 128 elements \(the first at \[0, 8\]\)"):
            constant(on, first, 4, accumulate=True)
        constant(on, first[:, :8], 4, accumulate=True)
        np.testing.assert_array_equal(get(on, first[:, :8]), np.full((8, 8), 5.0))
        with pytest.raises(KernelRefused) as info:
            get(on, first)
        assert info.value.rule.name == "address-overlap"
        constant(on, first, 1)  # overwrites what was taken, adds to the rest
        np.testing.assert_array_equal(get(on, first), np.repeat([[6.0, 1.0]], 8, axis=1).repeat(8, axis=0))
        np.testing.assert_array_equal(get(on, second[:, 8:]), np.full((8, 8), 2.0))


def test_a_transpose_overwrites_and_cannot_add() -> None:
    data = np.arange(64.0).reshape(8, 8)
    with core() as on:
        stationary, identity = put(on, data, "float32"), put(on, np.eye(8), "float32")
        dst = empty(on, (8, 8), region="psum")
        for _ in range(2):
            nisa.nc_matmul(dst, stationary, identity, is_transpose=True)
            np.testing.assert_array_equal(get(on, dst), data.T)
        with refusal("is_transpose=True and accumulate=True"):
            nisa.nc_matmul(dst, stationary, identity, is_transpose=True, accumulate=True)
        constant(on, dst, 1, accumulate=True)
        np.testing.assert_array_equal(get(on, dst), data.T + 1)


def test_timing_only_follows_no_state() -> None:
    with core(timing_only=True) as on:
        dst = empty(on, (8, 16), region="psum")
        constant(on, dst, 1, accumulate=True)
        assert on.trace[-1].params["accumulate"] is True
        assert dst.storage.accumulation is None


def test_scattered_sums_are_kept_by_the_elements_that_they_reach() -> None:
    with core("trn3") as on:
        whole = empty(on, (32, 8), "bfloat16", region="psum")
        columns = {name: np.resize(picked, (32, 1)) for name, picked in (("low", [1, 3]), ("both", [3, 5]))}
        indices = {name: put(on, picked, "int32") for name, picked in columns.items()}
        one, two = put(on, np.ones((32, 32)), "bfloat16"), put(on, np.ones((32, 2)), "bfloat16")
        made = nisa.nc_matmul(whole.indirect(indices["low"], 2), one, two)
        assert indices["low"].access() in made.reads
        nisa.nc_matmul(whole.indirect(indices["both"], 2), one, two)
        np.testing.assert_array_equal(get(on, whole[:, 1:6:2]).astype(float), [[32, 64, 32]] * 32)
        with refusal("never written"):
            nisa.nc_matmul(whole[:, 0:2], one, two, accumulate=True)
        nisa.nc_matmul(whole.indirect(indices["low"], 2), one, two, accumulate=True)
        nisa.nc_matmul(whole.indirect(indices["both"], 2), one, two, accumulate=False)
        np.testing.assert_array_equal(get(on, whole[:, 1:6:2]).astype(float), [[64, 32, 32]] * 32)


def test_a_run_time_column_of_psum_is_added_to_where_it_is() -> None:
    with core() as on:
        whole = empty(on, (8, 4, 16), region="psum")
        slot = put(on, np.full((1, 1), 2), "int32")
        dst = whole[:, slot, :]
        for _ in range(2):
            made = nisa.nc_matmul(dst, put(on, np.ones((4, 8)), "bfloat16"), put(on, np.ones((4, 16)), "bfloat16"))
        assert slot.access() in made.reads
        np.testing.assert_array_equal(get(on, whole[:, 2]), np.full((8, 16), 8.0))
        with pytest.raises(KernelRefused):
            get(on, whole[:, 1])
