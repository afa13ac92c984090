"""``outcrop explain ID``: what an error id means."""

from __future__ import annotations

import argparse
import inspect
import json

from outcrop.base import errors


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "explain",
        parents=[common],
        help="say what an error id means",
        description="Say what the id at the end of an error line means; without an id, list them all.",
        epilog="example: outcrop explain OC-2100",
    )
    parser.add_argument("id", nargs="?", help="an id such as OC-2100")
    parser.set_defaults(run=run)


def known_errors() -> dict[str, type[errors.OutcropError]]:
    """Every error id with its class."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    return {c.id: c for c in sorted((c for c in classes if issubclass(c, errors.OutcropError)), key=lambda c: c.id)}


def run(args: argparse.Namespace) -> int:
    known = known_errors()
    if args.id is not None and args.id not in known:
        raise errors.NotFound(f"{args.id!r} is not an error id.", f"Known ids: {', '.join(known)}.")
    chosen = {args.id: known[args.id]} if args.id else known
    texts = {error_id: inspect.cleandoc(cls.__doc__ or "") for error_id, cls in chosen.items()}
    if args.json:
        print(json.dumps(texts))
        return 0
    for error_id, text in texts.items():
        print(f"{error_id}  {chosen[error_id].__name__}\n{text}\n")
    return 0
