"""What holds of every kernel of the room: its contract, any sizes, and the vendor's names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.base.errors import NotFound, UserError
from outcrop.silicon import chip, kernels
from outcrop.silicon.kernels import base, front
from outcrop.silicon.kernels.base import Values
from outcrop.silicon.nki import activate

NAMES = list(kernels.cases())
CHIPS = {name: chip.load(name) for name in ("trn1", "trn2", "trn3")}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_result_is_noticed(name):
    case = kernels.find(name)
    dtype = next(iter(case.tolerance))
    args = case.inputs(case.small, dtype, Values(1))
    expected = case.reference(*args, **case.options)
    results = expected if isinstance(expected, tuple) else (expected,)
    case.check(results, expected, dtype)
    for at in range(len(results)):
        with pytest.raises(AssertionError, match=name):
            case.check(tuple(each + (i == at) for i, each in enumerate(results)), expected, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_for_time_leaves_the_same_trace(name):
    case = kernels.find(name)
    dtype = next(iter(case.tolerance))
    args = case.inputs(case.small, dtype, Values(1))
    traces = case.run(args).trace, case.timing_run(case.small, dtype).trace
    assert [each.op for each in traces[0]] == [each.op for each in traces[1]]
    assert all("/silicon/kernels/" in each.source.file for each in traces[0])


@pytest.mark.parametrize("name", NAMES)
def test_floors_are_told_for_every_chip(name):
    case = kernels.find(name)
    dtype = next(iter(case.tolerance))
    assert all(case.floor_us(case.large, dtype, target) > 0 for target in CHIPS.values())


def test_the_floor_is_the_larger_of_work_and_traffic():
    product, rows = kernels.find("matmul"), kernels.find("softmax")
    pairs = kernels.find("matmul_double_row")
    assert pairs.floor_us(pairs.large, "fp8", CHIPS["trn3"]) == pytest.approx(2 * 4096**3 / 158e6)
    assert product.floor_us(product.large, "bf16", CHIPS["trn2"]) == pytest.approx(2 * 4096**3 / 79e6)
    assert rows.floor_us({"T": 128, "N": 100}, "bf16", CHIPS["trn2"]) == pytest.approx(128 * 100 * 4 / 368e3)


@pytest.mark.parametrize("name", NAMES)
def test_choices_are_declared(name):
    tuning = kernels.find(name).tuning
    legal = tuning.legal()
    assert next(tuning.variants()) == tuning()
    assert len(list(tuning.variants())) == np.prod([len(each) for each in legal.values()])
    for field, values in legal.items():
        assert len(set(values)) == len(values) > 1
        with pytest.raises(UserError, match=field):
            tuning(**{field: "no such value"})


def test_unknown_kernels_are_named():
    with pytest.raises(NotFound, match="matmul"):
        kernels.find("nothing")


def test_a_chip_without_the_feature_refuses():
    case = kernels.find("matmul_double_row")
    args = case.inputs(case.small, "fp8", Values(1))
    with pytest.raises(UserError, match="double_row"):
        case.run(args, "trn1")


def test_the_vendors_names_run_the_same_kernels(tmp_path, monkeypatch):
    """One import line changed: the files of a kernel, with ``nki`` for ``outcrop.silicon.nki``."""
    room = Path(base.__file__).parent
    for name in ("front", "base", "moves", "softmax"):
        text = (room / f"{name}.py").read_text()
        if name == "front":
            assert text.count("from outcrop.silicon.nki import") == 1
            text = text.replace("from outcrop.silicon.nki import", "from nki import")
        (tmp_path / f"copied_{name}.py").write_text(text.replace("outcrop.silicon.kernels.", "copied_"))
    monkeypatch.syspath_prepend(tmp_path)
    case = kernels.find("softmax")
    args = case.inputs(case.small, "fp32", Values(1))
    try:
        with activate():
            copied = importlib.import_module("copied_softmax")
            assert sys.modules["copied_front"].nisa is not front
            case.check(copied.softmax(*args), case.reference(*args), "fp32")
    finally:
        for name in [each for each in sys.modules if each.startswith("copied_")]:
            del sys.modules[name]


FEW = settings(max_examples=10, deadline=None, derandomize=True, database=None)


@FEW
@given(
    st.sampled_from(["trn1", "trn2", "trn3"]),
    st.sampled_from(["fp32", "bf16"]),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 700),
)
def test_any_product(target, dtype, m, k, n):
    case = kernels.find("matmul")
    args = case.inputs({"M": m, "K": k, "N": n}, dtype, Values(m))
    case.check(case.run(args, target).result, case.reference(*args), dtype)


@FEW
@given(
    st.sampled_from(["attention", "attention_online"]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 400),
    st.integers(1, 128),
    st.booleans(),
    st.integers(0, 200),
)
def test_any_attention(name, per_group, groups, length, size, causal, window):
    case = kernels.find(name)
    window = window if causal else 0
    args = case.inputs({"H": per_group * groups, "G": groups, "T": length, "d": size}, "fp32", Values(length))
    got = case.kernel.run(*args, causal=causal, window=window).result
    case.check(got, case.reference(*args, causal=causal, window=window), "fp32")


@FEW
@given(
    st.sampled_from(["softmax", "cross_entropy", "cross_entropy_backward"]),
    st.sampled_from(["fp32", "bf16"]),
    st.integers(1, 140),
    st.integers(1, 900),
)
def test_any_rows(name, dtype, rows, width):
    case = kernels.find(name)
    args = case.inputs({"T": rows, "N": width, "V": width}, dtype, Values(width))
    case.check(case.run(args).result, case.reference(*args), dtype)
