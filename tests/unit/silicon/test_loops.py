"""Static and dynamic loops: which iterations run, what their variable may be used for, and what the trace says."""

from __future__ import annotations

import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki.language import loops as nl


def loaded(on, value):
    register = nisa.register_alloc()
    nisa.register_load(register, put(on, np.array([[value]], np.int32)))
    return register


def set_column(on, data, index, value):
    """Write a constant to a run-time column, and leave a record."""
    target = data[:, index]
    on.write(target, np.full(target.shape, value, np.float32))
    on.record("mark", nisa.engine.vector, (target,), ())


def test_static_loops_are_ranges():
    with core():
        assert list(nl.affine_range(4)) == [0, 1, 2, 3]
        assert list(nl.sequential_range(1, 7, 2)) == [1, 3, 5]
        assert list(nl.static_range(2, 4)) == [2, 3]


@pytest.mark.parametrize(("lower", "upper", "step"), [(0, 5, 1), (1, 8, 3), (3, 3, 1), (5, 2, 1)])
@pytest.mark.parametrize("from_register", [False, True])
@pytest.mark.parametrize("form", ["fori_loop", "dynamic_range"])
def test_counted_loops_run_pythons_iterations(lower, upper, step, from_register, form):
    with core() as on:
        data = put(on, np.zeros((2, 8), np.float32))
        low, high = (loaded(on, lower), loaded(on, upper)) if from_register else (lower, upper)
        if form == "fori_loop":
            nl.fori_loop(low, high, lambda i: set_column(on, data, i, 1.0), step=step)
        else:
            for i in nl.dynamic_range(low, high, step):
                set_column(on, data, i, 1.0)
        expected = np.zeros((2, 8))
        expected[:, list(range(lower, upper, step))] = 1
        assert np.array_equal(get(on, data), expected)


def test_each_run_of_a_body_has_its_number():
    with core() as on:
        data = put(on, np.zeros((2, 8), np.float32))
        set_column(on, data, 0, 1.0)
        for i in nl.dynamic_range(2):
            set_column(on, data, i, 1.0)
            nl.fori_loop(0, 2, lambda j: set_column(on, data, j, 1.0))
            set_column(on, data, i, 1.0)
        set_column(on, data, 0, 1.0)
        runs = [each.loop for each in on.trace if each.op == "mark"]
        assert runs[0] == runs[-1] == -1
        assert runs[1] == runs[4] != runs[5] == runs[8]
        assert len({*runs[2:4], *runs[6:8], runs[1], runs[5]}) == 6


def test_leaving_a_dynamic_range_early_leaves_the_loop():
    with core() as on:
        for _ in nl.dynamic_range(4):
            break
        assert on.loop == -1


def test_a_while_loop_runs_until_its_register_is_zero():
    with core() as on:
        count = put(on, np.array([[5]], np.int32))
        total = put(on, np.array([[0]], np.int32))
        seen = []

        def body(r):
            seen.append((r.value, on.loop))
            on.write(total, get(on, total) + 10)
            on.write(count, get(on, count) - 1)
            nisa.register_load(r, count)
            return r

        init = nisa.register_alloc(5)
        nl.while_loop(init, body)
        assert [value for value, _ in seen] == [5, 4, 3, 2, 1]
        assert len({loop for _, loop in seen}) == 5
        assert get(on, total)[0, 0] == 50
        assert init.value == 5  # passed by value
        assert on.loop == -1
        nl.while_loop(nisa.register_alloc(0), body)
        assert len(seen) == 5


def test_while_with_a_register_runs_as_the_parser_front_end_takes_it():
    with core() as on:
        count = put(on, np.array([[3]], np.int32))
        outer = loaded(on, 2)
        runs = []
        while outer:
            inner = loaded(on, 3)
            while inner:
                runs.append(on.loop)
                on.write(count, np.array([[inner.value - 1]]))
                nisa.register_load(inner, count)
            runs.append(on.loop)
            on.write(count, np.array([[outer.value - 1]]))
            nisa.register_load(outer, count)
        assert on.loop == -1
        assert len(runs) == 8
        assert len(set(runs)) == 8  # three inner runs and the outer one, twice
        assert -1 not in runs


def test_memory_from_outside_lives_on():
    with core() as on:
        kept = put(on, np.array([[1.0]], np.float32))
        nl.fori_loop(0, 6, lambda i: on.write(kept, get(on, kept) * 2))
        assert get(on, kept)[0, 0] == 64


def test_the_induction_variable_is_frozen():
    with core() as on:
        five = put(on, np.array([[5]], np.int32))
        for write in (lambda i: nisa.register_move(i, 3), lambda i: nisa.register_load(i, five)):
            with pytest.raises(KernelRefused) as err:
                nl.fori_loop(0, 2, write)
            assert err.value.rule.name == "frozen-register"
            with pytest.raises(KernelRefused) as err:
                write(next(iter(nl.dynamic_range(2))))
            assert err.value.rule.name == "frozen-register"


def test_python_may_not_branch_on_the_induction_variable():
    with core():
        with pytest.raises(KernelRefused) as err:
            nl.fori_loop(0, 2, lambda i: [None][i == 1])
        assert err.value.rule.name == "register-control-flow"


