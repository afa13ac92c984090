"""Where a kernel's time goes and what to change: the clock's timeline as a summary, tables, a trace and a page.

``profile_run`` makes a ``Profile`` of a run; ``save`` writes everything made from it to a directory; ``read`` gets a
saved one back, or a real one from the JSON of the vendor's profiler; ``compare`` sets two side by side.

Where to start reading: ``base`` (what a profile is), ``measure`` (from a replay to rows), ``advice`` with ``rewrite``
and ``transfers`` (changes made to a trace and replayed), ``page`` (what is drawn, by ``page/page.js``).
"""

from __future__ import annotations

from outcrop.silicon.profile.base import Advice, Bound, Estimate, Profile, Row, SourceLine
from outcrop.silicon.profile.comparison import Comparison, compare
from outcrop.silicon.profile.make import profile_run, read, save
from outcrop.silicon.profile.report import document, report
from outcrop.silicon.profile.summary import Summary, summarise

__all__ = [
    "Advice",
    "Bound",
    "Comparison",
    "Estimate",
    "Profile",
    "Row",
    "SourceLine",
    "Summary",
    "compare",
    "document",
    "profile_run",
    "read",
    "report",
    "save",
    "summarise",
]
