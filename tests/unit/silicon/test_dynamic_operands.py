"""Operands whose place a tensor tells at run time: the tensor is read by every instruction, and must be an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import outcrop.silicon.nki.isa as nisa
import outcrop.silicon.nki.language as nl
from kernel_rig import core, empty, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.tensor import Tensor


def at_run_time(c: Core, index: Tensor) -> Tensor:
    return put(c, np.ones((32, 64)))[:, nl.ds(index, 8)]


def ones(c: Core, columns: int = 8, dtype: str = "float32") -> Tensor:
    return put(c, np.ones((32, columns)), dtype)


INSTRUCTIONS: dict[str, Callable[[Core, Tensor], Any]] = {
    "tensor_copy": lambda c, t: nisa.tensor_copy(empty(c, (32, 8)), t),
    "tensor_copy to": lambda c, t: nisa.tensor_copy(t, ones(c)),
    "memset": lambda c, t: nisa.memset(t, 0.0),
    "tensor_copy_predicated": lambda c, t: nisa.tensor_copy_predicated(t, ones(c), ones(c, 8, "uint8")),
    "tensor_tensor": lambda c, t: nisa.tensor_tensor(empty(c, (32, 8)), t, ones(c), nl.add),
    "tensor_scalar": lambda c, t: nisa.tensor_scalar(empty(c, (32, 8)), t, nl.add, 1.0),
    "tensor_reduce": lambda c, t: nisa.tensor_reduce(empty(c, (32, 1)), nl.add, t, axis=1),
    "tensor_tensor_scan": lambda c, t: nisa.tensor_tensor_scan(empty(c, (32, 8)), t, ones(c), 0.0, nl.multiply, nl.add),
    "reciprocal": lambda c, t: nisa.reciprocal(empty(c, (32, 8)), t),
    "max8": lambda c, t: nisa.max8(empty(c, (32, 8)), t),
    "nc_transpose": lambda c, t: nisa.nc_transpose(empty(c, (8, 32), region="psum"), t),
    "nc_stream_shuffle": lambda c, t: nisa.nc_stream_shuffle(empty(c, (32, 8)), t, [0] * 32),
    "iota": lambda c, t: nisa.iota(t, [[1, 8]], 0, 1),
    "activation": lambda c, t: nisa.activation(empty(c, (32, 8)), nl.exp, t),
    "nc_matmul": lambda c, t: nisa.nc_matmul(empty(c, (8, 8), region="psum"), t, ones(c)),
    "dma_copy": lambda c, t: nisa.dma_copy(empty(c, (32, 8)), t),
}


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_records_name_the_tensor_that_a_place_comes_from_once(name: str, values: bool) -> None:
    with core(timing_only=not values) as c:
        index = put(c, [[3]], "int32") if values else empty(c, (1, 1), "int32")
        INSTRUCTIONS[name](c, at_run_time(c, index) if values else empty(c, (32, 64))[:, nl.ds(index, 8)])
        read = [each.allocation for each in c.trace[-1].reads]
        assert read.count(index.storage.allocation) == 1
        assert index.storage.allocation.last_use == c.trace[-1].index


@pytest.mark.parametrize(
    ("shape", "dtype", "region", "rule"),
    [
        ((1, 1), "float32", "sbuf", "operand-dtype"),
        ((32, 1), "int32", "sbuf", "operand-shape"),
        ((1, 1), "int32", "psum", "operand-memory"),
        ((1, 1), "int32", "private_hbm", "operand-memory"),
    ],
)
def test_what_is_no_index_is_refused(shape: tuple[int, ...], dtype: str, region: str, rule: str) -> None:
    with core() as c:
        nisa.tensor_copy(empty(c, (32, 8)), at_run_time(c, put(c, [[1]], "int32")))  # the verdict is not that of this
        index = c.allocate(shape, dtype, MemoryRegion(region))
        c.write(index, np.ones(shape))
        with pytest.raises(KernelRefused) as err:
            nisa.tensor_copy(empty(c, (32, 8)), at_run_time(c, index))
        assert err.value.rule.name == rule


def test_verdicts_do_not_pile_up() -> None:
    with core() as c:
        dst, src = empty(c, (32, 8)), ones(c)
        for step in range(10_050):
            nisa.activation(dst, nl.exp, src, scale=1.0 / (step + 1))
        assert len(c._verdicts) <= 10_000
