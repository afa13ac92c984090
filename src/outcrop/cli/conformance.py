"""``outcrop conformance``: a public kernel suite, run on the simulated device from a checkout of yours."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

from outcrop.base.errors import UserError
from outcrop.silicon import chip, conformance

_MEMORY = re.compile(r"(\d+)([KMGT]?)i?B?", re.IGNORECASE)


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "conformance",
        parents=[common],
        help="run a public kernel suite on the simulated device",
        description="Run the tests of a public kernel suite, unmodified, from a checkout of yours, and say which pass, "
        "which fail and why. Each case has a process of its own, with limits on its time and memory.",
        epilog="example: outcrop conformance ~/nki-library --filter cumsum --jobs 4",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a checkout of a suite")
    parser.add_argument(
        "--suite",
        default="auto",
        choices=["auto", *conformance.SUITES],
        help="which suite of the checkout (default: all that it has)",
    )
    parser.add_argument("--filter", default="", metavar="EXPR", help="run the cases that pytest's -k would choose")
    parser.add_argument(
        "--only", action="append", default=[], metavar="FILE", help="a file or folder of the suite; may be repeated"
    )
    parser.add_argument("--timeout", type=float, default=60, metavar="S", help="seconds for each case (default: 60)")
    parser.add_argument("--memory", default="16G", metavar="SIZE", help="memory for each case (default: 16G)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cases at a time (default: 1)")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="run one case of N, for a sample")
    parser.add_argument(
        "--target", default=chip.DEFAULT_TARGET, metavar="CHIP", help=f"the chip (default: {chip.DEFAULT_TARGET})"
    )
    parser.add_argument(
        "--relaxed", action="append", default=[], metavar="RULE", help="a rule that only warns; may be repeated"
    )
    parser.add_argument("--collect", action="store_true", help="collect the cases and run none")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="keep results here as JSON lines, and run only what it has not"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables as a page")
    parser.add_argument("--json-file", type=Path, metavar="FILE", help="also write one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    options = conformance.Options(
        target=args.target,
        expression=args.filter,
        paths=tuple(args.only),
        timeout_s=args.timeout,
        memory_bytes=_bytes(args.memory),
        jobs=max(1, args.jobs),
        stride=max(1, args.stride),
        relaxed=tuple(args.relaxed),
        collect_only=args.collect,
        results=args.results,
    )
    for path in (args.results, args.markdown, args.json_file):  # now, not after hours
        if path is not None and (path.is_dir() or not os.access(path.resolve().parent, os.W_OK)):
            raise UserError(f"{path} cannot be written.", "Name a file in a folder that exists and can be written to.")
    try:
        results = [
            conformance.run_suite(suite, args.path, options, _progress)
            for suite in conformance.find_suites(args.path, args.suite)
        ]
    except KeyboardInterrupt:
        again = "keeps results; the same command goes on with the others" if args.results else "would have kept results"
        print(f"\nStopped. --results {args.results or 'FILE'} {again}.", file=sys.stderr)
        raise
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if args.markdown:
        args.markdown.write_text(conformance.markdown(results), encoding="utf-8")
    if args.json_file:
        args.json_file.write_text(json.dumps(conformance.document(results), indent=1), encoding="utf-8")
    print(json.dumps(conformance.document(results)) if args.json else conformance.text(results))
    return 0


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _bytes(text: str) -> int:
    read = _MEMORY.fullmatch(text)
    if read is None:
        raise UserError(f"{text!r} is not an amount of memory.", "Write it like 16G or 800M.")
    return int(read[1]) << (10 * " KMGT".index(read[2].upper() or " "))
