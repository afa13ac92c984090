"""dma_transpose against NumPy, direct and of picked rows, and every rule's refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa

HBM = "shared_hbm"
MODES = nisa.dge_mode


def refused(call: Any) -> str:
    with pytest.raises(KernelRefused) as err:
        call()
    assert "test_dma_transpose.py" in str(err.value)
    return err.value.rule.name


def raw(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(0, 2**15, shape).astype(dtype)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("region", [HBM, "private_hbm", "sbuf"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((48, 128), (1, 0)),
        ((16, 5), (1, 0)),
        ((32, 3, 20), (2, 1, 0)),
        ((64, 1, 1, 100), (3, 1, 2, 0)),
        ((16, 2, 3, 7), (3, 1, 2, 0)),
    ],
)
def test_the_first_and_the_last_dimension_change_places(
    shape: tuple[int, ...], axes: tuple[int, ...], region: str, target: str
) -> None:
    values = raw(shape)
    wanted = np.transpose(values, axes)
    with core(target) as c:
        src = put(c, values, region=region)
        for given in (None, axes, list(axes)):
            dst = empty(c, wanted.shape, "uint16")
            made = nisa.dma_transpose(dst, src, axes=given)
            np.testing.assert_array_equal(get(c, dst), wanted)
        assert made.engine is Engine.dma
        assert made.params["axes"] == axes
        assert made.params["dge_mode"] == ("none" if target == "trn1" else "hwdge")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int16"])
def test_bits_are_moved_nan_included(dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (16, 64), np.uint16)
    with core() as c:
        src = put(c, values, region=HBM).view(dtype)
        dst = empty(c, (64, 16), dtype)
        nisa.dma_transpose(dst, src)
        np.testing.assert_array_equal(get(c, dst.view("uint16")), values.T)


@pytest.mark.parametrize("dtype", ["float32", "int32", "tfloat32"])
def test_four_bytes_are_transposed_in_the_4d_form_only(dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 2**32, (24, 1, 1, 40), np.uint32)
    with core() as c:
        src = put(c, values, region=HBM).view(dtype)
        dst = empty(c, (40, 1, 1, 24), dtype)
        nisa.dma_transpose(dst, src)
        np.testing.assert_array_equal(get(c, dst.view("uint32")), np.transpose(values, (3, 1, 2, 0)))
        flat = empty(c, (40, 24), dtype)
        assert refused(lambda: nisa.dma_transpose(flat, src.reshape((24, 40)))) == "dma-transpose-dtype"
        assert refused(lambda: nisa.dma_transpose(dst, src, dge_mode=MODES.hwdge)) == "dma-transpose-dtype"
        small = empty(c, (40, 1, 1, 32), "uint8")
        one = put(c, np.zeros((32, 1, 1, 40)), "uint8", HBM)
        assert refused(lambda: nisa.dma_transpose(small, one)) == "dma-transpose-dtype"


def test_the_destination_can_be_part_of_a_tile_and_the_source_a_pattern() -> None:
    values = raw((64, 96))
    with core() as c:
        src, tile = put(c, values, region=HBM), put(c, np.zeros((128, 80)), "uint16")
        nisa.dma_transpose(
            tile.ap([[80, 32], [1, 1], [1, 1], [1, 48]], offset=16),
            src.ap([[96, 48], [1, 1], [1, 1], [1, 32]], offset=8 * 96 + 4),
        )
        expected = np.zeros((128, 80), np.uint16)
        expected[:32, 16:64] = values[8:56, 4:36].T
        np.testing.assert_array_equal(get(c, tile), expected)


def test_the_shape_and_the_rank_of_the_destination_are_exact() -> None:
    with core() as c:
        src = put(c, raw((16, 1, 1, 32)), region=HBM)
        assert refused(lambda: nisa.dma_transpose(empty(c, (32, 16), "uint16"), src)) == "operand-shape"
        assert refused(lambda: nisa.dma_transpose(empty(c, (16, 1, 1, 32), "uint16"), src)) == "operand-shape"
        good = empty(c, (32, 1, 1, 16), "uint16")
        assert refused(lambda: nisa.dma_transpose(good, src, axes=(3, 2, 1, 0))) == "parameter"
        assert refused(lambda: nisa.dma_transpose(good, src.reshape((1, 1, 16, 1, 32)))) == "parameter"
        assert refused(lambda: nisa.dma_transpose(empty(c, (32, 1, 1, 16), "int16"), src)) == "operand-dtype"
        hbm = empty(c, (32, 1, 1, 16), "uint16", HBM)
        assert refused(lambda: nisa.dma_transpose(hbm, src)) == "operand-memory"
        assert refused(lambda: nisa.dma_transpose(good, src, oob_mode=nisa.oob_mode.skip)) == "parameter"
        assert refused(lambda: nisa.dma_transpose(good, src, priority=0)) == "generation"


def test_rows_of_the_destination_are_32_bytes_apart() -> None:
    with core(relaxed={"dma-transpose-row"}) as c:
        src, odd = put(c, raw((10, 32)), region=HBM), empty(c, (32, 10), "uint16")
        with pytest.warns(KernelWarning, match="20 bytes apart"):
            nisa.dma_transpose(odd, src)
        np.testing.assert_array_equal(get(c, odd), raw((10, 32)).T)
    with core() as c:
        src, odd = put(c, raw((10, 32)), region=HBM), empty(c, (32, 10), "uint16")
        assert refused(lambda: nisa.dma_transpose(odd, src)) == "dma-transpose-row"
        nisa.dma_transpose(empty(c, (32, 16), "uint16")[:, 0:10], src)


def test_the_hardware_mode_has_shapes_of_its_own() -> None:
    with core() as c:

        def transpose(*shape: int) -> Any:
            src = put(c, raw(shape), region=HBM)
            order = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}[len(shape)]
            dst = empty(c, (shape[-1], *shape[1:-1], 16), "uint16")[..., 0 : shape[0]]
            made = nisa.dma_transpose(dst, src, dge_mode=MODES.hwdge)
            np.testing.assert_array_equal(get(c, dst), np.transpose(raw(shape), order))
            return made

        for shape in ((16, 128), (16, 100), (8, 2, 64), (1, 16, 5), (4, 1, 4, 128)):
            assert transpose(*shape).params["dge_mode"] == "hwdge"
        for shape in ((8, 128), (3, 16, 64), (8, 3, 64), (2, 4, 4, 8)):
            assert refused(lambda s=shape: transpose(*s)) == "dma-transpose-shape"
        wide = put(c, raw((16, 129)), region=HBM)
        assert refused(lambda: nisa.dma_transpose(c.allocate((128, 16), "uint16"), wide)) == "operand-shape"
        src = put(c, raw((16, 64)), region=HBM)
        assert refused(lambda: nisa.dma_transpose(empty(c, (64, 16), "uint16"), src, dge_mode=MODES.swdge)) == (
            "dma-descriptors"
        )
    with core("trn1") as c:
        src = put(c, raw((16, 64)), region=HBM)
        assert refused(lambda: nisa.dma_transpose(empty(c, (64, 16), "uint16"), src, dge_mode=MODES.hwdge)) == (
            "generation"
        )


# -- picked rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("partitions", "columns", "rows"), [(16, 1, 16), (32, 1, 32), (128, 1, 112), (128, 3, 304)])
@pytest.mark.parametrize("inner", [(40,), (3, 128), (1, 4, 20)])
def test_picked_rows_become_columns_in_the_order_of_the_indices_columns(
    partitions: int, columns: int, rows: int, inner: tuple[int, ...]
) -> None:
    table = raw((500, *inner))
    index = np.random.default_rng(5).integers(0, 500, (partitions, columns)).astype(np.uint32)
    picked = table[index.T.reshape(-1)[:rows]]
    wanted = np.transpose(picked, {1: (1, 0), 2: (2, 1, 0), 3: (3, 1, 2, 0)}[len(inner)])
    with core() as c:
        hbm, indices = put(c, table, region=HBM), put(c, index)
        steps = [[int(np.prod(inner[at + 1 :])), size] for at, size in enumerate(inner)]
        src = hbm.ap([[int(np.prod(inner)), rows], *steps], vector_offset=indices)
        dst = empty(c, wanted.shape, "uint16")
        made = nisa.dma_transpose(dst, src, dge_mode=MODES.swdge)
        np.testing.assert_array_equal(get(c, dst), wanted)
    assert made.params["rows"] == rows
    assert [each.allocation.name for each in made.reads] == [hbm.name, indices.name]


def test_a_row_outside_leaves_its_column_as_it_was() -> None:
    table = raw((20, 8))
    index = np.arange(16, dtype=np.uint32)[:, None]
    index[[3, 9], 0] = 20, 2**32 - 1
    with core() as c:
        src = put(c, table, region=HBM).vector_select(0, put(c, index))
        dst = put(c, np.full((8, 16), 9), "uint16")
        assert refused(lambda: nisa.dma_transpose(dst, src)) == "out-of-bounds"
        made = nisa.dma_transpose(dst, src, oob_mode=nisa.oob_mode.skip)
        expected = table[:16].T.copy()
        expected[:, [3, 9]] = 9
        np.testing.assert_array_equal(get(c, dst), expected)
        assert made.params["rows"] == 14


def test_a_run_time_start_is_followed() -> None:
    table = raw((64, 32))
    with core() as c:
        src = put(c, table, region=HBM).ap([[32, 16], [1, 32]], scalar_offset=VirtualRegister(c, 24))
        dst = empty(c, (32, 16), "uint16")
        nisa.dma_transpose(dst, src)
        np.testing.assert_array_equal(get(c, dst), table[24:40].T)


def test_picked_rows_have_rules_of_their_own() -> None:
    with core() as c:
        hbm = put(c, raw((200, 64)), region=HBM)
        wide = put(c, raw((200, 144)), region=HBM)

        def pick(index: Any, rows: int = 16, table: Any = hbm, **options: Any) -> Any:
            width = table.shape[1]
            src = table.ap([[width, rows], [1, width]], vector_offset=index)
            return nisa.dma_transpose(empty(c, (min(width, 128), rows), table.dtype), src, **options)

        def index_of(shape: tuple[int, ...], dtype: str = "uint32") -> Any:
            return put(c, np.zeros(shape), dtype)

        pick(index_of((16, 1)))
        assert refused(lambda: pick(index_of((16, 1)), dge_mode=MODES.hwdge)) == "dma-descriptors"
        assert refused(lambda: pick(index_of((16, 1)), dge_mode=MODES.none)) == "dma-descriptors"
        assert refused(lambda: pick(index_of((16, 1), "int32"))) == "operand-dtype"
        assert refused(lambda: pick(index_of((16, 1, 1)))) == "operand-shape"
        assert refused(lambda: pick(index_of((24, 1)))) == "dma-transpose-shape"
        assert refused(lambda: pick(index_of((16, 2)), rows=32)) == "dma-transpose-shape"
        assert refused(lambda: pick(index_of((16, 1)), rows=32)) == "dma-transpose-shape"
        assert refused(lambda: pick(index_of((32, 1)), rows=24)) == "dma-transpose-shape"
        assert refused(lambda: pick(index_of((16, 1)), table=wide)) == "operand-shape"
        floats = put(c, np.zeros((200, 64)), "float32", HBM)
        assert refused(lambda: pick(index_of((16, 1)), table=floats)) == "dma-transpose-dtype"
        both = put(c, raw((40, 2, 2, 8)), region=HBM).vector_select(0, index_of((16, 1)))
        dst = empty(c, (8, 2, 2, 16), "uint16")
        assert refused(lambda: nisa.dma_transpose(dst, both)) == "dma-transpose-shape"
    with core("trn1") as c:
        src = put(c, raw((40, 8)), region=HBM).vector_select(0, put(c, np.zeros((16, 1)), "uint32"))
        assert refused(lambda: nisa.dma_transpose(empty(c, (8, 16), "uint16"), src)) == "generation"


def test_rows_of_the_4d_form_lie_at_any_distance() -> None:
    values = np.arange(40 * 128, dtype=np.float16).reshape(40, 1, 1, 128) / 8
    with core() as c:
        src, dst = put(c, values, region="shared_hbm"), empty(c, (128, 1, 1, 40), "float16")
        nisa.dma_transpose(dst, src)
        np.testing.assert_array_equal(get(c, dst), values.transpose(3, 1, 2, 0))
