"""dma_compute against sums in float32, scatters and gathers that add, and every rule's refusal."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa

HBM = "shared_hbm"


def refused(call: Any) -> str:
    with pytest.raises(KernelRefused) as err:
        call()
    assert "test_dma_compute.py" in str(err.value)
    return err.value.rule.name


@pytest.mark.parametrize("count", [1, 2, 3, 16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_sources_are_added_in_order_in_float32_and_rounded_once(count: int, dtype: str, target: str) -> None:
    rng = np.random.default_rng(count)
    values = [rng.standard_normal((48, 20), dtype=np.float32) * 10.0 ** (at % 4) for at in range(count)]
    with core(target) as c:
        srcs = [put(c, each, dtype, HBM if at % 2 else "sbuf") for at, each in enumerate(values)]
        dst = empty(c, (6, 8, 20), "bfloat16", HBM)
        made = nisa.dma_compute(dst, srcs, np.add, scales=[1.0] * count)
        total = get(c, srcs[0]).astype(np.float32)
        for src in srcs[1:]:
            total = total + get(c, src).astype(np.float32)
        got = get(c, dst).reshape(48, 20)
    np.testing.assert_array_equal(got.view(np.uint16), total.astype(ml_dtypes.bfloat16).view(np.uint16))
    assert made.engine is Engine.dma
    assert made.params["sources"] == count
    assert made.params["dge_mode"] == "none"
    assert len(made.reads) == count


def test_a_sum_keeps_what_a_rounding_between_would_lose() -> None:
    with core() as c:
        srcs = [put(c, [[each]], "bfloat16") for each in (256.0, 1.0, 1.0)]  # 257 is not a bfloat16, 258 is
        dst = empty(c, (1, 1), "bfloat16")
        nisa.dma_compute(dst, srcs, "add")
        assert float(get(c, dst)[0, 0]) == 258
        integers = [put(c, [[100, -100]], "int8") for _ in range(2)]
        small = empty(c, (1, 2), "int8")
        nisa.dma_compute(small, integers, "add")
        assert get(c, small).tolist() == [[127, -128]]


def test_the_destination_may_be_a_source() -> None:
    with core() as c:
        tile, more = put(c, np.ones((4, 4)), "float32"), put(c, np.full((4, 4), 2.0), "float32", HBM)
        nisa.dma_compute(tile, (tile, more, tile), "add")
        assert (get(c, tile) == 4).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_scatter_adds_a_tile_to_rows_and_a_gather_adds_rows_to_a_tile(dtype: str) -> None:
    rng = np.random.default_rng(2)
    table = rng.integers(-50, 50, (40, 6)).astype(np.float32)
    data = rng.integers(-50, 50, (24, 6)).astype(np.float32)
    rows = rng.permutation(40)[:24]
    with core() as c:
        hbm, tile, index = put(c, table, dtype, HBM), put(c, data, dtype), put(c, rows[:, None], "int32")
        picked = hbm.vector_select(0, index)
        made = nisa.dma_compute(picked, [picked, tile], "add")
        expected = table.copy()
        expected[rows] += data
        np.testing.assert_array_equal(get(c, hbm).astype(np.float32), expected)
        assert made.params["form"] == "scatter"
        assert made.params["rows"] == 24
        assert made.params["dge_mode"] == "swdge"
        assert [each.allocation.name for each in made.reads] == [hbm.name, tile.name, index.name]
        again = hbm.ap([[6, 24], [1, 6]], vector_offset=index)
        made = nisa.dma_compute(tile, [again, tile], "add")
        np.testing.assert_array_equal(get(c, tile).astype(np.float32), data + expected[rows])
        assert made.params["form"] == "gather"


def test_rows_outside_are_refused_or_left_out() -> None:
    with core() as c:
        hbm = put(c, np.ones((4, 3)), "float32", HBM)
        tile, index = put(c, np.full((3, 3), 5.0), "float32"), put(c, [[2], [-1], [4]], "int32")
        rows = hbm.vector_select(0, index)
        assert refused(lambda: nisa.dma_compute(rows, [rows, tile], "add")) == "out-of-bounds"
        assert refused(lambda: nisa.dma_compute(tile, [rows, tile], "add")) == "out-of-bounds"
        made = nisa.dma_compute(rows, [tile, rows], "add", oob_mode=nisa.oob_mode.skip)
        np.testing.assert_array_equal(get(c, hbm)[:, 0], [1, 1, 6, 1])
        assert made.params["rows"] == 1
        nisa.dma_compute(tile, [rows, tile], "add", oob_mode=nisa.oob_mode.skip)
        np.testing.assert_array_equal(get(c, tile)[:, 0], [11, 5, 5])


def test_a_scatter_picks_every_row_once_and_a_gather_need_not() -> None:
    def rows_of(c: Any) -> tuple[Any, Any, Any]:
        hbm, tile = put(c, np.ones((4, 2)), "float32", HBM), put(c, [[1.0, 1], [2, 2], [3, 3]], "float32")
        return hbm, tile, hbm.vector_select(0, put(c, [[2], [0], [2]], "int32"))

    with core() as c:
        hbm, tile, rows = rows_of(c)
        assert refused(lambda: nisa.dma_compute(rows, [rows, tile], "add")) == "dma-unique-indices"
        nisa.dma_compute(tile, [rows, tile], "add")
        np.testing.assert_array_equal(get(c, tile)[:, 0], [2, 3, 4])
    with core(relaxed={"dma-unique-indices"}) as c:
        hbm, tile, rows = rows_of(c)
        with pytest.warns(KernelWarning, match=r"rows \[2\]"):
            nisa.dma_compute(rows, [rows, tile], "add")
        np.testing.assert_array_equal(get(c, hbm)[:, 0], [3, 1, 4, 1])


def test_rules() -> None:
    with core() as c:
        tile, hbm = put(c, np.ones((4, 8)), "float32"), put(c, np.ones((4, 8)), "float32", HBM)
        index = put(c, [[0], [1], [2], [3]], "int32")
        rows = hbm.vector_select(0, index)
        start = hbm.ap([[8, 4], [1, 8]], scalar_offset=VirtualRegister(c, 0))
        skip = nisa.oob_mode.skip
        for reject, rule in (
            (lambda: nisa.dma_compute(tile, [hbm] * 17, "add"), "parameter"),
            (lambda: nisa.dma_compute(tile, [], "add"), "parameter"),
            (lambda: nisa.dma_compute(tile, [hbm, hbm], np.multiply), "parameter"),
            (lambda: nisa.dma_compute(tile, [hbm, hbm], "add", scales=[1.0, 0.5]), "parameter"),
            (lambda: nisa.dma_compute(tile, [hbm, hbm], "add", scales=[1.0]), "parameter"),
            (lambda: nisa.dma_compute(tile, [hbm, hbm[0:2]], "add"), "operand-shape"),
            (lambda: nisa.dma_compute(tile, [hbm, 1.0], "add"), "parameter"),
            (lambda: nisa.dma_compute(tile, [hbm, empty(c, (4, 8), region="psum")], "add"), "operand-memory"),
            (lambda: nisa.dma_compute(tile, [hbm, start], "add"), "dma-descriptors"),
            (lambda: nisa.dma_compute(tile, [hbm, tile], "add", oob_mode=skip), "parameter"),
            (lambda: nisa.dma_compute(hbm.ap([[0, 4], [1, 8]]), [hbm, tile], "add"), "dma-shape"),
            (lambda: nisa.dma_compute(tile, [rows, tile, tile], "add"), "parameter"),
            (lambda: nisa.dma_compute(tile, [rows, tile], "add", unique_indices=False), "parameter"),
            (lambda: nisa.dma_compute(tile, [rows, put(c, np.ones((4, 8)), "float32")], "add"), "operand-shape"),
            (lambda: nisa.dma_compute(rows, [tile, tile], "add"), "operand-shape"),
            (lambda: nisa.dma_compute(rows, [rows, put(c, np.ones((4, 8)), "float32", HBM)], "add"), "operand-memory"),
            (lambda: nisa.dma_compute(empty(c, (4, 8), region=HBM), [rows, tile], "add"), "operand-memory"),
        ):
            assert refused(reject) == rule
    with core("trn3") as c:
        packed = empty(c, (4, 8), "float8_e5m2_x4", HBM)
        assert refused(lambda: nisa.dma_compute(packed, [packed, packed], "add")) == "operand-dtype"


def test_without_values_the_rules_and_the_record_are_the_same() -> None:
    with core(timing_only=True) as c:
        tile, hbm, index = empty(c, (4, 8)), empty(c, (9, 8), region=HBM), empty(c, (4, 1), "int32")
        made = nisa.dma_compute(tile, [hbm.vector_select(0, index), tile], "add", name="rows")
        assert (made.op, made.name, made.params["form"]) == ("dma_compute", "rows", "gather")
        assert refused(lambda: nisa.dma_compute(tile, [hbm, tile], "add")) == "operand-shape"