def test_no_reorder_numbers_blocks_and_keeps_dynamic_loops_out():
    with core() as on:
        data = put(on, np.zeros((2, 8), np.float32))
        set_column(on, data, 0, 1.0)
        with nl.no_reorder():
            set_column(on, data, 0, 1.0)
            with nl.no_reorder():
                set_column(on, data, 0, 1.0)
            set_column(on, data, 0, 1.0)
        with nl.no_reorder():
            set_column(on, data, 0, 1.0)
        regions = [each.region for each in on.trace]
        assert regions[0] == -1
        assert regions[1] == regions[3]
        assert len(set(regions)) == 4

        def in_while():
            register = nisa.register_alloc(1)
            while register:
                pass

        def in_range():
            for _ in nl.dynamic_range(2):
                pass

        for loop in (
            lambda: nl.fori_loop(0, 2, lambda i: None),
            lambda: nl.while_loop(nisa.register_alloc(1), lambda r: r),
            in_range,
            in_while,
        ):
            with pytest.raises(KernelRefused) as err, nl.no_reorder():
                loop()
            assert err.value.rule.name == "no-reorder-loop"
            assert on.region == -1
        for i in nl.dynamic_range(2):
            with nl.no_reorder():
                set_column(on, data, i, 1.0)
        assert on.trace[-1].region != on.trace[-2].region


@pytest.mark.parametrize(
    "call",
    [
        lambda on: nl.fori_loop(0, 2, lambda i: None, step=0),
        lambda on: nl.fori_loop(0, 2, lambda i: None, step=-1),
        lambda on: nl.fori_loop(0, 2, lambda i: None, step=nisa.register_alloc(1)),
        lambda on: nl.dynamic_range(0, 4, nisa.register_alloc(1)),
        lambda on: nl.fori_loop(0, 2.5, lambda i: None),
        lambda on: nl.fori_loop(0, 2, lambda i: i),
        lambda on: nl.while_loop(3, lambda r: r),
        lambda on: nl.while_loop(nisa.register_alloc(1), lambda r: None),
        lambda on: nl.ds(0, -1),
    ],
)
def test_refusals(call):
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            call(on)
        assert err.value.rule.name == "parameter"


def test_without_values_unknown_bounds_run_once():
    with core(timing_only=True) as on:
        bound = nisa.register_alloc()
        nisa.register_load(bound, empty(on, (1, 1), "int32"))
        runs = []
        nl.fori_loop(0, bound, lambda i: runs.append("for"))
        nl.while_loop(bound, lambda r: [runs.append("while"), nisa.register_load(r, empty(on, (1, 1), "int32")), r][-1])
        while bound:
            runs.append("bare")
        assert runs == ["for", "while", "bare"]
        for _ in range(2):
            while bound:
                runs.append("again")
        assert runs[3:] == ["again"] * 2
        del runs[3:]
        nl.fori_loop(0, 3, lambda i: runs.append("known"))
        assert runs[3:] == ["known"] * 3


def test_the_documented_copy_of_columns():
    data = np.random.default_rng(1).standard_normal((1, 8)).astype(np.float32)
    with core() as on:
        source, output = put(on, data, region="shared_hbm"), put(on, np.zeros((1, 8), np.float32), region="shared_hbm")
        temporary = empty(on, (1, 1))
        bound = loaded(on, 5)

        def body(i):
            nisa.dma_copy(dst=temporary, src=source.ap([[1, 1], [1, 1]], scalar_offset=i, indirect_dim=1))
            nisa.dma_copy(dst=output.ap([[1, 1], [1, 1]], scalar_offset=i, indirect_dim=1), src=temporary)

        nl.fori_loop(0, bound, body)
        assert np.array_equal(get(on, output), np.where(np.arange(8) < 5, data, 0))
        copies = [each for each in on.trace if each.op == "dma_copy"]
        assert len(copies) == 10
        assert len({each.loop for each in copies}) == 5


def test_the_documented_loop_over_tiles():
    data = np.random.default_rng(2).standard_normal((512, 64)).astype(np.float32)
    with core() as on:
        source, output = put(on, data, region="shared_hbm"), empty(on, (512, 64), region="shared_hbm")
        for i in nl.dynamic_range(nisa.register_alloc(0), nisa.register_alloc(512), 128):
            tile = empty(on, (128, 64))
            nisa.dma_copy(dst=tile, src=source.ap([[64, 128], [1, 64]], scalar_offset=i))
            nisa.tensor_scalar(dst=tile, data=tile, op0="add", operand0=2.0)
            nisa.dma_copy(dst=output.ap([[64, 128], [1, 64]], scalar_offset=i), src=tile)
        assert np.array_equal(get(on, output), data + np.float32(2.0))


def test_the_documented_while_loop():
    with core() as on:
        total, value = put(on, np.zeros((1, 1), np.float32)), put(on, np.full((1, 1), 1.5, np.float32))
        count, one = put(on, np.array([[4]], np.int32)), put(on, np.array([[1]], np.int32))
        register = nisa.register_alloc()
        nisa.register_load(register, count)

        def body(r):
            nisa.tensor_tensor(dst=total, data1=total, data2=value, op="add")
            nisa.tensor_tensor(dst=count, data1=count, data2=one, op="subtract")
            nisa.register_load(r, count)
            return r

        nl.while_loop(register, body)
        assert get(on, total)[0, 0] == 6.0
