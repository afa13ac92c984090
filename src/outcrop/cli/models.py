"""``outcrop models``: import, list, show and remove models, and give them other names."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from outcrop.base.arn import account_id
from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import UserError
from outcrop.base.files import make_private_directory
from outcrop.models.registry import ModelInfo, ModelRegistry

MODELS_FOLDER = "models"

_STAGES = {"copy": "copying", "scan": "checking weights"}


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "models",  # without `common`: its --data here would lose against the default of the verb behind
        help="import, list, show and remove models",
        description="The models of a data directory: those that come with Outcrop, and those you import.",
        epilog="example: outcrop models import ~/SmolLM2-135M-Instruct && outcrop models list",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    importing = verbs.add_parser(
        "import",
        parents=[common],
        help="copy a Hugging Face model directory in",
        description="Check a Hugging Face directory (config.json, *.safetensors, tokenizer.json) and copy it in. "
        "Nothing is registered unless all of it is sound. Llama 2/3, Mistral, Qwen2/2.5, Qwen3, SmolLM2/3.",
        epilog="example: outcrop models import ~/SmolLM2-135M-Instruct --id local.smollm2-v1:0",
    )
    importing.add_argument("directory", type=Path, metavar="DIR", help="the directory that has config.json")
    importing.add_argument("--id", metavar="ID", help="the model id (default: local.<name of DIR>-v1:0)")
    importing.add_argument("--owner", metavar="ACCOUNT", help="the only account that sees the model (default: all do)")
    importing.add_argument(
        "--seal", action="store_true", help="encrypt the weights under the owner's key; needs --owner"
    )
    importing.add_argument(
        "--key", metavar="KEY", help="with --seal: id, ARN or alias of the owner's KMS key (default: its account's own)"
    )
    importing.set_defaults(run=run_import)

    listing = verbs.add_parser(
        "list", parents=[common], help="list models and aliases", epilog="example: outcrop models list --json"
    )
    listing.set_defaults(run=run_list)

    showing = verbs.add_parser(
        "show",
        parents=[common],
        help="say everything about one model",
        epilog="example: outcrop models show outcrop.pebble-v1:0",
    )
    showing.add_argument("id", metavar="ID", help="a model id or an alias")
    showing.set_defaults(run=run_show)

    removing = verbs.add_parser(
        "remove",
        parents=[common],
        help="delete an imported model",
        epilog="example: outcrop models remove local.smollm2-v1:0 --dry-run",
    )
    removing.add_argument("id", metavar="ID", help="the id of an imported model")
    removing.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    removing.set_defaults(run=run_remove)

    aliasing = verbs.add_parser(
        "alias",
        parents=[common],
        help="let another name stand for a model",
        description="Let NAME stand for the model ID, so that a program written for NAME gets an answer from ID.",
        epilog="example: outcrop models alias anthropic.claude-3-haiku-20240307-v1:0 outcrop.pebble-v1:0",
    )
    aliasing.add_argument("name", metavar="NAME", help="the other name")
    aliasing.add_argument("id", metavar="ID", help="the model id it stands for")
    aliasing.set_defaults(run=run_alias)

    unaliasing = verbs.add_parser(
        "unalias",
        parents=[common],
        help="forget an alias",
        epilog="example: outcrop models unalias anthropic.claude-3-haiku-20240307-v1:0",
    )
    unaliasing.add_argument("name", metavar="NAME", help="the alias")
    unaliasing.set_defaults(run=run_unalias)


def run_import(args: argparse.Namespace) -> int:
    if args.seal and args.owner is None:
        raise UserError("--seal needs an owner, whose key seals the weights.", "Name the account with --owner.")
    if args.key is not None and not args.seal:
        raise UserError("--key says what to seal the weights under.", "Add --seal, or leave --key out.")
    owner = None if args.owner is None else account_id(args.owner)
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(_with_keys(args)) if args.seal else _registry(args)
        progress = stack.enter_context(contextlib.closing(_Progress()))
        info = registry.import_directory(args.directory, args.id, owner=owner, seal=args.seal, progress=progress)
    if args.json:
        return _print_json(_document(info))
    print(f"Imported {info.model_id}: {info.architecture}, {_count(info.parameters)} parameters, {info.dtype}.")
    return 0


def run_list(args: argparse.Namespace) -> int:
    registry = _registry(args)
    infos, aliases = registry.list(), registry.aliases()
    if args.json:
        return _print_json({"models": [_document(info) for info in infos], "aliases": aliases})
    rows = [("MODEL ID", "PARAMETERS", "CONTEXT", "DTYPE", "SIZE", "SOURCE")]
    rows += [
        (i.model_id, _count(i.parameters), str(i.max_positions), i.dtype, _size(i.size_bytes), i.source) for i in infos
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for alias, target in sorted(aliases.items()):
        print(f"{alias} -> {target}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    registry = _registry(args)
    info = registry.get(args.id)
    document = _document(info) | {"aliases": sorted(a for a, t in registry.aliases().items() if t == info.model_id)}
    if args.json:
        return _print_json(document)
    width = max(map(len, document))
    for key, value in document.items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key.ljust(width)}  {text}")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    registry = _registry(args)
    info = registry.check_removable(args.id)
    if not args.dry_run:
        registry.remove(args.id)
    if args.json:
        return _print_json({"removed": not args.dry_run, "model": _document(info)})
    verb = "Would remove" if args.dry_run else "Removed"
    print(f"{verb} {info.model_id}: {info.directory}, {_size(info.size_bytes)}.")
    return 0


def run_alias(args: argparse.Namespace) -> int:
    _registry(args).set_alias(args.name, args.id)
    if args.json:
        return _print_json({"alias": args.name, "model_id": args.id})
    print(f"{args.name} now stands for {args.id}.")
    return 0


def run_unalias(args: argparse.Namespace) -> int:
    _registry(args).remove_alias(args.name)
    if args.json:
        return _print_json({"alias": args.name, "model_id": None})
    print(f"{args.name} stands for nothing now.")
    return 0


class _Progress:
    """A bar for each stage on a terminal's standard error; silent elsewhere."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in _STAGES:
            return
        if stage != self._stage:
            self.close()
            self._stage = stage
            self._bar = tqdm(
                total=total,
                desc=_STAGES[stage],
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                file=sys.stderr,
                disable=None,
                leave=False,
            )
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _registry(args: argparse.Namespace) -> ModelRegistry:
    make_private_directory(args.data)  # keys will lie beside the models
    return ModelRegistry(args.data / MODELS_FOLDER)


@contextlib.contextmanager
def _with_keys(args: argparse.Namespace) -> Iterator[ModelRegistry]:
    """The registry with the data directory's keys at hand; ``NotFound`` where no deployment has been made."""
    from outcrop.service.sealing import VaultedFiles  # noqa: PLC0415 - heavy: only sealing needs the trust rooms
    from outcrop.service.trusted import Trust  # noqa: PLC0415

    deployment = Deployment.load(args.data)
    trust = Trust.open(args.data, deployment, SystemClock())
    try:
        yield ModelRegistry(
            args.data / MODELS_FOLDER, sealed_files=VaultedFiles(trust.vault, deployment.scope, args.key)
        )
    finally:
        trust.close()


def _document(info: ModelInfo) -> dict[str, Any]:
    return asdict(info) | {"directory": str(info.directory)}


def _print_json(document: Any) -> int:
    print(json.dumps(document, indent=2))
    return 0


def _count(number: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _size(count_bytes: int) -> str:
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count_bytes >= size:
            return f"{count_bytes / size:.1f} {unit}"
    return f"{count_bytes} B"
