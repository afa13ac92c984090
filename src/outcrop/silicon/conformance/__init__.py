"""Public kernel suites, run unmodified on this device: which cases pass, which fail, and why.

A suite is a checkout that the user points at; nothing of it is in Outcrop. ``suites`` says how each one is found and
started, ``runner`` starts pytest on it in a process of its own, ``plugin`` runs there and forks once for each case, and
``table`` groups the outcomes. ``stand_ins`` has the few modules that suites import and that are not public.
"""

from __future__ import annotations

from outcrop.silicon.conformance.runner import Options, run_suite
from outcrop.silicon.conformance.suites import SUITES, Suite, find_suites
from outcrop.silicon.conformance.table import Result, document, markdown, text

__all__ = ["SUITES", "Options", "Result", "Suite", "document", "find_suites", "markdown", "run_suite", "text"]
