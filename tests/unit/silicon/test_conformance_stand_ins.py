"""The stand-ins for modules that suites import: right where values matter, inert where they do not."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import textwrap

import ml_dtypes
import numpy as np
import pytest

from outcrop.silicon.conformance.stand_ins import neuron_dtypes, science
from outcrop.silicon.conformance.stand_ins.pairs import AllPairs


def test_static_cast_rounds_to_the_type() -> None:
    values = np.array([1.00390625, -3.3, 500.0], np.float32)
    assert np.array_equal(neuron_dtypes.static_cast(values, "bfloat16"), values.astype(ml_dtypes.bfloat16))
    assert neuron_dtypes.static_cast(values, np.int32).tolist() == [1, -3, 500]
    assert neuron_dtypes.static_cast(values, np.float64).dtype == np.float64


@pytest.mark.parametrize("dtype", ["float8_e4m3fn_x4", "float8_e5m2_x4", "float4_e2m1fn_x4"])
def test_static_cast_packs_four_lanes_into_one_element(dtype: str) -> None:
    values = np.array([[1.0, -2.0, 0.5, 3.0, 0.0, 4.0, -1.5, 6.0]], np.float32)
    packed = neuron_dtypes.static_cast(values, dtype)
    assert packed.shape == (1, 2)
    assert neuron_dtypes.static_cast(packed, dtype) is packed
    kind = getattr(neuron_dtypes, dtype)
    bits = 8 * kind.itemsize // 4
    lane = [[int(each) >> (bits * at) & ((1 << bits) - 1) for at in range(4)] for each in packed[0]]
    expected = values.astype(kind.lane).view(np.uint8).reshape(2, 4)
    assert lane == expected.tolist()


def test_facts_about_types() -> None:
    assert neuron_dtypes.sizeinbytes("bfloat16") == 2
    assert neuron_dtypes.is_float_type(np.float32)
    assert not neuron_dtypes.is_float_type("int8")
    assert float(neuron_dtypes.finfo("float8_e4m3").max) == 240


def test_the_functions_of_scipy() -> None:
    x = np.linspace(-3, 3, 13)
    assert np.allclose(science.erf(x), [math.erf(each) for each in x], rtol=1e-15)
    assert np.allclose(science.expit(x), 1 / (1 + np.exp(-x)))
    assert science.expit(np.array([-1000.0, 1000.0])).tolist() == [0.0, 1.0]
    assert np.allclose(science.softmax(x).sum(), 1)
    assert science.softmax(np.ones((2, 4)), axis=1).tolist() == [[0.25] * 4] * 2
    assert science.circulant([1, 2, 3]).tolist() == [[1, 3, 2], [2, 1, 3], [3, 2, 1]]


def test_all_pairs_covers_every_pair() -> None:
    parameters = [[1, 2, 3], ["a", "b"], [True, False], [0.5, 1.5, 2.5, 3.5]]
    rows = list(AllPairs(parameters))
    for one, two in itertools.combinations(range(4), 2):
        covered = {(row[one], row[two]) for row in rows}
        assert covered == set(itertools.product(parameters[one], parameters[two]))
    assert len(rows) <= 16


def test_all_pairs_keeps_the_filter() -> None:
    def allowed(row: list[int]) -> bool:
        return len(row) < 2 or row[0] != row[1]

    rows = list(AllPairs([[1, 2, 3], [1, 2, 3], [1, 2]], filter_func=allowed))
    assert all(row[0] != row[1] for row in rows)
    assert {(row[0], row[1]) for row in rows} == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b}


def test_all_pairs_finds_the_few_rows_that_a_filter_on_whole_rows_leaves() -> None:
    parameters = [list(range(5))] * 7

    def allowed(row: list[int]) -> bool:  # 5 of 78,125
        return len(row) < 7 or row == row[:1] * 7

    rows = list(AllPairs(parameters, filter_func=allowed))
    assert sorted(rows) == [[each] * 7 for each in range(5)]


def test_missing_modules_import_and_present_ones_are_the_real_ones() -> None:
    script = """
        import sys
        from outcrop.silicon.conformance import stand_ins
        stand_ins.install()
        import json, fabric2, paramiko.client
        from aws_embedded_metrics.logger.metrics_context import MetricsContext
        from neuron_dtypes import static_cast
        assert json.loads("1") == 1
        assert MetricsContext().put_metric("a", 1) is not None
        assert fabric2.Config.anything is not None
        try:
            raise paramiko.client.SSHException("x")
        except paramiko.client.SSHException:
            pass
        class Remote(fabric2.Connection): ...
        Remote("host")
        try:
            import module_that_is_not_there
        except ModuleNotFoundError:
            print("fine")
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")
