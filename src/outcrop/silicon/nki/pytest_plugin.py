"""A pytest plugin: the vendor's import names for a whole test session, so that kernel suites run unmodified.

Off unless asked for: ``pytest --outcrop-nki``, or ``outcrop_nki = true`` in the configuration. Then ``import nki`` and
its kin find Outcrop while test modules are collected and run; ``--outcrop-target`` and ``--outcrop-relaxed`` set what
kernels take by default, and the header says so.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest  # importing this module must not import pytest: it is a plugin, not a dependency


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("outcrop", "Outcrop's kernel language")
    group.addoption("--outcrop-nki", action="store_true", help="make `import nki` and its kin find Outcrop")
    group.addoption("--outcrop-target", metavar="CHIP", help="the chip that kernels run on, by name or file")
    group.addoption(
        "--outcrop-relaxed",
        action="append",
        default=[],
        metavar="RULE",
        help="a rule that only warns when a kernel breaks it, or `all`; may be repeated",
    )
    group.addoption("--outcrop-shadow", action="store_true", help="hide the vendor's package where it is installed")
    parser.addini("outcrop_nki", "make `import nki` and its kin find Outcrop", type="bool", default=False)


def _wanted(config: pytest.Config) -> bool:
    return bool(config.getoption("--outcrop-nki") or config.getini("outcrop_nki"))


def pytest_configure(config: pytest.Config) -> None:
    if not _wanted(config):
        return
    from outcrop.silicon.nki.activate import activate  # noqa: PLC0415  (NumPy and the device, only where wanted)

    relaxed = config.getoption("--outcrop-relaxed")
    stack = ExitStack()
    stack.enter_context(
        activate(
            config.getoption("--outcrop-target"),
            "all" in relaxed or frozenset(relaxed),
            shadow=config.getoption("--outcrop-shadow"),
        )
    )
    config.add_cleanup(stack.close)


def pytest_report_header(config: pytest.Config) -> str | None:
    if not _wanted(config):
        return None
    from outcrop.silicon.nki.defaults import current_options, find_target  # noqa: PLC0415

    options = current_options()
    relaxed = "all rules relaxed" if options.relaxed is True else ", ".join(sorted(options.relaxed or ())) or "strict"
    return f"outcrop nki: {find_target(options.target).name}, {relaxed}"
