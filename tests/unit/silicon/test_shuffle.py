"""nc_stream_shuffle against row copies, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa

ROTATE = [(i - 1) % 32 for i in range(32)]


def bits(array):
    return np.ascontiguousarray(array).view(np.uint8)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    data=st.data(),
    quadrants=st.integers(1, 4),
    dtype=st.sampled_from(["float32", "bfloat16", "uint8", "int32", "float8_e4m3"]),
    regions=st.tuples(*[st.sampled_from(["sbuf", "psum"])] * 2),
    short=st.integers(0, 31),
)
def test_rows_move_within_their_quadrant(data, quadrants, dtype, regions, short):
    mask = data.draw(st.lists(st.sampled_from([*range(32), 255, 255]), min_size=32, max_size=32))
    rows = 32 * quadrants
    rng = np.random.default_rng(7)
    with core() as on:
        src = put(on, rng.integers(0, 100, (rows, 6)), dtype, regions[0])
        dst = put(on, rng.integers(0, 100, (rows - short, 3, 2)), dtype, regions[1])
        expected = bits(get(on, dst)).reshape(rows - short, -1).copy()
        source = bits(get(on, src))
        nisa.nc_stream_shuffle(dst=dst, src=src, shuffle_mask=mask)
        for row in range(rows - short):
            if mask[row % 32] != 255:
                expected[row] = source[row // 32 * 32 + mask[row % 32]]
        assert np.array_equal(bits(get(on, dst)).reshape(rows - short, -1), expected)


def test_in_place_rotation():
    data = np.random.default_rng(8).standard_normal((128, 16)).astype(np.float32)
    with core() as on:
        tile = put(on, data)
        handle = nisa.nc_stream_shuffle(tile, tile, ROTATE, name="rotate")
        expected = np.concatenate([np.roll(each, 1, axis=0) for each in np.split(data, 4)])
        assert np.array_equal(get(on, tile), expected)
        assert (handle.engine, handle.name, handle.params["shuffle_mask"]) == (
            nisa.engine.vector,
            "rotate",
            tuple(ROTATE),
        )


def test_one_partition_is_broadcast_to_any_quadrant():
    with core() as on:
        src = put(on, np.arange(8, dtype=np.float32).reshape(1, 8))
        dst = empty(on, (128, 8))
        for quadrant in range(4):
            nisa.nc_stream_shuffle(dst[quadrant * 32 : quadrant * 32 + 32, :], src[0:1, :], [0] * 32)
        assert np.array_equal(get(on, dst), np.arange(8, dtype=np.float32).reshape(1, 8).repeat(128, 0))


def test_only_the_partitions_of_the_mask_are_read_and_written():
    with core() as on:
        src, dst = empty(on, (64, 4)), empty(on, (64, 4))
        on.write(src[16:17], np.full((1, 4), 1.0))
        on.write(src[48:49], np.full((1, 4), 2.0))
        nisa.nc_stream_shuffle(dst, src, [16] + [255] * 31)
        assert get(on, dst[0:1]).tolist() == [[1.0] * 4]
        assert get(on, dst[32:33]).tolist() == [[2.0] * 4]
        with pytest.raises(KernelRefused) as err:
            get(on, dst[0:2])
        assert err.value.rule.name == "uninitialized-read"
        with pytest.raises(KernelRefused) as err:
            nisa.nc_stream_shuffle(dst, empty(on, (64, 4)), [16] + [255] * 31)
        assert err.value.rule.name == "uninitialized-read"


def test_partitions_that_nothing_wrote_stay_so_where_they_arrive():
    with core() as on:
        src, dst = empty(on, (64, 4)), put(on, np.zeros((64, 4), np.float32))
        on.write(src[16:17], np.full((1, 4), 1.0))
        nisa.nc_stream_shuffle(dst, src, [16] + [255] * 31)
        assert get(on, dst[0:32])[:, 0].tolist() == [1.0] + [0.0] * 31
        assert get(on, dst[33:64]).sum() == 0
        with pytest.raises(KernelRefused, match="to 63, byte 0 on, the first at") as err:
            get(on, dst[32:33])
        assert err.value.rule.name == "uninitialized-read"
        nisa.nc_stream_shuffle(dst, src, [255] * 32)  # moves nothing
        assert get(on, dst[0:32]).sum() == 4.0


def filled(on, rows, columns=4, **kind):
    return put(on, np.zeros((rows, columns), np.float32), **kind)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda on: nisa.nc_stream_shuffle(filled(on, 32), filled(on, 32), [0] * 31), "parameter"),
        (lambda on: nisa.nc_stream_shuffle(filled(on, 32), filled(on, 32), [32] + [0] * 31), "parameter"),
        (lambda on: nisa.nc_stream_shuffle(filled(on, 32), filled(on, 32, dtype="bfloat16"), ROTATE), "operand-dtype"),
        (lambda on: nisa.nc_stream_shuffle(filled(on, 32), filled(on, 32, 5), ROTATE), "operand-shape"),
        (lambda on: nisa.nc_stream_shuffle(filled(on, 64), filled(on, 1), [0] * 32), "out-of-bounds"),
        (lambda on: nisa.nc_stream_shuffle(filled(on, 64)[16:48], filled(on, 32), ROTATE), "start-partition"),
        (lambda on: nisa.nc_stream_shuffle(filled(on, 64)[32:64], filled(on, 64), ROTATE), "start-partition"),
        (lambda on: nisa.nc_stream_shuffle(filled(on, 128)[32:96], filled(on, 64), ROTATE), "start-partition"),
        (
            lambda on: nisa.nc_stream_shuffle(filled(on, 32), filled(on, 32, region="shared_hbm"), ROTATE),
            "operand-memory",
        ),
    ],
)
def test_refusals(call, rule):
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            call(on)
        assert err.value.rule.name == rule
