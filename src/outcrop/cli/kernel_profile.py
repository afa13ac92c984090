"""``outcrop kernel profile``, ``diff`` and ``calibrate``: where a kernel's time goes, and how good the clock is."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import re
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.base.errors import UserError

if TYPE_CHECKING:
    from outcrop.silicon.nki import Run
    from outcrop.silicon.profile import Profile
    from outcrop.silicon.timing.calibrate import Fit

# NumPy and the device are imported when a verb runs: others do without.

Subparsers = argparse._SubParsersAction


def add(verbs: Subparsers[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the verbs below ``outcrop kernel``."""
    from outcrop.cli.kernel import add_running_arguments  # noqa: PLC0415

    profiling = verbs.add_parser(
        "profile",
        parents=[common],
        help="predict where the time of a kernel goes, and what to change",
        description="Runs FILE like `outcrop kernel run`, replays what it executed against the clock of the target, "
        "and says how long it takes, what binds, and what each of several changes would gain: each was replayed. "
        "With --out it writes a page, a trace for Perfetto and tables.",
        epilog="example: outcrop kernel profile matmul.py:tiled --arg a=bfloat16[1024,2048] "
        "--arg b=bfloat16[1024,1024] --out tiled --open",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_running_arguments(profiling)
    profiling.add_argument("--out", type=Path, metavar="DIR", help="write page, trace, tables and the profile here")
    profiling.add_argument("--open", action="store_true", help="open the page in a browser")
    profiling.add_argument("--laws", type=Path, metavar="FILE", help="laws that `outcrop kernel calibrate` fitted")
    profiling.add_argument("--parquet", action="store_true", help="tables as Parquet too; needs pyarrow")
    profiling.add_argument("--no-values", action="store_true", help="compute no values: faster, for large shapes")
    profiling.add_argument("--no-advice", action="store_true", help="leave out what binds and what to change; faster")
    profiling.set_defaults(run=run_profile)

    difference = verbs.add_parser(
        "diff",
        parents=[common],
        help="compare two profiles by engine, instruction and source line",
        description="Compares two profiles: directories of `outcrop kernel profile --out`, or the JSON that "
        "`neuron-profile view --output-format json` wrote on a device.",
        epilog="example: outcrop kernel diff tiled hoisted\nexample: outcrop kernel diff measured.json.gz simulated",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    difference.add_argument("before", type=Path, metavar="A", help="a saved profile, or a device's JSON")
    difference.add_argument("after", type=Path, metavar="B", help="a saved profile, or a device's JSON")
    difference.add_argument("--target", metavar="CHIP", help="the chip of a device's JSON (default: trn2)")
    difference.set_defaults(run=run_diff)

    calibrating = verbs.add_parser(
        "calibrate",
        parents=[common],
        help="fit the clock's laws to profiles of a device",
        description="Fits what instructions cost to real profiles and reports the error of each kind of instruction, "
        "so that an owner of a device can improve the clock.",
        epilog="example: outcrop kernel calibrate profile.json.gz --target trn2 --out my_laws.toml",
    )
    calibrating.add_argument("profiles", type=Path, nargs="+", metavar="PROFILE", help="JSON of neuron-profile view")
    calibrating.add_argument("--target", metavar="CHIP", help="the chip they come from (default: trn2)")
    calibrating.add_argument("--out", type=Path, metavar="FILE", help="write the fitted laws here, as TOML")
    calibrating.set_defaults(run=run_calibrate)


# -- profile ----------------------------------------------------------------------------------------------------------


def run_profile(args: argparse.Namespace) -> int:
    from outcrop.cli import kernel  # noqa: PLC0415
    from outcrop.silicon import profile as room  # noqa: PLC0415

    if args.laws is not None and not args.laws.is_file():
        raise UserError(f"There is no file {args.laws}.", "outcrop kernel calibrate PROFILE --out FILE writes one.")
    if args.parquet and importlib.util.find_spec("pyarrow") is None:
        raise UserError("--parquet needs pyarrow, which is not installed.", "pip install pyarrow, or leave it out.")
    printed = contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext()
    with printed:
        runs = kernel.executed(args, timing_only=args.no_values)
    if args.open and args.out is None:
        args.out = Path("outcrop-profile")
    documents: list[dict[str, Any]] = []
    for number, each in enumerate(runs):
        made = room.profile_run(each, advice=not args.no_advice, laws=args.laws)
        written = _save(made, args, number, runs) if args.out is not None else {}
        summary = room.summarise(made)
        if args.json:
            document = room.document(made, summary)
            documents.append({**document, "files": {kind: str(path) for kind, path in written.items()}})
            continue
        if number:
            print()
        print(room.report(made, summary))
        for kind, path in written.items():
            print(f"  {kind}: {path}")
    if args.json:
        print(json.dumps({"target": runs[0].target.name, "kernels": documents}))
    return 0


def _save(made: Profile, args: argparse.Namespace, number: int, runs: list[Run]) -> dict[str, Path]:
    from outcrop.silicon import profile as room  # noqa: PLC0415

    folder: Path = args.out
    if len(runs) > 1:
        folder = folder / f"{number:03}-{re.sub(r'[^A-Za-z0-9_.-]', '_', made.kernel)}"
    written = room.save(made, folder, parquet=args.parquet)
    if args.open and number == 0 and not webbrowser.open(written["page"].resolve().as_uri()):
        print(f"No browser could be opened here; the page is {written['page']}.", file=sys.stderr)
    return written


# -- diff -------------------------------------------------------------------------------------------------------------


def run_diff(args: argparse.Namespace) -> int:
    from outcrop.silicon import profile as room  # noqa: PLC0415

    made = room.compare(room.read(args.before, args.target), room.read(args.after, args.target))
    print(json.dumps(made.document()) if args.json else made)
    return 0


# -- calibrate --------------------------------------------------------------------------------------------------------


def run_calibrate(args: argparse.Namespace) -> int:
    from outcrop.silicon import chip as chips  # noqa: PLC0415
    from outcrop.silicon.timing import calibrate  # noqa: PLC0415
    from outcrop.silicon.timing.laws import load  # noqa: PLC0415
    from outcrop.silicon.timing.profile_json import read_profile  # noqa: PLC0415

    for path in args.profiles:
        if not path.is_file():
            raise UserError(f"There is no file {path}.", "Give the JSON of: neuron-profile view --output-format json.")
    target = chips.load(args.target or chips.DEFAULT_TARGET).name
    fits = calibrate.calibrate([read_profile(path) for path in args.profiles], load(target))
    if args.out is not None:
        names = ", ".join(path.name for path in args.profiles)
        calibrate.write(fits, args.out, chip=target, extends=target, source=f"outcrop kernel calibrate of {names}")
    if args.json:
        print(json.dumps({"target": target, "laws": [_fit(each) for each in fits]}))
    else:
        print(calibrate.report(fits))
        if args.out is not None:
            print(f"{args.out}: use it with outcrop kernel profile --laws {args.out}")
    return 0


def _fit(each: Fit) -> dict[str, Any]:
    law = each.law
    return {
        **{name: getattr(law, name) for name in ("op", "engine", "memory", "dtypes", "variant", "samples", "error")},
        "error_before": each.error_before,
        "latency_ns": [law.latency.base, law.latency.per_element],
        "occupancy_ns": [law.occupancy.base, law.occupancy.per_element],
    }
