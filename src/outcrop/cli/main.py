"""The ``outcrop`` command: finds the verb, runs it, and tells errors in one line with their id."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from outcrop import __version__
from outcrop.base.errors import OutcropError
from outcrop.cli import (
    admin,
    attack,
    audit,
    chip,
    conformance,
    doctor,
    evidence,
    explain,
    kernel,
    key,
    logs,
    models,
    policy,
    trust,
    tune,
    up,
)

VERBS = (
    up,
    doctor,
    key,
    models,
    tune,
    trust,
    policy,
    audit,
    evidence,
    attack,
    admin,
    logs,
    chip,
    kernel,
    conformance,
    explain,
)

EXIT_CODES = "exit codes: 0 done, 1 the request could not be carried out (the reason is on stderr), 2 wrong usage"


def default_data_directory() -> Path:
    """``$OUTCROP_DATA``, else the XDG data directory of the user."""
    if named := os.environ.get("OUTCROP_DATA"):
        return Path(named)
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "outcrop"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every verb adds its own part."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data",
        type=Path,
        default=default_data_directory(),
        metavar="DIR",
        help="the data directory (default: $OUTCROP_DATA, else ~/.local/share/outcrop)",
    )
    common.add_argument("--json", action="store_true", help="print one JSON document, for scripts")
    parser = argparse.ArgumentParser(
        prog="outcrop",
        description="The open stack from silicon to service, on a machine of your own.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"outcrop {__version__}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        verb.add(subparsers, common)
    return parser


def record(args: argparse.Namespace) -> None:
    """Leave an event for the trail of ``args.data``, where one is named, before a verb changes something there."""
    if args.data is None:
        return
    from outcrop.service.auditing import record_command  # noqa: PLC0415 - heavy

    unsaid = {"run", "json", "data", "recorded_as"}
    given = {name: str(value) for name, value in vars(args).items() if name not in unsaid and value is not None}
    record_command(args.data, args.recorded_as, given)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the value is the exit code."""
    args = build_parser().parse_args(argv)
    try:
        if getattr(args, "recorded_as", ""):
            record(args)
        code: int = args.run(args)
    except OutcropError as error:
        print(f"outcrop: {error} [{error.id}]", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`outcrop models list | head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
