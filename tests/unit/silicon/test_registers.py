"""Registers: values in and out of memory, and what Python may not do with them."""

from __future__ import annotations

import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki.language import loops as nl


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int32", -5), ("uint32", 2**32 - 1), ("uint8", 200), ("int16", -300), ("float32", 2.5), ("bfloat16", -1.5)],
)
@pytest.mark.parametrize("region", ["sbuf", "shared_hbm"])
def test_load_and_store_keep_a_value(dtype, value, region):
    with core() as on:
        register = nisa.register_alloc()
        nisa.register_load(register, put(on, np.array([[value]]), dtype, region))
        target = empty(on, (1, 1), dtype, region)
        nisa.register_store(target, register)
        assert float(get(on, target).reshape(-1)[0]) == value


def test_store_keeps_the_bits_of_a_32_bit_integer():
    with core() as on:
        register = nisa.register_alloc(-1)
        target = empty(on, (1, 1), "uint32")
        nisa.register_store(target, register)
        assert get(on, target)[0, 0] == 0xFFFFFFFF


def test_move_copies_constants_and_registers():
    with core() as on:
        first, second = nisa.register_alloc(7), nisa.register_alloc()
        nisa.register_move(second, first)
        nisa.register_move(first, 9)
        assert (first.value, second.value) == (9, 7)
        assert [each.op for each in on.trace] == ["register_move"] * 3
        assert [each.params["constant"] for each in on.trace] == [True, False, True]


def test_allocation_from_a_tensor_loads_it():
    with core() as on:
        register = nisa.register_alloc(put(on, np.array([[12]], np.int32)))
        assert register.value == 12
        assert on.trace[-1].op == "register_load"
        assert on.trace[-1].reads[0].shape == (1, 1)


def test_registers_index_tensors():
    with core() as on:
        data = put(on, np.arange(64, dtype=np.float32).reshape(4, 16))
        register = nisa.register_alloc(3)
        assert np.array_equal(get(on, data[:, register]), np.arange(64).reshape(4, 16)[:, 3:4])
        assert np.array_equal(get(on, data[:, nl.ds(register, 5)]), np.arange(64).reshape(4, 16)[:, 3:8])
        scattered = data.ap([[16, 4], [1, 2]], scalar_offset=register, indirect_dim=1)
        assert np.array_equal(get(on, scattered), np.arange(64).reshape(4, 16)[:, 3:5])
        nisa.register_move(register, 12)
        with pytest.raises(KernelRefused) as err:
            get(on, data[:, nl.ds(register, 5)])
        assert err.value.rule.name == "out-of-bounds"


@pytest.mark.parametrize(
    "use",
    [int, float, bool, range, lambda r: r == 3, lambda r: r != 3, lambda r: r < 3, lambda r: r >= 3,
     lambda r: [1, 2][r], lambda r: slice(0, 4).indices(r),
     lambda r: 1 if r else 0, lambda r: not r, nl.affine_range, nl.static_range],
)  # fmt: skip
def test_python_control_flow_is_refused(use):
    with core():
        register = nisa.register_alloc(3)
        with pytest.raises(KernelRefused) as err:
            use(register)
        assert err.value.rule.name == "register-control-flow"


def test_a_register_is_not_none():
    with core():
        register = nisa.register_alloc(0)
        assert register != None  # noqa: E711  (kernels have no `is`)
        assert register == register
        assert register not in (None, "name")
        with pytest.raises(KernelRefused, match="=="):
            assert register != nisa.register_alloc(0)


def test_slices_with_registers_point_at_ds():
    with core() as on:
        data = put(on, np.zeros((4, 16), np.float32))
        register = nisa.register_alloc(3)
        with pytest.raises(KernelRefused, match=r"nl\.ds\(reg, size\)") as err:
            data[:, register:8]
        assert err.value.rule.name == "register-control-flow"


@pytest.mark.parametrize(
    "use",
    [lambda r: r + 1, lambda r: 1 + r, lambda r: r - 1, lambda r: 1 - r, lambda r: r * 2, lambda r: 2 * r,
     lambda r: r // 2, lambda r: r % 2, lambda r: -r],
)  # fmt: skip
def test_python_arithmetic_is_refused_and_calculates_when_relaxed(use):
    with core():
        register = nisa.register_alloc(5)
        with pytest.raises(KernelRefused) as err:
            use(register)
        assert err.value.rule.name == "register-arithmetic"
    with core(relaxed={"register-arithmetic"}), pytest.warns(KernelWarning):
        assert use(nisa.register_alloc(5)).value == use(5)


def test_reading_an_unset_register_is_refused():
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            nisa.register_store(empty(on, (1, 1), "int32"), nisa.register_alloc())
        assert err.value.rule.name == "unset-register"


def test_no_more_registers_than_the_sequencer_has():
    with core() as on:
        kept = [nisa.register_alloc(each) for each in range(on.limits.registers_per_engine)]
        with pytest.raises(KernelRefused) as err:
            nisa.register_alloc()
        assert err.value.rule.name == "register-count"
        kept.pop()
        del err
        nisa.register_alloc()


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda on: nisa.register_load(nisa.register_alloc(), put(on, np.zeros((1, 2), np.int32))), "operand-shape"),
        (lambda on: nisa.register_load(nisa.register_alloc(), put(on, np.zeros((2, 1), np.int32))), "operand-shape"),
        (
            lambda on: nisa.register_load(nisa.register_alloc(), put(on, np.zeros((1, 1), np.int32), region="psum")),
            "operand-memory",
        ),
        (lambda on: nisa.register_load(nisa.register_alloc(), empty(on, (1, 1), "int32")), "uninitialized-read"),
        (lambda on: nisa.register_load(3, put(on, np.zeros((1, 1), np.int32))), "parameter"),
        (lambda on: nisa.register_load(nisa.register_alloc(), 3), "parameter"),
        (lambda on: nisa.register_move(nisa.register_alloc(), 2.5), "parameter"),
        (lambda on: nisa.register_move(nisa.register_alloc(), 2**32), "parameter"),
        (lambda on: nisa.register_store(empty(on, (1, 2)), nisa.register_alloc(1)), "operand-shape"),
        (
            lambda on: nisa.register_store(empty(on, (1, 1), "float8_e4m3fn_x4"), nisa.register_alloc(1)),
            "operand-dtype",
        ),
    ],
)
def test_refusals(call, rule):
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            call(on)
        assert err.value.rule.name == rule


def test_a_fractional_register_is_no_address():
    with core() as on:
        register = nisa.register_alloc()
        nisa.register_load(register, put(on, np.array([[1.5]], np.float32)))
        with pytest.raises(KernelRefused) as err:
            get(on, put(on, np.zeros((2, 8), np.float32))[:, register])
        assert err.value.rule.name == "parameter"
