"""Which PyTorch is installed where. The probes are made up; nothing is asked of this machine."""

from __future__ import annotations

from typing import Any

import pytest

from torch_choice import CPU_INDEX, Choice, Probes, _answers, choose

REQUIREMENT = "torch>=2.11,<2.14"


def never(name: str) -> Any:
    def asked() -> Any:
        pytest.fail(f"{name} was asked although the answer does not matter")

    return asked


def choice(**answers: Any) -> Choice:
    """The choice on a machine with these answers; a probe without an answer must not be asked."""
    names = ("installed", "has_gpu", "linked", "cpu_index_answers")
    probes = {name: (lambda name=name: answers[name]) if name in answers else never(name) for name in names}
    return choose(REQUIREMENT, Probes(**probes))


def test_a_version_in_range_is_kept_and_nothing_else_is_asked():
    kept = choice(installed="2.12.1+cu130")
    assert kept.pip_arguments == ()
    assert "2.12.1+cu130" in kept.line


def test_a_gpu_gets_the_installers_default_with_its_cuda_dependencies():
    assert choice(installed=None, has_gpu=True).pip_arguments == (REQUIREMENT,)


def test_without_a_gpu_the_cpu_build_of_the_configured_links_comes_first_and_exactly_that_file():
    chosen = choice(installed=None, has_gpu=False, linked="2.13.0+cpu")
    assert chosen.pip_arguments == ("--no-deps", "--no-index", "torch==2.13.0+cpu")


@pytest.mark.parametrize("linked", [None, "2.13.0", "2.13.0+cu130"])
def test_links_without_a_cpu_build_lead_to_the_cpu_index(linked: str | None):
    chosen = choice(installed=None, has_gpu=False, linked=linked, cpu_index_answers=True)
    assert chosen.pip_arguments == ("--no-deps", "--index-url", CPU_INDEX, REQUIREMENT)


def test_with_nothing_else_in_reach_the_default_is_taken_and_the_line_says_what_it_costs():
    chosen = choice(installed=None, has_gpu=False, linked=None, cpu_index_answers=False)
    assert chosen.pip_arguments == (REQUIREMENT,)
    assert "CUDA" in chosen.line
    assert "3 GB" in chosen.line


def test_an_index_that_cannot_be_reached_does_not_answer():
    assert not _answers("http://127.0.0.1:9/", within_s=3.0)
