"""Who waits for whom: overlap of access patterns against a brute-force map of bytes, and the edges of small traces."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, put
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.timing.dependence import Edge, Kind, edges
from outcrop.silicon.timing.overlap import Runs, bytes_overlap

FIXED = settings(derandomize=True, deadline=None, max_examples=400)

patterns = st.tuples(
    st.integers(0, 40),
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(-12, 12), st.integers(2, 4)), max_size=3).map(tuple),
).map(lambda runs: (runs[0] + 100, runs[1], runs[2]))


def touched(runs: Runs) -> set[int]:
    first, run, outer = runs
    starts = [
        first + sum(step * at for (step, _), at in zip(outer, chosen, strict=True))
        for chosen in itertools.product(*(range(count) for _, count in outer))
    ]
    return {start + byte for start in starts for byte in range(run)}


@FIXED
@given(one=patterns, two=patterns)
def test_overlap_is_exact_for_any_strides(one: Runs, two: Runs) -> None:
    wanted = bool(touched(one) & touched(two))
    assert bytes_overlap(one, two) is wanted
    assert bytes_overlap(two, one) is wanted


def test_columns_of_one_matrix_do_not_conflict() -> None:
    with core() as c:
        matrix = empty(c, (512, 512), "float32", "private_hbm")
        tile = put(c, np.zeros((128, 256), np.float32))
        c.record("dma_copy", Engine.dma, (matrix[0:128, 0:256],), (tile,))
        c.record("dma_copy", Engine.dma, (matrix[0:128, 256:512],), (tile,))
        c.record("dma_copy", Engine.dma, (tile,), (matrix[0:128, 128:384],))
        assert edges(c.trace) == [(), (), (Edge(0, Kind.FLOW), Edge(1, Kind.FLOW))]


def test_edges_of_a_small_kernel() -> None:
    with core() as c:
        a, b = empty(c, (128, 64)), empty(c, (128, 64))
        c.record("memset", Engine.vector, (a,), ())  # 0
        c.record("tensor_copy", Engine.vector, (b,), (a,))  # 1 reads what 0 wrote
        c.record("memset", Engine.gpsimd, (a[:, 0:32],), ())  # 2 overwrites what 1 read
        c.record("activation", Engine.scalar, (b[:, 0:1],), (a[:, 40:41],))  # 3 the half that 2 left alone
        c.record("memset", Engine.vector, (b,), ())  # 4
        c.record("memset", Engine.vector, (empty(c, (128, 64)),), ()).depends_on(c.trace[2])  # 5
        assert edges(c.trace) == [
            (),
            (Edge(0, Kind.FLOW),),
            (Edge(0, Kind.OUTPUT), Edge(1, Kind.ANTI)),
            (Edge(0, Kind.FLOW), Edge(1, Kind.OUTPUT)),
            (Edge(1, Kind.OUTPUT), Edge(3, Kind.OUTPUT)),
            (Edge(2, Kind.DECLARED),),
        ]


def test_partitions_apart_do_not_conflict() -> None:
    with core() as c:
        a = empty(c, (128, 64))
        c.record("memset", Engine.vector, (a[0:64],), ())
        c.record("memset", Engine.gpsimd, (a[64:128],), ())
        assert edges(c.trace) == [(), ()]


def test_explicit_addresses_conflict_where_their_bytes_do() -> None:
    with core() as c:
        one = c.allocate((128, 16), "float32", address=(0, 0))
        two = c.allocate((128, 16), "float32", address=(0, 60))
        three = c.allocate((128, 16), "float32", address=(0, 124))
        for each in (one, two, three):
            c.record("memset", Engine.vector, (each,), ())
        assert edges(c.trace) == [(), (Edge(0, Kind.OUTPUT),), ()]


def test_run_time_indices_count_as_the_whole_tensor() -> None:
    with core() as c:
        table = empty(c, (64, 8), "float32", "private_hbm")
        index = put(c, np.zeros((4, 1), np.int32))
        rows = put(c, np.zeros((4, 8), np.float32))
        c.record("dma_copy", Engine.dma, (table[60:64],), (rows,))
        c.record("dma_copy", Engine.dma, (rows,), (table.vector_select(0, index), index))
        assert edges(c.trace)[1] == (Edge(0, Kind.FLOW),)
