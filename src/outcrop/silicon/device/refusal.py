"""How a broken rule is told: an error, or a warning where the rule is relaxed, with the line of the kernel."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from outcrop.silicon.device.rules import KernelRefused, KernelWarning, Rule
from outcrop.silicon.device.source import Source, caller


class Verdicts(threading.local):
    """Which rules are relaxed in this thread, and what they would have refused."""

    relaxed: frozenset[str] = frozenset()
    warned: list[tuple[Rule, str, Source]] | None = None


_verdicts = Verdicts()


@contextmanager
def relaxing(relaxed: frozenset[str], warned: list[tuple[Rule, str, Source]]) -> Iterator[None]:
    """Within the block, and in this thread only, breaking one of ``relaxed`` warns and is noted in ``warned``."""
    before = _verdicts.relaxed, _verdicts.warned
    _verdicts.relaxed, _verdicts.warned = relaxed, warned
    try:
        yield
    finally:
        _verdicts.relaxed, _verdicts.warned = before


def refuse(rule: Rule, message: str, remedy: str, source: Source | None = None) -> None:
    """Raise ``KernelRefused`` for a broken rule, or warn and return where the rule is relaxed.

    ``message`` says what was seen and on which tensor; ``remedy`` what would make it legal. ``source`` is the line to
    blame where it is not the one being executed.
    """
    source = caller() if source is None else source
    text = f"[{rule.name}] {message}"
    where = f"\n  at {source}" + (f": {source.text}" if source.text else "")
    if rule.relaxable and rule.name in _verdicts.relaxed:
        if _verdicts.warned is not None:
            _verdicts.warned.append((rule, message, source))
        warnings.warn_explicit(f"{text} {remedy}{where}", KernelWarning, source.file, source.line)
        return
    raise KernelRefused(rule, text, f"{remedy}{where}")


def advise(rule: Rule, message: str, remedy: str, source: Source | None = None) -> None:
    """Warn of a broken advisory rule, once for each line of the kernel; silent where the rule is relaxed."""
    source = caller() if source is None else source
    noted = _verdicts.warned
    if noted is not None:
        if any(each[0] is rule and each[2] == source for each in noted):
            return
        noted.append((rule, message, source))
    if rule.name not in _verdicts.relaxed:
        where = f"\n  at {source}" + (f": {source.text}" if source.text else "")
        warnings.warn_explicit(f"[{rule.name}] {message} {remedy}{where}", KernelWarning, source.file, source.line)


def is_relaxed(rule: Rule) -> bool:
    return rule.name in _verdicts.relaxed
