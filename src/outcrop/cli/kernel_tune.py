"""``outcrop kernel tune``: the fastest of a kernel's declared choices, by predicted time."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from outcrop.base.errors import UserError

# NumPy and the device are imported when the verb runs: others do without.

_MOST_JOBS = 8
_BAR = 24  # characters

Subparsers = argparse._SubParsersAction


def add(verbs: Subparsers[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the verb below ``outcrop kernel``."""
    tuning = verbs.add_parser(
        "tune",
        parents=[common],
        help="search a kernel's declared choices by predicted time",
        description="Tries tile sizes, buffer counts, engines and whatever else a kernel declares as choices, without "
        "computing values, and ranks them by predicted time: all variants where there are few, else a local search. "
        "Variants that the hardware would refuse are counted and left out. The kernel is one of Outcrop's own "
        "(an unknown name tells them), a KernelCase in a file, or an @nki.jit kernel in a file with a "
        "parameter `tuning` whose default is a frozen dataclass with fields like "
        "`rows: int = field(default=4, metadata={'legal': (4, 2, 8)})`; a dataclass named TUNING comes first.",
        epilog="example: outcrop kernel tune matmul --shape M=512 --limit 60 --out matmul.tuned.json\n"
        "example: outcrop kernel tune mine.py:scale --arg x=bfloat16[4096,4096] --results mine.jsonl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tuning.add_argument("kernel", metavar="NAME|FILE[:NAME]", help="a kernel of Outcrop, or one in a Python file")
    tuning.add_argument(
        "--shape",
        action="extend",
        nargs="+",
        default=[],
        metavar="K=V",
        help="sizes other than the kernel's large ones",
    )
    tuning.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of a kernel that is no KernelCase: bfloat16[128,512], or a Python literal",
    )
    tuning.add_argument("--dtype", default="", metavar="TYPE", help="of the data: fp32, bf16, ... (default: bf16)")
    tuning.add_argument("--target", metavar="CHIP", help="a chip's name or file (default: trn2)")
    tuning.add_argument("--trials", type=_positive, default=64, metavar="N", help="variants to try (default: 64)")
    tuning.add_argument("--jobs", type=_positive, metavar="N", help="processes (default: one for each CPU, at most 8)")
    tuning.add_argument("--limit", type=float, metavar="S", help="stop after so many seconds with what was found")
    tuning.add_argument("--seed", type=int, default=0, metavar="N", help="of the local search's random starts")
    tuning.add_argument("--out", type=Path, metavar="FILE", help="write the fastest choices here, as JSON")
    tuning.add_argument(
        "--results", type=Path, metavar="FILE", help="keep each trial here; a search that was stopped goes on from it"
    )
    tuning.set_defaults(run=run_tune)


def run_tune(args: argparse.Namespace) -> int:
    from outcrop.silicon.kernels.trial import Task  # noqa: PLC0415
    from outcrop.silicon.kernels.tune import report, tune  # noqa: PLC0415
    from outcrop.silicon.nki.defaults import find_target  # noqa: PLC0415

    if args.limit is not None and not args.limit > 0:
        raise UserError(f"--limit {args.limit} leaves no time.", "Give seconds.")
    task = Task(
        kernel=args.kernel,
        target=args.target or find_target(None).name,
        sizes={name: _size(name, value) for name, value in _pairs("--shape", args.shape, "M=512")},
        dtype=args.dtype,
        arguments=dict(_pairs("--arg", args.arg, "x=bfloat16[128,512]")),
    )
    is_shown = sys.stderr.isatty()
    try:
        made = tune(
            task,
            seed=args.seed,
            trials=args.trials,
            jobs=args.jobs or min(os.cpu_count() or 1, _MOST_JOBS),
            limit_s=args.limit,
            results=args.results,
            progress=_show if is_shown else _do_not_show,
        )
    except KeyboardInterrupt:
        if args.results is not None:
            print(f"\n{args.results} keeps the trials so far: the same command goes on from it.", file=sys.stderr)
        raise
    if is_shown:
        print("\r\x1b[K", end="", file=sys.stderr)
    if args.out is not None:
        made.write(args.out)
    if args.json:
        print(json.dumps(made.document()))
        return 0
    print("\n".join(report(made)))
    if args.out is not None:
        print(f"{args.out}: the fastest choices, as KernelCase.tuned(path) reads them")
    return 0


def _show(made: int, most: int, best_us: float) -> None:
    full = _BAR * made // max(most, 1)
    best = "" if math.isinf(best_us) else f", best {best_us:,.1f} us"
    print(f"\r\x1b[K[{'#' * full}{'.' * (_BAR - full)}] {made} of {most}{best}", end="", file=sys.stderr, flush=True)


def _do_not_show(made: int, most: int, best_us: float) -> None:
    pass


def _pairs(option: str, given: list[str], example: str) -> Iterator[tuple[str, str]]:
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"{option} {each} is not NAME=VALUE.", f"Write for example {option} {example}.")
        yield name, value


def _size(name: str, value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise UserError(f"--shape {name}={value} is no size.", "Write for example --shape M=512.")
    return int(value)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
