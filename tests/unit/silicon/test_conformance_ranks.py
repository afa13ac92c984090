"""Cases of several ranks under a suite's orchestrator, of which a small stand-in is used here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from outcrop.silicon import nki
from outcrop.silicon.conformance import several_ranks
from outcrop.silicon.nki import collectives
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl

RANKS = 4


class Orchestrator:
    """What the adapter relies on: one method, and a folder for a case's files."""

    def __init__(self, folder: Path) -> None:
        self.fs_config = SimpleNamespace(artifacts_output_directory_path=str(folder))

    def _run_simulator_inference(self, kernel_under_test: Any) -> str:
        return "the suite's own"


class InferenceException(Exception):
    """The suite's error for a kernel that failed."""


class PerRank:
    """The suite's generators of what each rank gets."""

    def __init__(self, generator: Callable[[int], dict[str, Any]]) -> None:
        self.for_rank = generator


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orchestrator:
    module = ModuleType("test.utils.test_orchestrator")
    made = type("Orchestrator", (Orchestrator,), dict(vars(Orchestrator)))
    vars(module).update(Orchestrator=made, InferenceException=InferenceException)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("NKI_NC_VERSION", "gen3")
    several_ranks.install()
    return made(tmp_path)


def case(kernel: Any, inputs: Any, golden: Any, ranks: int = RANKS) -> Any:
    return SimpleNamespace(
        kernel_func=kernel,
        kernel_input=inputs,
        compiler_input=SimpleNamespace(platform_target=SimpleNamespace(get_nc_gen=lambda: "gen3"), logical_nc_config=1),
        inference_args=SimpleNamespace(collective_ranks=ranks),
        validation_args=SimpleNamespace(golden_output=golden),
    )


@nki.jit
def total_of_ranks(x: Any, state: Any, group: Any) -> Any:
    total = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    mine = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(mine, x)
    nisa.dma_copy(state, x)
    collectives.all_reduce(srcs=[mine], dsts=[total], replica_group=group, op=nl.add)
    return total, state


def test_each_rank_gets_its_inputs_and_its_outputs_are_where_the_validator_looks(suite: Orchestrator) -> None:
    values = np.arange(RANKS * 6, dtype=np.float32).reshape(RANKS, 2, 3)
    shared = np.zeros((2, 3), np.float32)  # the same array for all: each rank still has its own
    group = collectives.ReplicaGroup([list(range(RANKS))])
    inputs = PerRank(lambda rank: {"x": values[rank], "state.must_alias_input": shared, "group": group})
    golden = PerRank(lambda rank: {"out": values.sum(0), "state": values[rank]})
    where = Path(suite._run_simulator_inference(case(total_of_ranks, inputs, golden)))
    for rank in range(RANKS):
        folder = where / f"output_worker_{rank}"
        np.testing.assert_array_equal(np.fromfile(folder / "out.bin", np.float32).reshape(2, 3), values.sum(0))
        np.testing.assert_array_equal(np.fromfile(folder / "state.bin", np.float32).reshape(2, 3), values[rank])
    assert not shared.any()


def test_one_rank_is_left_to_the_suite(suite: Orchestrator) -> None:
    assert suite._run_simulator_inference(case(total_of_ranks, {}, {}, ranks=1)) == "the suite's own"


def test_a_failure_is_the_suites_own_error(suite: Orchestrator) -> None:
    group = collectives.ReplicaGroup([[0, 1]])
    x = np.zeros((2, 3), np.float32)
    wrong = case(total_of_ranks, {"x": x, "state": x, "group": group}, {"out": x}, ranks=2)
    with pytest.raises(InferenceException, match="2 outputs instead of out"):
        suite._run_simulator_inference(wrong)
