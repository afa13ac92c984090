"""nc_matmul: values against float64, and every static rule with what breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.dtypes import find
from outcrop.silicon.device.regions import PSUM
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa

HALVES = ("bfloat16", "float16", "float8_e4m3", "float8_e5m2")


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape)


def exact(values: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """What a tensor of that type holds of the values, in float64."""
    return values.astype(find(dtype).numpy).astype(np.float64)


@contextmanager
def refusal(name: str) -> Iterator[pytest.ExceptionInfo[KernelRefused]]:
    """The block must break the rule of that name, and the message must name it."""
    with pytest.raises(KernelRefused) as info:
        yield info
    assert info.value.rule.name == name
    assert f"[{name}]" in str(info.value)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(("one", "two"), [*product(HALVES, HALVES), ("float32", "float32"), ("float32", "tfloat32")])
def test_products_are_float32_sums_of_the_exact_operands(target: str, one: str, two: str) -> None:
    with core(target) as on:
        left, right = numbers((96, 40)), numbers((96, 72), seed=1)
        dst = empty(on, (40, 72), region="psum")
        nisa.nc_matmul(dst, put(on, left, one), put(on, right, two))
        got = get(on, dst)
    if "tfloat32" in (one, two):
        np.testing.assert_allclose(got, exact(left, one).T @ right, rtol=2e-3, atol=2e-2)
        return
    expected = exact(left, one).T @ exact(right, two)
    bound = np.abs(exact(left, one)).T @ np.abs(exact(right, two)) * 96 * 2.0**-24
    assert np.all(np.abs(got - expected) <= bound)
    assert got.dtype == np.float32


def test_small_whole_numbers_multiply_exactly() -> None:
    left, right = (
        np.random.default_rng(seed).integers(-8, 9, shape) for seed, shape in ((0, (128, 128)), (1, (128, 512)))
    )
    for dtype in ("bfloat16", "float16", "float8_e4m3", "float32"):
        with core() as on:
            dst = empty(on, (128, 512), region="psum")
            nisa.nc_matmul(dst, put(on, left, dtype), put(on, right, dtype))
            np.testing.assert_array_equal(get(on, dst), left.T @ right)


def test_an_infinity_or_nan_reaches_the_sums_it_takes_part_in() -> None:
    left, right = np.ones((4, 3)), np.ones((4, 2))
    left[1, 0], left[2, 1], right[3, 1] = np.inf, np.nan, -np.inf
    with core() as on, np.errstate(all="raise"):
        dst = empty(on, (3, 2), region="psum")
        nisa.nc_matmul(dst, put(on, left, "bfloat16"), put(on, right, "bfloat16"))
        np.testing.assert_array_equal(get(on, dst), [[np.inf, np.nan], [np.nan, np.nan], [4, -np.inf]])


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    depth=st.integers(1, 128),
    columns=st.integers(1, 128),
    free=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    step=st.integers(1, 3),
    start=st.integers(0, 2),
)
def test_any_shape_and_strided_operands(depth: int, columns: int, free: list[int], step: int, start: int) -> None:
    width = start + (columns - 1) * step + 1
    left, right = numbers((depth, width)), numbers((depth, *free, 2), seed=1)
    with core() as on:
        stationary = put(on, left, "bfloat16")[:, start::step]
        moving = put(on, right, "bfloat16")[..., 1]
        dst = empty(on, (columns, *free), region="psum")
        nisa.nc_matmul(dst, stationary, moving)
        expected = exact(left[:, start::step], "bfloat16").T @ exact(right[..., 1], "bfloat16").reshape(depth, -1)
        np.testing.assert_allclose(get(on, dst).reshape(columns, -1), expected, rtol=1e-5, atol=1e-4)


def test_the_destination_may_be_strided_and_leaves_the_gaps_alone() -> None:
    with core() as on:
        whole = put(on, np.full((4, 6, 5), 7.0), "float32", region="psum")
        left, right = np.ones((2, 4)), np.arange(12.0).reshape(2, 6)
        nisa.nc_matmul(whole[:, 1::2, 3], put(on, left[:, :4]), put(on, right[:, :3]), accumulate=False)
        expected = np.full((4, 6, 5), 7.0)
        expected[:, 1::2, 3] = (left.T @ right)[:, :3]
        np.testing.assert_array_equal(get(on, whole), expected)


@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_double_row_contracts_over_pairs_too(target: str) -> None:
    kinds = ("float8_e4m3", "float8_e5m2", *(("float8_e4m3fn",) if target == "trn3" else ()))
    left, right = numbers((64, 2, 32)), numbers((64, 2, 48), seed=1)
    for one, two in product(kinds, kinds):
        if {one, two} == {"float8_e4m3", "float8_e4m3fn"}:
            continue
        with core(target) as on:
            for mode in (nisa.matmul_perf_mode.double_row, "double_row"):
                dst = empty(on, (32, 48), region="psum")
                made = nisa.nc_matmul(dst, put(on, left, one), put(on, right, two), perf_mode=mode)
                expected = np.einsum("kpm,kpn->mn", exact(left, one), exact(right, two))
                np.testing.assert_allclose(get(on, dst), expected, rtol=1e-5, atol=1e-4)
                assert made.params["perf_mode"] == "double_row"


@pytest.mark.parametrize(
    ("target", "size", "position", "rows", "columns"),
    [
        ("trn1", (64, 64), (64, 64), 64, 64),
        ("trn1", (64, 128), (64, 0), 10, 128),
        ("trn2", (32, 32), (96, 32), 32, 32),
        ("trn2", (128, 32), (0, 64), 128, 20),
        ("trn3", (128, 128), (0, 0), 128, 128),
    ],
)
def test_tiles_of_the_array_do_not_change_values(
    target: str, size: tuple[int, int], position: tuple[int, int], rows: int, columns: int
) -> None:
    left, right = numbers((rows, columns)), numbers((rows, 8), seed=1)
    with core(target) as on:
        dst = empty(on, (columns, 8), region="psum")
        made = nisa.nc_matmul(
            dst, put(on, left, "bfloat16"), put(on, right, "bfloat16"), tile_position=position, tile_size=list(size)
        )
        expected = exact(left, "bfloat16").T @ exact(right, "bfloat16")
        np.testing.assert_allclose(get(on, dst), expected, rtol=1e-5, atol=1e-4)
    assert (made.params["tile_position"], made.params["tile_size"]) == (position, size)


def test_the_record_names_operands_engine_and_options() -> None:
    with core() as on:
        dst = empty(on, (4, 8), region="psum")
        stationary, moving = put(on, np.ones((2, 4))), put(on, np.ones((2, 8)))
        made = nisa.nc_matmul(dst, stationary, moving, is_moving_onezero=True, accumulate=False, name="first")
    assert made is on.trace[-1]
    assert (made.op, made.engine, made.name) == ("nc_matmul", nisa.engine.tensor, "first")
    assert made.writes == (dst.access(),)
    assert made.reads == (stationary.access(), moving.access())
    assert made.params == {
        "accumulate": False,
        "is_transpose": False,
        "perf_mode": "none",
        "tile_position": (),
        "tile_size": (),
        "is_stationary_onezero": False,
        "is_moving_onezero": True,
    }


def test_without_values_every_static_rule_still_holds() -> None:
    with core(timing_only=True) as on:
        dst = empty(on, (128, 512), region="psum")
        nisa.nc_matmul(dst, empty(on, (128, 128)), empty(on, (128, 512)))
        assert len(on.trace) == 1
        with refusal("operand-shape"):
            nisa.nc_matmul(dst, empty(on, (128, 128)), empty(on, (64, 512)))


# -- what is refused --------------------------------------------------------------------------------------------------

Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("target", "rule", "stationary", "moving", "dst", "dtype"),
    [
        ("trn2", "operand-shape", (128, 16), (64, 32), (16, 32), "float32"),  # contraction
        ("trn2", "operand-shape", (128, 16), (128, 32), (15, 32), "float32"),  # rows of the product
        ("trn2", "operand-shape", (128, 16), (128, 32), (16, 33), "float32"),  # its columns
        ("trn2", "matmul-free-size", (128, 129), (128, 32), (128, 32), "float32"),
        ("trn1", "matmul-free-size", (128, 16), (128, 513), (16, 513), "float32"),
        ("trn2", "matmul-free-size", (128, 16), (128, 513), (16, 513), "float32"),
        ("trn3", "matmul-free-size", (128, 16), (128, 4097), (16, 4096), "float32"),
        ("trn3", "matmul-free-size", (128, 16), (128, 8193), (16, 8192), "bfloat16"),
    ],
)
def test_shapes_beyond_the_limits(
    target: str, rule: str, stationary: Shape, moving: Shape, dst: Shape, dtype: str
) -> None:
    with core(target, timing_only=True) as on, refusal(rule):
        out = empty(on, dst, dtype, region="psum")
        nisa.nc_matmul(out, empty(on, stationary, "bfloat16"), empty(on, moving, "bfloat16"))


@pytest.mark.parametrize(
    ("target", "free", "dtype"),
    [("trn1", 512, "float32"), ("trn2", 512, "float32"), ("trn3", 4096, "float32"), ("trn3", 8192, "bfloat16")],
)
def test_shapes_at_the_limits(target: str, free: int, dtype: str) -> None:
    with core(target, timing_only=True) as on:
        out = empty(on, (128, free), dtype, region="psum")
        nisa.nc_matmul(out, empty(on, (128, 128), "bfloat16"), empty(on, (128, free), "bfloat16"))


@pytest.mark.parametrize(
    ("target", "rule", "stationary", "moving", "dst"),
    [
        ("trn2", "matmul-mix", "float32", "bfloat16", "float32"),
        ("trn2", "matmul-mix", "float16", "tfloat32", "float32"),
        ("trn3", "matmul-mix", "float8_e4m3", "float8_e4m3fn", "float32"),
        ("trn2", "generation", "float8_e4m3fn", "bfloat16", "float32"),
        ("trn1", "generation", "bfloat16", "float8_e4m3fn", "float32"),
        ("trn2", "operand-dtype", "int32", "bfloat16", "float32"),
        ("trn2", "operand-dtype", "bfloat16", "uint8", "float32"),
        ("trn2", "generation", "bfloat16", "bfloat16", "bfloat16"),
        ("trn3", "operand-dtype", "bfloat16", "bfloat16", "float16"),
        ("trn3", "operand-dtype", "float8_e5m2_x4", "bfloat16", "float32"),
    ],
)
def test_types_that_do_not_go_together(target: str, rule: str, stationary: str, moving: str, dst: str) -> None:
    with core(target, timing_only=True) as on, refusal(rule):
        nisa.nc_matmul(
            empty(on, (16, 32), dst, region="psum"), empty(on, (64, 16), stationary), empty(on, (64, 32), moving)
        )


def test_operands_in_the_wrong_memory() -> None:
    with core(timing_only=True) as on:
        sbuf, psum = empty(on, (64, 64)), empty(on, (64, 64), region="psum")
        hbm = empty(on, (64, 64), region="shared_hbm")
        for dst, stationary, moving in ((sbuf, sbuf, sbuf), (psum, psum, sbuf), (psum, sbuf, psum), (psum, hbm, sbuf)):
            with refusal("operand-memory"):
                nisa.nc_matmul(dst, stationary, moving)
        with refusal("parameter"):
            nisa.nc_matmul(psum, np.ones((64, 64)), sbuf)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "rule", "options"),
    [
        ("trn2", "pe-tiling", {"tile_size": (64, 64)}),
        ("trn2", "pe-tiling", {"tile_position": (0, 0)}),
        ("trn2", "pe-tiling", {"tile_position": (0, 0), "tile_size": (64,)}),
        ("trn1", "pe-tiling", {"tile_position": (0, 0), "tile_size": (32, 64)}),
        ("trn1", "pe-tiling", {"tile_position": (0, 0), "tile_size": (64, 32)}),
        ("trn2", "pe-tiling", {"tile_position": (0, 0), "tile_size": (96, 128)}),
        ("trn2", "pe-tiling", {"tile_position": (32, 0), "tile_size": (64, 64)}),
        ("trn2", "pe-tiling", {"tile_position": (0, 128), "tile_size": (64, 64)}),
        ("trn3", "pe-tiling", {"tile_position": (0, 0), "tile_size": (32, 32)}),  # the operands have 33 rows
        ("trn2", "parameter", {"tile_position": (0, "left"), "tile_size": (64, 64)}),
        ("trn2", "parameter", {"perf_mode": "double_pixel"}),
        ("trn1", "generation", {"perf_mode": "double_row"}),
    ],
)
def test_options_that_the_array_does_not_have(target: str, rule: str, options: dict[str, Any]) -> None:
    with core(target, timing_only=True) as on, refusal(rule):
        dst, stationary, moving = empty(on, (32, 64), region="psum"), empty(on, (33, 32)), empty(on, (33, 64))
        if "perf_mode" in options:
            stationary, moving = empty(on, (33, 2, 32), "float8_e5m2"), empty(on, (33, 2, 64), "float8_e5m2")
        nisa.nc_matmul(dst, stationary, moving, **options)


def test_double_row_wants_float8_pairs_all_columns_and_no_transpose() -> None:
    with core(timing_only=True) as on:
        dst = empty(on, (32, 64), region="psum")
        eight = empty(on, (64, 2, 32), "float8_e4m3"), empty(on, (64, 2, 64), "float8_e4m3")
        half = empty(on, (64, 2, 32), "bfloat16"), empty(on, (64, 2, 64), "bfloat16")
        flat = empty(on, (64, 32), "float8_e4m3"), empty(on, (64, 64), "float8_e4m3")
        mode = nisa.matmul_perf_mode.double_row
        nisa.nc_matmul(dst, *eight, perf_mode=mode, tile_position=(0, 0), tile_size=(64, 128))
        with refusal("operand-dtype"):
            nisa.nc_matmul(dst, *half, perf_mode=mode)
        with refusal("operand-shape"):
            nisa.nc_matmul(dst, *flat, perf_mode=mode)
        with refusal("pe-tiling"):
            nisa.nc_matmul(dst, *eight, perf_mode=mode, tile_position=(0, 0), tile_size=(64, 64))
        with refusal("parameter"):
            nisa.nc_matmul(dst, *eight, perf_mode=mode, is_transpose=True)


def test_an_output_lies_within_one_bank_where_matmuls_are_no_longer() -> None:
    for target, rule in (("trn1", "psum-bank"), ("trn2", "psum-bank"), ("trn3", None)):
        with core(target, timing_only=True) as on:
            banks = empty(on, (128, 1024), region="psum")
            stationary, moving = empty(on, (128, 128), "bfloat16"), empty(on, (128, 512), "bfloat16")
            nisa.nc_matmul(banks[:, 512:], stationary, moving)
            strided = empty(on, (128, 512, 2), region="psum")[:, :, 0]
            for crossing in (banks[:, 256:768], strided):
                if rule is None:
                    nisa.nc_matmul(crossing, stationary, moving)
                else:
                    with refusal(rule):
                        nisa.nc_matmul(crossing, stationary, moving)


def test_an_explicit_address_counts_for_the_bank() -> None:
    with core(timing_only=True) as on, refusal("psum-bank"):
        dst = on.allocate((128, 512), "float32", PSUM, address=(0, 1024))
        nisa.nc_matmul(dst, empty(on, (128, 128), "bfloat16"), empty(on, (128, 512), "bfloat16"))


def test_sixteen_bit_slots_start_at_four_bytes() -> None:
    with core("trn3", timing_only=True) as on:
        slots = empty(on, (32, 8), "bfloat16", region="psum")
        stationary, moving = empty(on, (64, 32), "bfloat16"), empty(on, (64, 1), "bfloat16")
        nisa.nc_matmul(slots[:, 2:3], stationary, moving)
        with refusal("psum-alignment") as info:
            nisa.nc_matmul(slots[:, 3:4], stationary, moving)
        assert "byte 6 on" in str(info.value)


def test_no_element_is_written_twice() -> None:
    with core(timing_only=True) as on, refusal("operand-shape"):
        dst = empty(on, (32, 1), region="psum").broadcast(1, 8)
        nisa.nc_matmul(dst, empty(on, (64, 32)), empty(on, (64, 8)))


def test_operands_that_nothing_wrote() -> None:
    with core() as on:
        dst, written = empty(on, (32, 32), region="psum"), put(on, np.ones((32, 32)))
        for stationary, moving in ((empty(on, (32, 32)), written), (written, empty(on, (32, 32)))):
            with refusal("uninitialized-read"):
                nisa.nc_matmul(dst, stationary, moving)


def test_a_relaxed_rule_warns_and_computes() -> None:
    left, right = np.ones((4, 4)), np.ones((4, 600))
    with core(relaxed={"matmul-free-size", "psum-bank"}) as on:
        dst = empty(on, (4, 600), region="psum")
        with pytest.warns(KernelWarning):
            nisa.nc_matmul(dst, put(on, left, "bfloat16"), put(on, right, "bfloat16"))
        np.testing.assert_array_equal(get(on, dst), np.full((4, 600), 4.0))
        assert {rule.name for rule, _, _ in on.warned} == {"matmul-free-size", "psum-bank"}
