"""Random numbers: known answers of the generator, reproducible streams, distributions, limits."""

from __future__ import annotations

import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.dtypes import find
from outcrop.silicon.device.random_words import philox, stream
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa


def draw(on, shape=(128, 64), dtype="uint32", **options):
    dst = empty(on, shape, dtype)
    nisa.rng(dst, **options)
    return get(on, dst)


def seeded(on, value=7):
    nisa.set_rng_seed(put(on, np.array([[value]], np.uint32)))


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, words):
    made = philox(np.array(counter, np.uint64)[:, None], *np.array(key, np.uint64)[:, None])
    assert made[:, 0].tolist() == words


def test_a_stream_is_the_same_in_pieces():
    states = np.random.default_rng(0).integers(0, 2**32, (5, 6), dtype=np.uint32)
    states[:, 5] = [0, 1, 2, 3, 2**32 - 3]
    whole = stream(states, 40)
    for cut in (1, 3, 4, 17):
        later = states.copy()
        later[:, 5] += np.uint32(cut)
        assert np.array_equal(np.concatenate((stream(states, cut), stream(later, 40 - cut)), axis=1), whole)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_a_seed_gives_the_same_numbers_again(target):
    with core(target) as on:
        seeded(on)
        first, second = draw(on), draw(on)
        seeded(on)
        assert np.array_equal(draw(on), first)
        assert np.array_equal(draw(on), second)
        assert not np.array_equal(first, second)
        seeded(on, 8)
        assert not np.array_equal(draw(on), first)


def test_the_run_decides_where_the_kernel_sets_no_seed():
    def run(seed):
        with core(seed=seed) as on:
            return draw(on), draw(on, engine=nisa.engine.gpsimd)

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1)[0], run(2)[0])
    assert not np.array_equal(*run(1))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_narrow_types_keep_the_lowest_bits(dtype):
    with core() as on:
        seeded(on)
        words = draw(on)
        seeded(on)
        kind = np.dtype(dtype)
        assert np.array_equal(
            draw(on, dtype=dtype), (words & (2 ** (8 * kind.itemsize) - 1)).astype(f"u{kind.itemsize}").view(kind)
        )


