"""Tensor indirection: which elements indirect() views stand for, on which engine, and where indices must lie."""

from __future__ import annotations

import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.indirection import on_tensor_engine
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa


def offsets_of(index, group, partition, count):
    """Offset i of a partition, as documented: index[i % G, i // G] of its group."""
    base = partition // group * group
    return [int(index[base + i % group, i // group]) for i in range(count)]


@pytest.mark.parametrize(("group", "count"), [(16, 5), (16, 48), (32, 33), (32, 96)])
@pytest.mark.parametrize("partitions", [32, 128])
def test_a_gather_picks_columns_by_group(group, count, partitions):
    rng = np.random.default_rng(1)
    index = rng.integers(0, 40, (partitions, 3))
    with core("trn3") as on:
        data = put(on, rng.standard_normal((partitions, 40)).astype(np.float32))
        view = data.indirect(put(on, index, "int32"), count)
        view = on_tensor_engine(view) if group == 32 else view
        expected = [[get(on, data)[p, at] for at in offsets_of(index, group, p, count)] for p in range(partitions)]
        assert np.array_equal(get(on, view), np.array(expected))


def test_instructions_gather_and_scatter():
    rng = np.random.default_rng(2)
    index = np.stack([rng.permutation(32) for _ in range(2)])  # one permutation for each group of 16
    held = index.reshape(2, 2, 16).transpose(0, 2, 1).reshape(32, 2)
    with core("trn3") as on:
        data, where = put(on, rng.standard_normal((32, 32)).astype(np.float32)), put(on, held, "uint16")
        gathered, back = empty(on, (32, 32)), empty(on, (32, 32))
        nisa.tensor_copy(gathered, data.indirect(where, 32))
        expected = np.take_along_axis(get(on, data), index.repeat(16, 0), axis=1)
        assert np.array_equal(get(on, gathered), expected)
        nisa.tensor_copy(back.indirect(where, 32), gathered)
        assert np.array_equal(get(on, back), get(on, data))


def test_the_tensor_engine_has_groups_of_32():
    rng = np.random.default_rng(3)
    index = rng.integers(0, 64, (32, 1))
    with core("trn3") as on:
        data = put(on, rng.integers(-4, 5, (32, 64)), "bfloat16")
        moving = put(on, rng.integers(-4, 5, (32, 16)), "bfloat16")
        dst = empty(on, (32, 16), "float32", "psum")
        nisa.nc_matmul(dst, data.indirect(put(on, index, "int32"), 32), moving)
        stationary = get(on, data).astype(np.float64)[:, index[:, 0]]
        assert np.array_equal(get(on, dst), stationary.T @ get(on, moving).astype(np.float64))


def test_indices_outside_the_data_are_refused():
    with core("trn3") as on:
        data, index = put(on, np.zeros((16, 8), np.float32)), put(on, np.full((16, 1), 8, np.int32))
        with pytest.raises(KernelRefused) as err:
            nisa.tensor_copy(empty(on, (16, 4)), data.indirect(index, 4))
        assert err.value.rule.name == "out-of-bounds"


def test_an_index_starts_at_a_quadrant():
    with core("trn3") as on:
        data, index = zeros(on, (32, 8)), zeros(on, (32, 1), "int32")
        with pytest.raises(KernelRefused, match="starts at a multiple of 32") as err:
            nisa.tensor_copy(empty(on, (16, 4)), data[16:32].indirect(index[16:32], 4))
        assert err.value.rule.name == "tensor-indirection"


def zeros(on, shape, dtype="float32", region="sbuf"):
    return put(on, np.zeros(shape), dtype, region)


@pytest.mark.parametrize(
    ("target", "call", "rule"),
    [
        (
            "trn2",
            lambda on: nisa.tensor_copy(
                empty(on, (16, 4)), zeros(on, (16, 8)).indirect(zeros(on, (16, 1), "int32"), 4)
            ),
            "generation",
        ),
        (
            "trn3",
            lambda on: nisa.max8(empty(on, (16, 8)), zeros(on, (16, 8)).indirect(zeros(on, (16, 1), "int32"), 16)),
            "tensor-indirection",
        ),
        (
            "trn3",
            lambda on: nisa.tensor_tensor(
                empty(on, (16, 4)),
                zeros(on, (16, 4)),
                zeros(on, (16, 8)).indirect(zeros(on, (16, 1), "int32"), 4),
                "add",
            ),
            "tensor-indirection",
        ),
        (
            "trn3",
            lambda on: nisa.tensor_copy(empty(on, (16, 4)), zeros(on, (16, 8)).indirect(zeros(on, (16, 1)), 4)),
            "tensor-indirection",
        ),
        (
            "trn3",
            lambda on: nisa.tensor_copy(
                empty(on, (16, 4)), zeros(on, (16, 8)).indirect(zeros(on, (16, 1), "int32", "psum"), 4)
            ),
            "tensor-indirection",
        ),
        (
            "trn3",
            lambda on: nisa.tensor_copy(empty(on, (8, 4)), zeros(on, (8, 8)).indirect(zeros(on, (8, 1), "int32"), 4)),
            "tensor-indirection",
        ),
        (
            "trn3",
            lambda on: nisa.tensor_copy(
                empty(on, (16, 4)), zeros(on, (128, 8))[32:48].indirect(zeros(on, (16, 1), "int32"), 4)
            ),
            "tensor-indirection",
        ),
        (
            "trn3",
            lambda on: nisa.tensor_copy(
                zeros(on, (16, 4)).indirect(zeros(on, (128, 1), "int32")[32:48], 4), zeros(on, (16, 4))
            ),
            "tensor-indirection",
        ),
        (
            "trn3",
            lambda on: nisa.tensor_copy(
                empty(on, (16, 17)), zeros(on, (16, 8)).indirect(zeros(on, (16, 1), "int32"), 17)
            ),
            "operand-shape",
        ),
        (
            "trn3",
            lambda on: nisa.tensor_copy(empty(on, (32, 32)), zeros(on, (32, 8)).indirect(zeros(on, (32, 1), "int32"))),
            "operand-shape",
        ),
        (
            "trn3",
            lambda on: nisa.nc_matmul(
                empty(on, (32, 16), "float32", "psum"),
                zeros(on, (32, 64)).indirect(zeros(on, (32, 1), "int32"), 32),
                zeros(on, (32, 16)),
            ),
            "operand-dtype",
        ),
    ],
)
def test_refusals(target, call, rule):
    with core(target) as on:
        with pytest.raises(KernelRefused) as err:
            call(on)
        assert err.value.rule.name == rule
