"""Bytes that nothing wrote: carried through what is computed from them, refused where they would be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import outcrop.silicon.nki.isa as nisa
import outcrop.silicon.nki.language as nl
from kernel_rig import core, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.tensor import Tensor


def half_written(c: Core, partitions: int = 128, columns: int = 8) -> Tensor:
    """A tensor of ones of which the second half of the columns was never written."""
    tensor = empty(c, (partitions, columns))
    nisa.memset(dst=tensor[:, 0 : columns // 2], value=1.0)
    return tensor


def copy(dst: Tensor, src: Tensor) -> None:
    nisa.tensor_copy(dst=dst, src=src)


def add(dst: Tensor, src: Tensor) -> None:
    nisa.tensor_tensor(dst=dst, data1=src, data2=src, op=nl.add)


def exp(dst: Tensor, src: Tensor) -> None:
    nisa.activation(dst=dst, op=nl.exp, data=src)


def move(dst: Tensor, src: Tensor) -> None:
    nisa.dma_copy(dst=dst, src=src)


@pytest.mark.parametrize("compute", [copy, add, exp, move])
def test_elements_computed_from_unwritten_ones_are_unwritten(compute: Any) -> None:
    with core() as c:
        src, dst = half_written(c), empty(c, (128, 8))
        compute(dst, src)
        assert np.isfinite(get(c, dst[:, 0:4])).all()
        with pytest.raises(KernelRefused, match="uninitialized-read"):
            get(c, dst)
        nisa.memset(dst=dst[:, 4:8], value=0.0)
        assert np.isfinite(get(c, dst)).all()


def test_a_row_computed_from_an_unwritten_element_is_unwritten() -> None:
    with core() as c:
        src = empty(c, (128, 8))
        nisa.memset(dst=src[0:64], value=1.0)
        sums = empty(c, (128, 1))
        nisa.tensor_reduce(dst=sums, op=nl.add, data=src, axis=1)
        assert get(c, sums[0:64]).sum() == 64 * 8
        scaled = put(c, np.ones((128, 8), np.float32))
        nisa.tensor_scalar(dst=scaled, data=scaled, op0=nl.multiply, operand0=sums)
        assert get(c, scaled[0:64]).sum() == 64 * 64
        with pytest.raises(KernelRefused):
            get(c, scaled[64:128])


def test_what_reaches_shared_memory_is_refused_and_told_by_the_first_read() -> None:
    with core() as c:
        src, dst = half_written(c), empty(c, (128, 8))
        hbm = empty(c, (128, 8), region="shared_hbm")
        nisa.tensor_copy(dst=dst, src=src)  # the first read
        nisa.activation(dst=dst, op=nl.exp, data=dst)
        nisa.dma_copy(dst=hbm[:, 0:4], src=dst[:, 0:4])
        with pytest.raises(KernelRefused) as err:
            nisa.dma_copy(dst=hbm, src=dst)
    text = str(err.value)
    assert err.value.rule.name == "uninitialized-read"
    assert "512 of 1024 elements of" in text
    assert "# the first read" in text
    assert "dma_copy in line" in text


def test_private_memory_keeps_what_is_unwritten() -> None:
    with core() as c:
        src, back = half_written(c), empty(c, (128, 8))
        scratch = empty(c, (128, 8), region="private_hbm")
        nisa.dma_copy(dst=scratch, src=src)
        nisa.dma_copy(dst=back, src=scratch)
        assert get(c, back[:, 0:4]).sum() == 512
        with pytest.raises(KernelRefused):
            get(c, back)


def test_a_tensor_that_nothing_wrote_at_all_is_refused_at_once() -> None:
    with core() as c, pytest.raises(KernelRefused, match="uninitialized-read"):
        nisa.tensor_copy(dst=empty(c, (128, 8)), src=empty(c, (128, 8)))


def test_matrix_products_registers_and_indices_refuse_at_once() -> None:
    with core() as c:
        src = half_written(c, columns=128)
        whole = put(c, np.ones((128, 128), np.float32))
        with pytest.raises(KernelRefused):
            nisa.nc_matmul(dst=empty(c, (128, 128), region="psum"), stationary=whole, moving=src)
        index = empty(c, (4, 1), "int32")
        c.write(index[0:2], np.zeros((2, 1), np.int32))
        table = put(c, np.ones((4, 8)), "float32", "shared_hbm")
        with pytest.raises(KernelRefused):
            nisa.dma_copy(dst=empty(c, (4, 8)), src=table.vector_select(0, index))


def test_what_one_instruction_carries_is_not_the_next_ones() -> None:
    with core() as c:
        src, dst = half_written(c), empty(c, (128, 8))
        nisa.tensor_copy(dst=dst, src=src)
        other = empty(c, (128, 8))
        nisa.memset(dst=other, value=2.0)
        assert get(c, other).sum() == 2048


def missing_in(tensor: Tensor) -> list[bool]:
    """Of the first partition, which elements count as not written."""
    found = tensor.storage.unwritten(tensor)
    return [False] * tensor.free_size if found is None else found[0].reshape(-1).tolist()


def test_a_scan_carries_unwritten_elements_onwards() -> None:
    with core() as c:
        src = empty(c, (32, 6))
        nisa.memset(dst=src[:, 0:2], value=1.0)
        nisa.memset(dst=src[:, 3:6], value=1.0)
        dst = empty(c, (32, 6))
        nisa.tensor_tensor_scan(dst, src, src, 0.0, nl.multiply, nl.add)
        assert missing_in(dst) == [False] * 2 + [True] * 4
        nisa.tensor_scalar_cumulative(
            dst, src, op0=nl.add, op1=nl.add, imm0=0.0, reduce_cmd=nisa.reduce_cmd.reset_reduce
        )
        assert missing_in(dst) == [False] * 2 + [True] * 4
        whole = put(c, np.ones((32, 6)), "float32")
        nisa.tensor_scalar_cumulative(dst, whole, op0=nl.add, op1=nl.add, imm0=0.0, reduce_cmd=nisa.reduce_cmd.reduce)
        assert missing_in(dst) == [True] * 6  # it goes on from what the accumulators kept
        nisa.tensor_scalar_cumulative(
            dst, whole, op0=nl.add, op1=nl.add, imm0=0.0, reduce_cmd=nisa.reduce_cmd.reset_reduce
        )
        assert missing_in(dst) == [False] * 6


def test_accumulators_remember_that_they_added_unwritten_elements() -> None:
    with core() as c:
        dst, total = empty(c, (64, 8)), empty(c, (64, 1))
        src = empty(c, (64, 8))
        nisa.memset(dst=src[0:32], value=1.0)
        whole = put(c, np.zeros((64, 8)), "float32")
        for first, want in ((src, 32), (whole, 64)):
            nisa.activation(dst, nl.exp, first, reduce_op=nl.add, reduce_cmd=nisa.reduce_cmd.reset_reduce)
            nisa.activation(dst, nl.exp, whole, reduce_op=nl.add, reduce_cmd=nisa.reduce_cmd.reduce, reduce_res=total)
            assert np.isfinite(get(c, total[0:32])).all()
            lost = total.storage.unwritten(total)
            assert 64 - (0 if lost is None else int(lost.sum())) == want


@pytest.mark.parametrize(("at", "want"), [(1, False), (6, True)])
def test_gathers_carry_what_they_pick(at: int, want: bool) -> None:
    with core() as c:
        src, dst = half_written(c, 32), empty(c, (32, 8))
        nisa.nc_n_gather(dst, src, put(c, np.full((32, 8), at), "uint32"))
        assert missing_in(dst) == [want] * 8
        other = empty(c, (32, 8))
        nisa.local_gather(other, src, put(c, np.full((32, 1), at), "uint16"), 1, 8)
        assert missing_in(other) == [want] * 8


def test_searches_and_statistics_depend_on_the_whole_row() -> None:
    with core() as c:
        src, dst, at = half_written(c, 32), empty(c, (32, 8)), empty(c, (32, 8), "uint32")
        nisa.max8(dst, src)
        assert missing_in(dst) == [True] * 8
        nisa.nc_find_index8(at, src, put(c, np.ones((32, 8)), "float32"))
        assert missing_in(at) == [True] * 8
        stats = empty(c, (32, 6))
        nisa.bn_stats(stats, src[:, 2:8])
        assert missing_in(stats) == [True] * 6


def test_reductions_carry_by_the_elements_they_reduce() -> None:
    with core() as c:
        src, sums, row = half_written(c, 32), empty(c, (32, 4)), empty(c, (1, 8))
        nisa.tensor_reduce(sums, nl.add, src.reshape((32, 4, 2)), axis=2)
        assert missing_in(sums) == [False, False, True, True]
        nisa.tensor_partition_reduce(row, nl.add, src)
        assert missing_in(row) == [False] * 4 + [True] * 4


def test_selections_leave_unwritten_elements_out() -> None:
    with core() as c:
        src, dst = half_written(c, 32), empty(c, (32, 8))
        for limit in (3, 5):  # elements 0 to limit are kept
            nisa.affine_select(
                dst=dst, pattern=[[-1, 8]], offset=limit, channel_multiplier=0, on_true_tile=src, on_false_value=0.0,
                cmp_op=nl.greater_equal,
            )  # fmt: skip
            assert missing_in(dst) == [4 <= each <= limit for each in range(8)]
            bounds = [put(c, np.full((32, 1), each), "float32") for each in (0, limit)]
            nisa.range_select(dst, src, nl.greater_equal, nl.less_equal, *bounds)
            assert missing_in(dst) == [4 <= each <= limit for each in range(8)]
            predicate = put(c, np.tile(np.arange(8) <= limit, (32, 1)), "uint8")
            nisa.select_reduce(dst, predicate, src, 0.0)
            assert missing_in(dst) == [4 <= each <= limit for each in range(8)]
            nisa.select_reduce(dst, predicate, src, 0.0, reverse_pred=True)
            assert missing_in(dst) == [each > max(limit, 3) for each in range(8)]


def test_a_dma_transpose_turns_the_unwritten_part_too() -> None:
    with core() as c:
        src, dst = empty(c, (32, 32), "bfloat16"), empty(c, (32, 32), "bfloat16")
        nisa.memset(dst=src[:, 0:16], value=1.0)
        nisa.dma_transpose(dst, src)
        assert np.isfinite(get(c, dst[0:16]).astype(np.float32)).all()
        assert missing_in(dst[16:32]) == [True] * 32


def test_a_tensor_written_whole_forgets_who_overwrote_it() -> None:
    with core() as c:
        first = put(c, np.ones((32, 8)), "float32", address=(0, 0))
        put(c, np.ones((32, 4)), "float32", address=(0, 16))
        with pytest.raises(KernelRefused, match="address-overlap"):
            get(c, first)
        nisa.tensor_copy(first, put(c, np.ones((32, 8)), "float32"))
        nisa.tensor_copy(first, half_written(c, 32))
        copied = empty(c, (32, 8))
        nisa.tensor_copy(copied, first)
        assert missing_in(copied) == [False] * 4 + [True] * 4
