"""The public suites: how a checkout is recognised, and how its own tests are started.

Every suite runs as its authors run it: its test files under pytest, with its own options for simulation, or its
example programs as programs. Cases that its authors exclude stay excluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outcrop.base.errors import UserError


@dataclass(frozen=True)
class Suite:
    """One suite. Paths are relative to the checkout; ``{checkout}`` and ``{scratch}`` stand in arguments."""

    name: str
    title: str
    marks: tuple[str, ...]  # paths that a checkout has if and only if the suite is in it
    tests: tuple[str, ...] = ()  # files and folders for pytest
    programs: tuple[str, ...] = ()  # patterns of scripts that are run as they are
    mistakes: tuple[str, ...] = ()  # of these, the ones that show a mistake: they pass if they are refused
    arguments: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()  # folders for the import path
    environment: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[tuple[str, str, str], ...] = ()  # (module, class, attribute): read by the suite, and set by nothing

    def is_in(self, checkout: Path) -> bool:
        return all((checkout / mark).exists() for mark in self.marks)


# The libraries of github.com/trnsci: of each, the files with tests of its kernels, which run under nki.simulate when
# asked. What needs a chip stays out, as its authors mark it.
_TRNSCI = {
    "trnfft": ("sim",),
    "trnrand": ("sim", "dispatch", "distributions", "partitioning", "philox", "quasi", "streaming"),
    "trnsolver": ("sim",),
    "trnsparse": ("sim", "attn", "bsr", "screened_spmm", "spmm"),
    "trntensor": ("sim", "kernels"),
}

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "sdk-test",
            "AWS Neuron SDK, nki/test: one file per instruction, legacy API",
            ("nki/test/test_nki_simulate_kernel.py",),
            tests=("nki/test",),
        ),
        Suite(
            "sdk-examples",
            "AWS Neuron SDK, nki/examples and the MX deep dive: the tutorials' programs",
            ("nki/examples/simulate",),
            programs=("nki/examples/**/*.py", "nki/deep-dives/src/**/*.py"),
            mistakes=("nki/examples/layout-violation.py",),
        ),
        Suite(
            "nki-library",
            "NKI Library, test/integration in its simulation mode",
            ("test/utils/simulation_setup.py", "src/nkilib_src"),
            tests=("test/integration",),
            arguments=(
                "-c",
                "{checkout}/test/pytest.ini",
                "--rootdir={checkout}",
                "--test-mode=simulation",
                "--platform-target={platform}",
                "--output-directory={scratch}/output",
                "--force-local-cleanup",
                "--override-ini=artifacts_dir={scratch}/artifacts",
                "--override-ini=log_level=WARNING",
            ),
            imports=(".", "src"),
            environment={"NEURON_PYTHONHASHSEED": "0", "NKILIB_SIMULATION_RUN_ALL": "1"},
            absent=(("test.utils.test_orchestrator", "Orchestrator", "_compiled_kernel"),),
        ),
        Suite(
            "nki-samples",
            "NKI Samples: unit tests, tutorials and contributed kernels",
            ("src/nki_samples", "contributed"),
            tests=("test/unit", "src/nki_samples/tutorials"),
            programs=("src/nki_samples/tutorials/**/*.py", "contributed/*.py"),
            arguments=("--simulation-only",),
            imports=("src",),
        ),
        *(
            Suite(
                name,
                f"{name} of trnsci: tests of its kernels under nki.simulate",
                (f"{name}/nki", "tests/test_nki_sim.py"),
                tests=tuple(f"tests/test_nki_{each}.py" for each in files),
                arguments=("-m", "not neuron"),
                imports=(".",),
                environment={f"{name.upper()}_USE_SIMULATOR": "1"},
            )
            for name, files in _TRNSCI.items()
        ),
    )
}


def find_suites(checkout: Path, name: str = "auto") -> list[Suite]:
    """The named suite, or with ``auto`` all that the checkout has; ``UserError`` where there is none."""
    if not checkout.is_dir():
        raise UserError(f"{checkout} is not a folder.", "Point at a checkout of a public kernel suite.")
    if name != "auto":
        if name not in SUITES:
            raise UserError(f"There is no suite {name!r}.", f"Suites: {', '.join(SUITES)}.")
        suite = SUITES[name]
        if not suite.is_in(checkout):
            raise UserError(f"{checkout} is not a checkout with {name}: {', '.join(suite.marks)} missing.")
        return [suite]
    found = [suite for suite in SUITES.values() if suite.is_in(checkout)]
    if not found:
        looked = "; ".join(f"{suite.name} has {', '.join(suite.marks)}" for suite in SUITES.values())
        raise UserError(f"{checkout} has no suite that Outcrop knows.", f"Looked for: {looked}.")
    return found
