"""Memory: poison by byte, explicit addresses, limits, and what a trace keeps."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.base.errors import UserError
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.rules import KernelRefused, KernelWarning, relaxed_names
from outcrop.silicon.device.tensor import ElementIndex, Tensor


def rule_of(err: pytest.ExceptionInfo[KernelRefused]) -> str:
    return err.value.rule.name


def test_reading_what_nothing_wrote_is_refused_and_says_where() -> None:
    with core() as c:
        tensor = empty(c, (128, 64))
        c.write(tensor[:, 0:63], np.zeros((128, 63), np.float32))
        assert get(c, tensor[:, 0:63]).sum() == 0
        with pytest.raises(KernelRefused) as err:
            c.read(tensor, defined=True)
    assert rule_of(err) == "uninitialized-read"
    assert "128 of 8192 elements" in str(err.value)
    assert "the first at [0, 63]" in str(err.value)
    assert "test_memory.py" in str(err.value)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    writes=st.lists(
        st.tuples(st.integers(0, 15), st.integers(1, 16), st.integers(1, 3), st.sampled_from(["uint8", "int16"])),
        max_size=6,
    ),
    read=st.tuples(st.integers(0, 15), st.integers(1, 16), st.integers(1, 3)),
)
def test_poison_is_kept_by_byte_whatever_the_element_size(
    writes: list[tuple[int, int, int, str]], read: tuple[int, int, int]
) -> None:
    written = np.zeros(64, np.bool_)
    with core() as c:
        tensor = empty(c, (2, 16), "float32")
        for start, count, step, dtype in writes:
            view = tensor.view(dtype)[:, start : min(start + count * step, view_size(dtype)) : step]
            c.write(view, np.ones(view.shape, np.uint8))
            size = view.dtype.itemsize
            for at in range(view.shape[1]):
                first = (start + at * step) * size
                written[first : first + size] = True
        start, count, step = read
        view = tensor.view("int16")[:, start : min(start + count * step, 32) : step]
        needed = np.concatenate([np.arange(2) + 2 * (start + at * step) for at in range(view.shape[1])])
        if written[needed].all():
            get(c, view)
        else:
            with pytest.raises(KernelRefused):
                get(c, view)


def view_size(dtype: str) -> int:
    return {"uint8": 64, "int16": 32}[dtype]


def test_relaxed_reads_of_poison_warn_and_give_nan() -> None:
    with core(relaxed={"uninitialized-read"}) as c:
        tensor = empty(c, (4, 4))
        with pytest.warns(KernelWarning, match="uninitialized-read"):
            values = get(c, tensor)
        assert np.isnan(values).all()
        assert [each[0].name for each in c.warned] == ["uninitialized-read"]


def test_tensors_at_explicit_addresses_share_bytes() -> None:
    with core() as c:
        one = put(c, np.arange(8, dtype=np.int32).reshape(2, 4), address=(32, 64))
        two = empty(c, (2, 4), "int32")
        assert one.start_partition == 32
        assert one.start_byte == 64
        other = c.allocate((2, 2), "int32", address=(32, 72))
        c.write(other, np.array([[90, 91], [92, 93]], np.int32))
        with pytest.raises(KernelRefused) as err:
            get(c, one)
        assert rule_of(err) == "address-overlap"
        assert "4 of 8 elements" in str(err.value)
        assert get(c, one[:, 0:2]).tolist() == [[0, 1], [4, 5]]
        c.write(one, np.zeros((2, 4), np.int32))
        assert get(c, one).sum() == 0
        with pytest.raises(KernelRefused):
            get(c, other)
        c.write(two, np.zeros((2, 4), np.int32))


def test_elements_chosen_one_by_one_at_explicit_addresses() -> None:
    with core() as c:
        tensor = put(c, np.arange(12, dtype=np.int32).reshape(3, 4), address=(5, 8))
        elements = np.array([[11, 0], [4, 4]])
        valid = np.array([[True, True], [True, False]])
        chosen = Tensor(tensor.storage, (2, 2), (4, 1), 0, tensor.dtype, None, ElementIndex(elements, valid))
        assert get(c, chosen).tolist() == [[11, 0], [4, 0]]
        c.write(chosen, np.array([[70, 71], [72, 73]], np.int32))
        assert get(c, tensor).tolist() == [[71, 1, 2, 3], [72, 5, 6, 7], [8, 9, 10, 70]]


def test_an_address_is_free_again_when_its_tensor_is_done() -> None:
    with core() as c:
        for round_ in range(3):
            tensor = put(c, np.full((128, 16), round_, np.float32), address=(0, 0))
            assert get(c, tensor)[0, 0] == round_
        first = put(c, np.zeros((128, 4), np.float32), address=(0, 1024))
        del first
        gc.collect()
        again = c.allocate((128, 4), "float32", address=(0, 1024))
        with pytest.raises(KernelRefused) as err:
            get(c, again)
    assert rule_of(err) == "uninitialized-read"


def test_relaxed_overlap_reads_what_is_there() -> None:
    with core(relaxed={"address-overlap"}) as c:
        one = put(c, np.zeros((2, 4), np.int32), address=(0, 0))
        put(c, np.full((2, 2), 7, np.int32), address=(0, 8))
        with pytest.warns(KernelWarning, match="address-overlap"):
            assert get(c, one).tolist() == [[0, 0, 7, 7]] * 2


@pytest.mark.parametrize(
    ("shape", "region", "address", "rule"),
    [
        ((129, 4), "sbuf", None, "partition-count"),
        ((128, 57345), "sbuf", None, "address-range"),
        ((128, 4097), "psum", None, "address-range"),
        ((64, 4), "sbuf", (65, 0), "address-range"),
        ((64, 4), "sbuf", (0, 229376 - 15), "address-range"),
        ((64, 4), "psum", (0, -4), "address-range"),
    ],
)
def test_what_does_not_fit_its_memory_is_refused(
    shape: tuple[int, ...], region: str, address: tuple[int, int] | None, rule: str
) -> None:
    with core() as c, pytest.raises(KernelRefused) as err:
        c.allocate(shape, "float32", MemoryRegion(region), address=address)
    assert rule_of(err) == rule


def test_a_shape_without_elements_is_a_user_error() -> None:
    with core() as c, pytest.raises(UserError, match="at least 1"):
        c.allocate((128, 0), "float32")


def test_a_trace_keeps_patterns_and_lifetimes_but_no_data() -> None:
    with core() as c:
        tensor = put(c, np.zeros((128, 512), np.float32))
        view = tensor[32:64, 128:256:2]
        c.record("memset", Engine.vector, (tensor,), ())
        handle = c.record("tensor_copy", Engine.vector, (view,), (tensor[0:32, 0:64],), {"x": 1}, "mine")
        access = handle.writes[0]
        assert access.start_partition == 32
        assert access.partitions == 32
        assert access.elements_per_partition == 64
        assert access.runs() == (512, 4, [(8, 64)])
        assert access.span() == (512, 512 + 63 * 8 + 4)
        assert (access.allocation.first_use, access.allocation.last_use) == (0, 1)
        assert handle.source.function == "test_a_trace_keeps_patterns_and_lifetimes_but_no_data"
        later = c.record("tensor_copy", Engine.vector, (view,), (view,)).depends_on(handle)
        assert later.after == [handle]
        assert c.trace == [c.trace[0], handle, later]


def test_runs_merge_what_lies_back_to_back() -> None:
    with core() as c:
        tensor = empty(c, (8, 4, 16), "bfloat16")
        assert tensor.access().runs() == (0, 128, [])
        assert tensor[:, 1:3, :].access().runs() == (32, 64, [])
        assert tensor[:, :, 0:8].access().runs() == (0, 16, [(32, 4)])
        assert tensor[:, ::2, ::4].access().runs() == (0, 2, [(64, 2), (8, 4)])
        host = empty(c, (8, 64), "float32", "shared_hbm")
        assert host[2:6].access().runs() == (512, 1024, [])
        assert host[:, 0:4].access().runs() == (0, 16, [(256, 8)])


def test_verdicts_are_kept_per_signature() -> None:
    calls = []

    def rule_check(core_: object, tensor: object, word: str) -> str:
        calls.append(word)
        return word

    with core() as c:
        tensor = empty(c, (128, 8))
        for _ in range(3):
            assert c.checked(rule_check, tensor[:, 0:4], "a") == "a"
        c.checked(rule_check, tensor[:, 0:5], "a")
        c.checked(rule_check, tensor[:, 0:4], "b")
        c.checked(rule_check, tensor.view("int32")[:, 0:4], "a")
    assert calls == ["a", "a", "b", "a"]


def test_relaxing_an_unknown_rule_says_which_exist() -> None:
    with pytest.raises(UserError, match="uninitialized-read"):
        relaxed_names({"uninitialised-read"})
    with pytest.raises(UserError, match="cannot be relaxed"):
        relaxed_names({"out-of-bounds"})


def test_timing_only_keeps_no_bytes() -> None:
    with core(timing_only=True) as c:
        tensor = empty(c, (128, 57344))
        assert tensor.storage.buffer is None