@pytest.mark.parametrize("engine", ["vector", "gpsimd"])
@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_bits_and_lanes_look_random(target, engine):
    with core(target) as on:
        words = draw(on, (128, 2048), engine=nisa.engine[engine])
    bits = np.unpackbits(words.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    counts = np.bincount((words >> np.uint32(24)).reshape(-1), minlength=256)
    expected = words.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 5 * np.sqrt(2 * 255)
    unit = words.astype(np.float64) / 2**32 - 0.5
    lanes = np.corrcoef(unit) - np.eye(128)
    assert np.abs(lanes).max() < 6 / np.sqrt(2048)
    assert abs((unit[:, 1:] * unit[:, :-1]).mean() * 12) < 5 / np.sqrt(unit.size)


@pytest.mark.parametrize(
    ("target", "engine", "words"), [("trn2", "gpsimd", 6), ("trn3", "gpsimd", 6), ("trn3", "vector", 24)]
)
def test_states_reproduce_and_continue(target, engine, words):
    which = nisa.engine[engine]
    with core(target) as on:
        seeds = put(on, np.random.default_rng(3).integers(0, 2**32, (128, words), dtype=np.uint32))
        nisa.rand_set_state(seeds, engine=which)
        first = draw(on, (128, 33), engine=which)
        nisa.rand_set_state(seeds, engine=which)
        assert np.array_equal(draw(on, (128, 33), engine=which), first)
        saved = empty(on, (128, words), "uint32")
        nisa.rand_get_state(saved, engine=which)
        later = draw(on, (128, 5), engine=which)
        draw(on, (128, 9), engine=which)
        nisa.rand_set_state(saved, engine=which)
        assert np.array_equal(draw(on, (128, 5), engine=which), later)
        assert len(np.unique(first)) > 0.99 * first.size


def test_states_of_single_quadrants():
    with core() as on:
        before, after = empty(on, (128, 6), "uint32"), empty(on, (128, 6), "uint32")
        nisa.rand_get_state(before)
        tile = empty(on, (128, 6), "uint32")
        on.write(tile[64:96], np.arange(32 * 6, dtype=np.uint32).reshape(32, 6))
        nisa.rand_set_state(tile[64:96])
        nisa.rand_get_state(after)
        expected = get(on, before).copy()
        expected[64:96] = np.arange(32 * 6).reshape(32, 6)
        assert np.array_equal(get(on, after), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint8"])
@pytest.mark.parametrize("vectors", [False, True])
def test_rand2_is_uniform(dtype, vectors):
    low, high = 20.0, 100.0
    with core("trn3") as on:
        dst = empty(on, (128, 1000), dtype, "psum" if dtype == "float32" else "sbuf")
        bounds = [put(on, np.full((128, 1), each, np.float32)) if vectors else each for each in (low, high)]
        nisa.rand2(dst, *bounds)
        values = get(on, dst).astype(np.float64)
        assert len(on.trace[-1].reads) == (2 if vectors else 0)
    assert values.min() >= low
    assert values.max() <= high
    assert abs(values.mean() - 60) < 5 * (80 / np.sqrt(12)) / np.sqrt(values.size) + 0.01
    counts = np.histogram(values, bins=16, range=(low, high))[0]
    if dtype == "float32":
        expected = values.size / 16
        assert ((counts - expected) ** 2 / expected).sum() < 15 + 5 * np.sqrt(30)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("prob", [0.0, 0.2, 1.0])
def test_dropout_keeps_and_drops(dtype, prob):
    with core() as on:
        data = put(on, np.random.default_rng(4).integers(1, 100, (128, 512)), dtype)
        dst = empty(on, (128, 512), dtype)
        nisa.dropout(dst, data, prob)
        result, source = get(on, dst), get(on, data)
        assert ((result == source) | (result == 0)).all()
        share = (result == 0).mean()
        assert share == prob if prob in (0.0, 1.0) else abs(share - prob) < 5 * np.sqrt(prob * (1 - prob) / result.size)


def test_dropout_with_a_probability_per_partition():
    with core() as on:
        prob = put(on, np.linspace(0, 1, 128).reshape(128, 1), "bfloat16")
        dst = empty(on, (128, 2048))
        nisa.dropout(dst, put(on, np.ones((128, 2048), np.float32)), prob)
        share = (get(on, dst) == 0).mean(axis=1)
        wanted = get(on, prob).astype(np.float64)[:, 0]
        assert (np.abs(share - wanted) < 5 * np.sqrt(0.25 / 2048)).all()
        assert on.trace[-1].params == {"prob_vector": True}
        assert len(on.trace[-1].reads) == 2


def zeros(on, shape, dtype="float32", region="sbuf"):
    return put(on, np.zeros(shape), dtype, region)


@pytest.mark.parametrize(
    ("target", "call", "rule"),
    [
        ("trn2", lambda on: nisa.rng(empty(on, (4, 4), "float32")), "operand-dtype"),
        ("trn2", lambda on: nisa.rng(empty(on, (4, 4), "int32"), engine=nisa.engine.scalar), "engine"),
        ("trn1", lambda on: nisa.rng(empty(on, (4, 4), "int32"), engine=nisa.engine.gpsimd), "generation"),
        ("trn2", lambda on: nisa.rng(empty(on, (4, 4), "int32", "psum"), engine=nisa.engine.gpsimd), "operand-memory"),
        ("trn2", lambda on: nisa.rand2(empty(on, (4, 4)), 0.0, 1.0), "generation"),
        ("trn3", lambda on: nisa.rand2(empty(on, (4, 4)), 1.0, 1.0), "parameter"),
        ("trn3", lambda on: nisa.rand2(empty(on, (4, 4)), zeros(on, (4, 1)), zeros(on, (4, 1))), "parameter"),
        ("trn3", lambda on: nisa.rand2(empty(on, (4, 4)), zeros(on, (3, 1)), 1.0), "operand-shape"),
        ("trn3", lambda on: nisa.rand2(empty(on, (4, 4)), zeros(on, (4, 1), "bfloat16"), 1.0), "operand-dtype"),
        ("trn3", lambda on: nisa.rand2(empty(on, (4, 4), "float8_e4m3fn"), 0.0, 1.0), "operand-dtype"),
        ("trn3", lambda on: nisa.rand2(empty(on, (4, 4)), "low", 1.0), "parameter"),
        ("trn2", lambda on: nisa.set_rng_seed(zeros(on, (1, 2), "uint32")), "operand-shape"),
        ("trn2", lambda on: nisa.set_rng_seed(zeros(on, (1, 1), "uint16")), "operand-dtype"),
        ("trn2", lambda on: nisa.set_rng_seed(zeros(on, (1, 1), "uint32", "shared_hbm")), "operand-memory"),
        ("trn1", lambda on: nisa.rand_set_state(zeros(on, (4, 6), "uint32")), "generation"),
        ("trn2", lambda on: nisa.rand_set_state(zeros(on, (4, 24), "uint32"), engine=nisa.engine.vector), "generation"),
        ("trn2", lambda on: nisa.rand_set_state(zeros(on, (4, 5), "uint32")), "operand-shape"),
        ("trn2", lambda on: nisa.rand_set_state(zeros(on, (4, 6), "int32")), "operand-dtype"),
        ("trn3", lambda on: nisa.rand_set_state(zeros(on, (4, 24), "uint32")), "operand-shape"),
        ("trn3", lambda on: nisa.rand_set_state(zeros(on, (4, 6), "uint32", "psum")), "operand-memory"),
        ("trn3", lambda on: nisa.rand_get_state(empty(on, (4, 6), "uint32", "psum")), "operand-memory"),
        ("trn3", lambda on: nisa.rand_get_state(empty(on, (4, 6), "uint32"), engine=nisa.engine.scalar), "engine"),
        ("trn2", lambda on: nisa.dropout(empty(on, (4, 4), "bfloat16"), zeros(on, (4, 4)), 0.1), "operand-dtype"),
        ("trn2", lambda on: nisa.dropout(empty(on, (4, 5)), zeros(on, (4, 4)), 0.1), "operand-shape"),
        ("trn2", lambda on: nisa.dropout(empty(on, (4, 4)), zeros(on, (4, 4)), zeros(on, (4, 2))), "operand-shape"),
        (
            "trn2",
            lambda on: nisa.dropout(
                empty(on, (4, 4), "int32"), zeros(on, (4, 4), "int32"), zeros(on, (4, 1), "float16")
            ),
            "operand-dtype",
        ),
    ],
)
def test_refusals(target, call, rule):
    with core(target) as on:
        with pytest.raises(KernelRefused) as err:
            call(on)
        assert err.value.rule.name == rule


def test_the_vector_engines_state_may_go_to_psum():
    with core("trn3") as on:
        dst = empty(on, (128, 24), "uint32", "psum")
        nisa.rand_get_state(dst, engine=nisa.engine.vector)
        assert get(on, dst).shape == (128, 24)
        assert find("uint32") == dst.dtype
