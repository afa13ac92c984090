"""Stands for ``nki.compiler.frontend``: to compile a kernel is to run it, for all that it refuses on the way.

Rules of the front end only warn: a case of NKI Library compiles a comparison with ``is``, which the vendor's own guide
says its compiler does not take. Which of the two is right is not known to us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from outcrop.silicon.nki import frontend
from outcrop.silicon.nki.launch import simulate


class NKIFrontend:
    """What front ends have in common."""

    def compile(
        self, kernel: Callable[..., Any], inputs: Mapping[str, Any], target: str, lnc: int = 1, **options: object
    ) -> SimpleNamespace:
        """Run the kernel on its inputs; nothing is kept."""
        simulate(kernel, target=target, relaxed=frontend.RULES)[lnc](**inputs)
        return SimpleNamespace(module=None)


class ParserFrontend(NKIFrontend):
    """The one that reads source."""


class TracerFrontend(NKIFrontend):
    """The one that runs the body."""
