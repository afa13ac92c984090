"""Launching kernels: arguments and results, cores, settings, and what a run keeps."""

from __future__ import annotations

import dataclasses
import warnings
from collections import namedtuple
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import outcrop
from outcrop.base.errors import NotFound, UserError
from outcrop.silicon import nki
from outcrop.silicon.chip import TARGET_VARIABLE
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl


@pytest.fixture(autouse=True)
def no_target_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TARGET_VARIABLE, raising=False)


@nki.jit
def double(x: Any) -> Any:
    """Twice the input."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.multiply(nl.load(x), 2.0))
    return out


@nki.jit
def copied(x: Any) -> Any:
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(out, x)
    return out


def numbers(*shape: int) -> Any:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


# -- calling ----------------------------------------------------------------------------------------------------------


def test_a_kernel_is_called_simulated_and_run_alike():
    x = numbers(16, 8)
    for call in (double, nki.simulate(double), nki.simulate(double.func), double[1], nki.simulate(double)[1]):
        np.testing.assert_array_equal(call(x), x * 2)
    assert outcrop.nki.run(double, (x,)).result.shape == (16, 8)
    assert nki.run(double, kwargs={"x": x}).result.dtype == np.float32


def test_jit_takes_options_and_keeps_the_functions_face():
    @nki.jit(mode="trace", debug_kernel=True, platform_target="trn1")
    def kernel(x: Any) -> Any:
        """Words."""
        return double(x)

    assert (kernel.__name__, kernel.__doc__) == ("kernel", "Words.")
    made = kernel.run(numbers(4, 4))
    assert made.target.name == "trn1"
    assert nki.jit(kernel, platform_target="trn3").run(numbers(4, 4)).target.name == "trn3"
    assert "kernel" in repr(kernel[2])
    with pytest.raises(UserError, match="decorates a function"):
        nki.jit("not a function")  # type: ignore[call-overload]


def test_a_kernel_within_a_kernel_is_a_function():
    @nki.jit
    def outer(x: Any) -> Any:
        return double(double(x))

    x = numbers(16, 8)
    made = outer.run(x)
    np.testing.assert_array_equal(made.result, x * 4)
    assert len(made.trace) == 6


def test_a_kernel_in_a_class_is_a_method():
    class Holder:
        factor = 3.0

        @nki.jit
        def scaled(self, x: Any) -> Any:
            out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
            nl.store(out, nl.multiply(nl.load(x), self.factor))
            return out

    x = numbers(4, 4)
    np.testing.assert_array_equal(Holder().scaled(x), x * 3)


def test_instructions_need_a_kernel_around_them():
    with pytest.raises(UserError, match="outside of a kernel"):
        nl.ndarray((4, 4), nl.float32)


def test_the_kernels_own_errors_pass_through_as_they_are():
    @nki.jit
    def failing(x: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        failing(numbers(2, 2))
    with pytest.raises(TypeError, match="missing"):
        double()
    np.testing.assert_array_equal(double(np.ones((2, 2), np.float32)), 2)  # and leave nothing behind


def test_an_error_names_the_kernels_own_line():
    @nki.jit
    def wrong(x: Any) -> Any:
        tile = nl.ndarray(x.shape, x.dtype)
        nisa.tensor_tensor(tile, x, x, nl.add)  # the line that is told

    with pytest.raises(KernelRefused) as refused:
        wrong(numbers(4, 4))
    assert "the line that is told" in str(refused.value)
    assert f"{__file__}:" in str(refused.value)
    assert "x [4, 4] float32" in str(refused.value)


# -- arguments and results --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [
        np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3, ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e5m2, np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32, np.bool_,
    ],
)  # fmt: skip
def test_arrays_come_back_as_they_went_in(dtype: Any):
    values = np.random.default_rng(4).integers(0, 2, (6, 5)).astype(dtype)
    found = copied(values)
    assert type(found) is np.ndarray
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.int16,
        torch.int32, torch.uint8, torch.bool,
    ],
)  # fmt: skip
def test_torch_tensors_come_back_as_they_went_in(dtype: torch.dtype):
    values = torch.randint(0, 2, (6, 5)).to(dtype)
    found = copied(values)
    assert isinstance(found, torch.Tensor)
    assert found.dtype is dtype
    assert found.to(torch.float32).equal(values.to(torch.float32))


def test_double_precision_is_rounded_and_64_bit_integers_are_refused():
    assert double(np.full((2, 2), 1.1)).dtype == np.float32
    with pytest.raises(UserError, match=r"x is an array of int64.*x\.astype\(np\.int32\)"):
        double(np.ones((2, 2), np.int64))
    with pytest.raises(UserError, match="x is an array of complex64"):
        double(np.ones((2, 2), np.complex64))


def test_views_of_any_layout_go_in():
    x = numbers(12, 10)
    for view in (x.T, x[::2, 1::3], np.asfortranarray(x), np.broadcast_to(x[0], (4, 10)), x[5]):
        np.testing.assert_array_equal(copied(view), view)
    transposed = torch.from_numpy(x).T
    assert copied(transposed).equal(transposed)


@nki.jit
def increment(x: Any) -> None:
    nl.store(x, nl.add(nl.load(x), 1.0))


def test_what_a_kernel_writes_to_an_input_is_in_the_callers_array():
    x = numbers(12, 10)
    for array in (x.copy(), np.asfortranarray(x), np.array(x, np.float64)):
        before = array.astype(np.float32)
        assert increment(array) is None
        np.testing.assert_array_equal(array.astype(np.float32), before + np.float32(1))
    strided = x.copy()
    increment(strided[:, ::2])
    np.testing.assert_array_equal(strided[:, ::2], x[:, ::2] + np.float32(1))
    np.testing.assert_array_equal(strided[:, 1::2], x[:, 1::2])
    tensor = torch.zeros(4, 4, dtype=torch.bfloat16)
    increment(tensor)
    assert tensor.eq(1).all()
    fixed = x.copy()
    fixed.flags.writeable = False
    increment(fixed)
    np.testing.assert_array_equal(fixed, x)


def test_a_returned_input_does_not_share_the_callers_memory():
    @nki.jit
    def same(x: Any) -> Any:
        return x

    x = numbers(4, 4)
    found = same(x)
    np.testing.assert_array_equal(found, x)
    assert not np.may_share_memory(found, x)


def test_arrays_are_found_in_containers_and_objects():
    @dataclasses.dataclass
    class Weights:
        scale: Any
        count: int = 0

    class Config(nl.NKIObject):
        bias: Any

    Pair = namedtuple("Pair", ["left", "right"])

    @nki.jit
    def kernel(pairs: Any, table: Any, weights: Any, config: Any, nothing: Any = None) -> Any:
        assert isinstance(pairs, tuple)
        assert isinstance(pairs[0], Pair)
        assert nothing is None
        assert weights.count == 3
        names = (pairs[0].left.name, table["key"].name, weights.scale.name, config.bias.name)
        assert names == ("pairs[0][0]", "table['key']", "weights.scale", "config.bias")
        total = nl.load(pairs[0].left)
        for each in (pairs[0].right, table["key"], weights.scale, config.bias):
            total = nl.add(total, nl.load(each))
        out = nl.ndarray(total.shape, total.dtype, buffer=nl.shared_hbm)
        nl.store(out, total)
        return {"total": out, "rest": (out, [out]), "count": weights.count}

    x = [numbers(3, 4) + at for at in range(5)]
    weights, config = Weights(x[3], 3), Config(x[4])
    found = kernel((Pair(x[0], x[1]),), {"key": x[2]}, weights, config=config)
    assert weights.scale is x[3], "the caller's objects stay as they are"
    assert found["count"] == 3
    for array in (found["total"], found["rest"][0], found["rest"][1][0]):
        np.testing.assert_allclose(array, sum(x), rtol=1e-6)


def test_one_array_given_twice_is_one_tensor():
    @nki.jit
    def kernel(x: Any, y: Any) -> Any:
        assert x.storage == y.storage
        increment(x)
        return copied(y)

    x = numbers(4, 4)
    np.testing.assert_array_equal(kernel(x, x), x)  # x was changed in place


def test_inputs_lie_in_the_memory_that_the_vendors_simulator_gives_them():
    @nki.jit
    def kernel(x: Any, expected: str) -> Any:
        assert x.buffer == expected
        return copied(x)

    kernel(numbers(4, 4), "private_hbm")
    kernel[2](numbers(4, 4), "shared_hbm")


def test_outputs_must_be_in_shared_hbm():
    @nki.jit
    def kernel(x: Any, buffer: Any) -> Any:
        made = nl.ndarray(x.shape, x.dtype, buffer=buffer)
        nisa.dma_copy(made, x)
        return made

    x = numbers(4, 4)
    for buffer in (nl.sbuf, nl.hbm):
        with pytest.raises(KernelRefused) as refused:
            kernel(x, buffer)
        assert refused.value.rule.name == "output-memory"
        with pytest.warns(KernelWarning, match="output-memory"):
            found = nki.simulate(kernel, relaxed={"output-memory"})(x, buffer)
        np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(kernel(x, nl.shared_hbm), x)


def test_outputs_that_were_not_all_written_are_warned_about():
    @nki.jit
    def half(x: Any) -> Any:
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        nl.store(out[:2], nl.load(x[:2]))
        return out

    x = numbers(4, 8)
    with pytest.warns(KernelWarning, match=r"unwritten-output.*16 of 32 elements, the first at \[2, 0\]"):
        made = half.run(x)
    np.testing.assert_array_equal(made.result[:2], x[:2])
    assert np.isnan(made.result[2:]).all()
    assert [each.rule for each in made.warnings] == ["unwritten-output"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert double.run(x).warnings == ()


# -- cores ------------------------------------------------------------------------------------------------------------


@nki.jit
def halves(x: Any) -> Any:
    cores, core = (nl.num_programs(0), nl.program_id(0)) if nl.program_ndim() else (1, 0)
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    rows = x.shape[0] // cores
    part = nl.ds(core * rows, rows)
    nl.store(out[part], nl.multiply(nl.load(x[part]), 2.0))
    return out


@pytest.mark.parametrize(("grid", "cores"), [(None, 1), (1, 1), (2, 2), ((2,), 2)])
def test_a_kernel_is_launched_on_one_or_two_cores(grid: Any, cores: int):
    x = numbers(16, 8)
    made = (halves if grid is None else halves[grid]).run(x)
    np.testing.assert_array_equal(made.result, x * 2)
    assert len(made.traces) == len(made.usages) == cores
    assert all(len(trace) == 3 for trace in made.traces)


@pytest.mark.parametrize("grid", [0, 3, (2, 2), "two", (), 2.0])
def test_other_grids_are_refused(grid: Any):
    with pytest.raises(KernelRefused) as refused:
        halves[grid](numbers(16, 8))
    assert refused.value.rule.name == "launch-grid"


def test_axes_of_the_grid():
    @nki.jit
    def kernel(axis: int) -> None:
        nl.program_id(axis)

    kernel(0)
    kernel[2](0)
    for launched in (kernel, kernel[2]):
        with pytest.raises(KernelRefused) as refused:
            launched(1)
        assert refused.value.rule.name == "launch-grid"


def test_ranks_have_their_own_arguments_and_results():
    xs = [numbers(4, 4) + at for at in range(3)]
    made = nki.run(double, (nki.PerRank(xs),), ranks=3)
    assert len(made.results) == 3
    for x, found in zip(xs, made.results, strict=True):
        np.testing.assert_array_equal(found, x * 2)
    with pytest.raises(UserError, match="2 values for 3 ranks"):
        nki.run(double, (nki.PerRank(xs[:2]),), ranks=3)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_the_target_comes_from_the_call_the_block_the_environment_and_last_is_trn2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    x = numbers(4, 4)
    assert double.run(x).target.name == "trn2"
    monkeypatch.setenv(TARGET_VARIABLE, "gen4")
    assert double.run(x).target.name == "trn3"
    with nki.defaults(target="trn1"):
        assert double.run(x).target.name == "trn1"
        assert nki.simulate(double, target="trn2").run(x).target.name == "trn2"
        with nki.defaults(seed=3):
            assert double.run(x).target.name == "trn1"
    assert double.run(x).target.name == "trn3"
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\ntitle = "Mine"\nextends = "trn2"\n')
    assert nki.simulate(double, target=str(mine)).run(x).target.name == "mine"
    with pytest.raises(NotFound):
        nki.simulate(double, target="trn9")(x)


def test_rules_are_relaxed_by_name_or_all():
    @nki.jit
    def dividing(x: Any) -> Any:
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        nl.store(out, nl.divide(nl.load(x), 4.0))
        return out

    x = numbers(4, 4)
    with pytest.raises(KernelRefused):
        dividing(x)
    with pytest.raises(KernelRefused):
        nki.simulate(dividing, relaxed={"output-memory"})(x)
    for relaxed in (True, {"divide"}):
        with pytest.warns(KernelWarning, match="divide"):
            made = nki.simulate(dividing, relaxed=relaxed).run(x)
        assert [each.rule for each in made.warnings] == ["divide"]
        assert made.warnings[0].source.file == __file__
        np.testing.assert_array_equal(made.result, x / 4)
    with nki.defaults(relaxed=True), pytest.warns(KernelWarning):
        dividing(x)
    with pytest.raises(UserError, match="no rule 'divine'"):
        nki.simulate(dividing, relaxed={"divine"})(x)


def test_timing_only_records_the_same_instructions_without_values():
    x = numbers(16, 8)
    with_values = double.run(x)
    without = nki.simulate(double, timing_only=True).run(x)
    assert [each.op for each in without.trace] == [each.op for each in with_values.trace]
    assert without.usage == with_values.usage or [u.peak_bytes_per_partition for u in without.usage] == [
        u.peak_bytes_per_partition for u in with_values.usage
    ]
    assert (without.result.shape, without.result.dtype) == ((16, 8), np.float32)
    huge = np.broadcast_to(np.zeros((), ml_dtypes.bfloat16), (128, 1 << 34))  # 4 TiB, which are not there
    assert nki.simulate(copied, timing_only=True).run(huge).result.shape == huge.shape


def test_a_run_keeps_trace_memory_and_what_was_returned():
    made = double.run(numbers(128, 8))
    assert [each.op for each in made.trace] == ["dma_copy", "tensor_scalar", "dma_copy"]
    assert all(each.source.file == __file__ for each in made.trace)
    assert {each.region for each in made.usage} == {nl.sbuf, nl.psum}
    assert [each.shape for each in made.outputs] == [(128, 8)]
    text = str(made)
    assert text.startswith("double on trn2: 3 instructions\n")
    assert "SBUF: at most 64 of 229376 bytes per partition" in text


def test_recording_collects_the_runs_of_a_block():
    with nki.recording() as runs:
        double(numbers(4, 4))
        with nki.recording() as inner:
            halves(numbers(4, 4))
    double(numbers(4, 4))
    assert [each.name for each in runs] == ["double", "halves"]
    assert [each.name for each in inner] == ["halves"]


def test_python_that_the_vendor_does_not_compile_is_refused_before_the_kernel_starts():
    @nki.jit
    def kernel(x: Any, count: Any = 0) -> Any:
        if x is count:
            increment(x)
        return copied(x)

    x = numbers(4, 4)
    for call, rule in ((lambda: kernel(x), "frontend-identity"), (lambda: double([x]), "frontend-list-argument")):
        with pytest.raises(KernelRefused) as refused:
            call()
        assert refused.value.rule.name == rule
    with pytest.warns(KernelWarning, match="frontend-identity"):
        np.testing.assert_array_equal(nki.simulate(kernel, relaxed={"frontend-identity"})(x), x)


def test_a_schedule_is_in_the_trace():
    @nki.jit
    def kernel(x: Any) -> Any:
        tile = nl.load(x)
        first, second = nl.empty_like(tile), nl.empty_like(tile)
        nisa.tensor_scalar(first, tile, nl.add, 1.0, name="plus1")
        nisa.reciprocal(second, tile, name="recip")
        return copied(x)

    x = numbers(4, 4) + 9
    assert [each.after for each in kernel.run(x).trace] == [[], [], [], []]
    for producers in ("recip", ["recip"]):
        made = kernel.with_schedule([("plus1", producers)]).run(x)
        assert [each.name for each in made.trace[1].after] == ["recip"]
    with pytest.raises(UserError, match="'minus1', which the kernel did not execute"):
        kernel.with_schedule([("minus1", "recip")])(x)


@pytest.mark.parametrize(
    ("broken", "seen", "remedy"),
    [
        (lambda tile: tile * 2 + 1, r"Python's \* was used on tile", "nl.multiply"),
        (lambda tile: 1 / tile, "Python's / was used", "nisa.reciprocal"),
        (np.exp, "NumPy's exp was given tile", "nl.exp"),
        (lambda tile: np.float32(2) * tile, "NumPy's multiply was given tile", "nl.exp"),
        (np.asarray, "NumPy was given tile", "nki.language"),
        (np.sum, "NumPy's add was given tile", "nki.language"),
        (list, "go through tile", "take slices"),
        (lambda tile: tile[0, 0] > 0, "Python's > was used", "mask"),
        (lambda tile: tile @ tile, "Python's @", "nisa.nc_matmul"),
        (lambda tile: -tile, "Python's - ", "nl.negative"),
        (lambda tile: nl.ndarray(tile.shape, nl.sbuf, tile.dtype), "dtype=.* and buffer=", "in this order"),
        (lambda tile: nl.ndarray((128, 0), tile.dtype), "has no elements", "at least 1"),
        (lambda tile: nl.ndarray((), tile.dtype), "has no dimensions", "at least 1"),
        (lambda tile: nl.ndarray((128, 4 / 2), tile.dtype), r"shape=\(128, 2.0\)", "//"),
        (lambda tile: nl.ndarray((128, 4), "floot32"), "dtype='floot32'", "It has: bool"),
    ],
)
def test_what_python_and_numpy_cannot_do_with_a_tile_is_told_with_the_line(broken: Any, seen: str, remedy: str):
    @nki.jit
    def kernel(x: Any) -> Any:
        tile = nl.ndarray(x.shape, x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(tile, x)
        return broken(tile)

    with pytest.raises(
        KernelRefused, match=rf"(?s)\[parameter\] .*{seen}.*{remedy}.*at .*test_launch.py:\d+ in "
    ) as told:
        kernel(numbers(4, 4))
    assert told.value.rule.name == "parameter"


def test_kernels_that_run_nothing_are_refused():
    def generating(x: Any) -> Any:
        yield x

    async def waiting(x: Any) -> Any:
        return x

    for function, what in ((generating, "generator"), (waiting, "coroutine")):
        with pytest.raises(UserError, match=f"{function.__name__} is a {what}.*plain function"):
            nki.jit(function)(numbers(4, 4))
    with pytest.raises(UserError, match="ranks=0 runs no kernel"):
        nki.run(double, (numbers(4, 4),), ranks=0)


def test_one_rule_to_relax_may_be_a_string():
    with pytest.raises(UserError, match="There is no rule 'nope' to relax"):
        nki.run(double, (numbers(4, 4),), relaxed="nope")
    nki.run(double, (numbers(4, 4),), relaxed="start-partition")


def test_arrays_of_the_other_byte_order_are_taken():
    x = numbers(4, 4)
    np.testing.assert_array_equal(double(x.astype(">f4")), 2 * x)

    @nki.jit
    def in_place(x: Any) -> Any:
        tile = nl.load(x)
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        nisa.dma_copy(x, tile)

    other = x.astype(">f4")
    in_place(other)
    np.testing.assert_array_equal(other, x + 1)


@pytest.mark.parametrize(
    ("role", "region", "remedy"),
    [
        ("dst", nl.shared_hbm, "copy that to HBM with nisa.dma_copy"),
        ("data", nl.private_hbm, "Load it with nisa.dma_copy first"),
        ("stationary", nl.psum, "buffer=nl.sbuf first"),
        ("accumulator", nl.sbuf, "Allocate it with buffer=nl.psum"),
    ],
)
def test_operands_in_the_wrong_memory_are_told_the_way_to_the_right_one(role: str, region: Any, remedy: str):
    @nki.jit
    def kernel(x: Any) -> None:
        tile = nl.ndarray((4, 4), nl.float32, buffer=nl.sbuf)
        wrong = nl.ndarray((4, 4), nl.float32, buffer=region)
        total = nl.ndarray((4, 4), nl.float32, buffer=nl.psum)
        if role == "dst":
            nisa.reciprocal(wrong, tile)
        elif role == "data":
            nisa.reciprocal(tile, wrong)
        elif role == "stationary":
            nisa.nc_matmul(total, wrong, tile)
        else:
            nisa.nc_matmul(wrong, tile, tile)

    with pytest.raises(KernelRefused, match=remedy) as refused:
        kernel(numbers(4, 4))
    assert refused.value.rule.name == "operand-memory"


def test_a_core_that_reads_what_the_other_has_not_written_yet_is_told_to_meet_it():
    @nki.jit
    def kernel(x: Any) -> Any:
        y = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        core = nl.program_id(0)
        mine, other = nl.ds(core * 2, 2), nl.ds(2 - core * 2, 2)
        tile = nl.ndarray((2, 4), x.dtype)
        nisa.dma_copy(tile, x[mine])
        nisa.dma_copy(y[mine], tile)
        nisa.dma_copy(tile, y[other])
        return y

    with pytest.raises(KernelRefused, match="meet that core first with") as refused:
        kernel[2](numbers(4, 4))
    assert refused.value.rule.name == "uninitialized-read"
