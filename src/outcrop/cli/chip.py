"""``outcrop chip``: the accelerators that Outcrop knows, number by number, each with its source."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outcrop.silicon import chip
from outcrop.silicon.chip import Chip, Figure, Total


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "chip",  # without `common`: its --data here would lose against the default of the verb behind
        help="list and show accelerators, each number with its source",
        description="The accelerators that Outcrop knows, and hypothetical ones from a file of yours.",
        epilog="example: outcrop chip list && outcrop chip show trn2",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    listing = verbs.add_parser(
        "list", parents=[common], help="list the known chips", epilog="example: outcrop chip list --json"
    )
    listing.set_defaults(run=run_list)

    showing = verbs.add_parser(
        "show",
        parents=[common],
        help="say everything about one chip",
        description="Every number of a chip with its unit, confidence and source; then the sums that follow from them, "
        "beside those that documents print.",
        epilog="example: outcrop chip show trn2\nexample: outcrop chip show ./bigger.toml --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    showing.add_argument(
        "chip",
        nargs="?",
        metavar="CHIP",
        help=f"a name, or a chip file (default: ${chip.TARGET_VARIABLE}, else {chip.DEFAULT_TARGET})",
    )
    showing.set_defaults(run=run_show)


def run_list(args: argparse.Namespace) -> int:
    default = chip.default_target()
    rows = [_summary(chip.load(name), default) for name in chip.names()]
    if args.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        mark = "  (default target)" if row["default"] else ""
        names = ", ".join([row["name"], *row["aliases"]])
        print(f"{names:<12} {row['title']}{mark}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    shown = _named(args.chip)
    if args.json:
        print(json.dumps(_document(shown)))
        return 0
    print("\n".join(_page(shown)))
    return 0


def _named(target: str | None) -> Chip:
    if target is not None and target not in chip.names() and (Path(target).is_file() or target.endswith(".toml")):
        return chip.load_file(target)
    return chip.load(target)


def _summary(shown: Chip, default: str) -> dict[str, Any]:
    aliases = [alias for alias, name in chip.aliases().items() if name == shown.name]
    return {"name": shown.name, "title": shown.title, "aliases": aliases, "default": shown.name == default}


def _document(shown: Chip) -> dict[str, Any]:
    return {
        "name": shown.name,
        "title": shown.title,
        "file": str(shown.path),
        "extends": shown.extends or None,
        "figures": {key: _figure(figure) for key, figure in chip.walk(shown)},
        "totals": {
            total.key: {
                "computed": _figure(total.computed),
                "documented": _figure(total.documented) if total.documented else None,
                "difference": total.difference,
            }
            for total in chip.totals(shown)
        },
        "absent": list(chip.absent(shown)),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "value": figure.value,
        "unit": figure.unit,
        "confidence": figure.confidence.value,
        "source": figure.source,
        "note": figure.note or None,
    }


def _page(shown: Chip) -> Iterator[str]:
    figures = list(chip.walk(shown))
    numbers = {source: number for number, source in enumerate(dict.fromkeys(f.source for _, f in figures), start=1)}
    extends = f", extends {shown.extends}" if shown.extends else ""
    yield f"{shown.name}: {shown.title}"
    yield f"file: {shown.path}{extends}"
    yield ""
    for key, figure in figures:
        note = f"  ({figure.note})" if figure.note else ""
        yield f"{key:<58} {figure!s:>18}  {figure.confidence.value} [{numbers[figure.source]}]{note}"
    yield ""
    yield "Sums of the parts, and how far they are from the documented ones:"
    for total in chip.totals(shown):
        yield f"{total.key:<58} {total.computed!s:>18}  {_beside(total)}"
    yield ""
    yield f"Not given by any source: {', '.join(chip.absent(shown))}"
    yield ""
    for confidence, meaning in chip.CONFIDENCE_MEANINGS.items():
        yield f"{confidence.value}: {meaning}"
    for source, number in numbers.items():
        yield f"[{number}] {source}"


def _beside(total: Total) -> str:
    if total.documented is None or total.difference is None:
        return "not documented"
    return f"{total.difference:+.1%} of {total.documented}"
