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
