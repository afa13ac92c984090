"""DMA: how transfers are cut, served and queued, against sums by hand."""

from __future__ import annotations

import dataclasses

import pytest

from kernel_rig import core, empty
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.timing.dma_engine import Descriptors, DmaEngines, descriptors_of
from outcrop.silicon.timing.laws import DmaLaw, load
from outcrop.silicon.timing.program import path_of, prepare

PLAIN = DmaLaw(
    per_descriptor_ns=5, bytes_per_ns=10, software_per_descriptor_ns=3,
    largest_descriptor_bytes=4096, hardware_issue_ns=500, software_issue_ns=50, software_generation_ns=400,
    software_per_row_ns=2, static_issue_ns=20, load_dispatch_ns=700, store_dispatch_ns=600, load_stall_ns=0,
    load_stall_share=0, load_turnaround_ns=300, store_stall_ns=0, store_stall_share=0, completion_ns=300,
    hbm_bytes_per_ns=1e9, arguments_by_software=True,
)  # fmt: skip


def test_descriptors_are_shared_evenly_by_the_engines() -> None:
    engines = DmaEngines(PLAIN, 4)
    end = engines.serve(0.0, Descriptors(8, 100, 8), ring="sync", load=True)
    assert end == 700 + 2 * (5 + 10)
    assert engines.busy_ns == 8 * 15
    assert engines.bytes_moved == 800


def test_few_descriptors_use_few_engines() -> None:
    engines = DmaEngines(PLAIN, 4)
    assert engines.serve(0.0, Descriptors(1, 100, 1), ring="sync", load=False) == 615
    assert sorted(engines.free) == [0.0, 0.0, 0.0, 615]
    assert engines.serve(0.0, Descriptors(3, 100, 3), ring="scalar", load=False) == 615  # on the three others


def test_a_transfer_waits_for_the_engines() -> None:
    engines = DmaEngines(PLAIN, 2)
    first = engines.serve(0.0, Descriptors(20, 1000, 20), ring="sync", load=False)
    assert first == 600 + 10 * 105
    assert engines.serve(0.0, Descriptors(2, 1000, 2), ring="scalar", load=False) == first + 105


def test_loads_of_one_queue_turn_around_and_those_of_two_do_not() -> None:
    one = DmaEngines(PLAIN, 2)
    first = one.serve(0.0, Descriptors(20, 1000, 20), ring="sync", load=True)
    assert one.serve(100.0, Descriptors(2, 1000, 2), ring="sync", load=True) == first + 300 + 105
    two = DmaEngines(PLAIN, 2)
    first = two.serve(0.0, Descriptors(20, 1000, 20), ring="sync", load=True)
    assert two.serve(100.0, Descriptors(2, 1000, 2), ring="scalar", load=True) == first + 105


def test_software_descriptors_cost_more() -> None:
    assert DmaEngines(PLAIN, 1).serve(0.0, Descriptors(1, 100, 1), ring="gpsimd", software=True, load=True) == 700 + 18


def test_memory_bandwidth_is_a_limit_of_its_own() -> None:
    slow = dataclasses.replace(PLAIN, hbm_bytes_per_ns=1.0)
    assert DmaEngines(slow, 16).serve(0.0, Descriptors(16, 1000, 16), ring="sync", load=True) == 700 + 16000
    assert DmaEngines(slow, 16).serve(0.0, Descriptors(16, 1000, 16), ring="sync", load=True, hbm=False) == 805


def test_transfers_are_cut_by_partition_and_by_dense_run() -> None:
    law = load("trn2").dma
    with core() as c:
        dense = empty(c, (128, 512), "float32", "private_hbm")
        tile = empty(c, (128, 512))
        c.record("dma_copy", Engine.dma, (tile,), (dense,))
        assert descriptors_of(law, c.trace[-1]) == Descriptors(128, 2048, 128)
        wide = empty(c, (128, 4096), "float32", "private_hbm")
        c.record("dma_copy", Engine.dma, (tile,), (wide[:, 0:512],))
        assert descriptors_of(law, c.trace[-1]) == Descriptors(128, 2048, 128)
        c.record("dma_copy", Engine.dma, (empty(c, (128, 4096)),), (wide,))
        assert descriptors_of(law, c.trace[-1]) == Descriptors(512, 4096, 128)
        c.record("dma_copy", Engine.dma, (tile[:, 0:64],), (dense[:, 0:128:2],))
        assert descriptors_of(law, c.trace[-1]) == Descriptors(128 * 64, 4, 128 * 64)


@pytest.mark.parametrize(
    ("mode", "asked", "trigger", "want"),
    [
        ("hwdge", "hwdge", "scalar", ("scalar", "hardware")),
        ("hwdge", "hwdge", "sync", ("sync", "hardware")),
        ("swdge", "swdge", "gpsimd", ("gpsimd", "software")),
        ("none", "unknown", "sync", ("sync", "static")),
        ("hwdge", "unknown", "sync", ("gpsimd", "software")),  # the caller's tensor: an address of run time
    ],
)
def test_who_makes_the_descriptors(mode: str, asked: str, trigger: str, want: tuple[str, str]) -> None:
    laws = load("trn2")
    queues = ("tensor", "vector", "scalar", "gpsimd", "sync")
    with core() as c:
        outside = empty(c, (128, 64), "float32", "shared_hbm")
        params = {"dge_mode": mode, "dge_mode_asked": asked, "trigger": trigger}
        c.record("dma_copy", Engine.dma, (empty(c, (128, 64)),), (outside,), params)
        queue, path = path_of(laws, c.trace[0], {outside.storage.allocation.index})
        assert (queues[queue], path) == want


def test_a_kernels_own_tensors_come_on_sync_and_go_on_scalar() -> None:
    params = {"dge_mode": "hwdge", "dge_mode_asked": "unknown", "trigger": "sync"}
    with core() as c:
        own = empty(c, (128, 64), "float32", "private_hbm")
        tile = empty(c, (128, 64))
        c.record("dma_copy", Engine.dma, (own,), (tile,), params)
        c.record("dma_copy", Engine.dma, (tile,), (own,), params)
        made = prepare([c.trace], load("trn2"))
    assert [each.queue for each in made.works] == [2, 4]


def test_software_makes_descriptors_before_the_trigger() -> None:
    """581 ns for 128 rows and 1160 for 512, as in the profiles."""
    laws = load("trn2")
    params = {"dge_mode": "swdge", "dge_mode_asked": "swdge", "trigger": "gpsimd"}
    with core() as c:
        tile = empty(c, (128, 512), "bfloat16")
        c.record("dma_copy", Engine.dma, (tile,), (empty(c, (128, 512), "bfloat16", "private_hbm"),), params)
        strided = empty(c, (128, 4, 512), "bfloat16", "private_hbm")
        c.record("dma_copy", Engine.dma, (empty(c, (128, 4, 128), "bfloat16"),), (strided[:, :, 0:128],), params)
        moved = [each.transfer for each in prepare([c.trace], laws).works]
    assert [round(each.generation_ns) for each in moved if each is not None] == [581, 1161]
