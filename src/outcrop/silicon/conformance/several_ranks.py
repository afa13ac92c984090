"""Several ranks in NKI Library's simulation mode, which knows one only: its kernels that use collectives run too.

The suite describes what each rank gets and has to return, for the hardware. Its simulation mode was made for one
without collectives: it reads the inputs of one rank. Here, cases of several ranks run on as many simulated ones, and
each rank's outputs are put where the suite's own validator looks for them. Cases of one rank are left to the suite.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.silicon.nki.run import PerRank, run

_SUFFIX = ".must_alias_input"  # on names of inputs that are outputs too; the suite takes it away in simulation


def install() -> None:
    """Teach the suite's orchestrator, where it was imported."""
    module = sys.modules.get("test.utils.test_orchestrator")
    orchestrator: Any = getattr(module, "Orchestrator", None)
    original: Callable[[Any, Any], Any] | None = getattr(orchestrator, "_run_simulator_inference", None)
    if original is None:
        return
    folder: str = getattr(module, "INF_ARTIFACT_DIR_NAME", "infer_result")  # where the validator writes its log too
    raised: type[Exception] = getattr(module, "InferenceException", RuntimeError)

    @functools.wraps(original)
    def run_inference(self: Any, kernel_under_test: Any) -> Any:
        if kernel_under_test.inference_args.collective_ranks <= 1:
            return original(self, kernel_under_test)
        where = Path(self.fs_config.artifacts_output_directory_path) / folder
        try:
            _run_ranks(kernel_under_test, where)
        except Exception as error:  # as the suite's own method does
            raise raised(str(error)) from error
        return str(where)

    orchestrator._run_simulator_inference = run_inference  # where the suite asks for values


def _run_ranks(case: Any, where: Path) -> None:
    ranks: int = case.inference_args.collective_ranks
    os.environ["NKI_NC_VERSION"] = case.compiler_input.platform_target.get_nc_gen()
    arguments = _arguments([_of_rank(case.kernel_input, rank) for rank in range(ranks)])
    kernel = getattr(case.kernel_func, "func", case.kernel_func)
    made = run(kernel, kwargs=arguments, grid=case.compiler_input.logical_nc_config, ranks=ranks)
    golden = case.validation_args.golden_output
    for rank, returned in enumerate(made.results):
        values = list(returned) if isinstance(returned, list | tuple) else [returned]
        expected: Mapping[str, Any] = _of_rank(golden, rank)
        if len(values) != len(expected):
            raise ValueError(f"The kernel returned {len(values)} outputs instead of {', '.join(expected)}.")
        folder = where / f"output_worker_{rank}"
        folder.mkdir(parents=True)
        for (name, like), value in zip(expected.items(), values, strict=True):
            np.ascontiguousarray(value, dtype=like.dtype).tofile(folder / f"{name}.bin")


def _of_rank(given: Any, rank: int) -> Any:
    """What a rank gets of something that may differ between them."""
    if hasattr(given, "for_rank"):
        return given.for_rank(rank)
    return getattr(given, "output_ndarray", given)


def _arguments(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One argument for each name. Arrays are copied: each rank has a memory of its own."""
    arguments: dict[str, Any] = {}
    for name, first in inputs[0].items():
        values = [each[name] for each in inputs]
        if any(isinstance(each, np.ndarray) for each in values):
            arguments[name.removesuffix(_SUFFIX)] = PerRank(
                [each.copy() if isinstance(each, np.ndarray) else each for each in values]
            )
        else:
            arguments[name.removesuffix(_SUFFIX)] = first if all(each is first for each in values) else PerRank(values)
    return arguments
