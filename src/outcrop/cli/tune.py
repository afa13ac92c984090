"""``outcrop tune``: look at training data, and at what a model would learn from it, before anything is trained."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.base.errors import NotFound, UserError

if TYPE_CHECKING:
    from outcrop.models.tokenizer import Tokenizer
    from outcrop.training.shards import Document
    from outcrop.training.tuning import Encoded, Estimate, Inspection, TuneConfig

_TRAINED_COLOUR, _PLAIN = "\x1b[30;42m", "\x1b[0m"
_TRAINED_OPEN, _TRAINED_CLOSE = "⟦", "⟧"
_LINES_SHOWN, _PAIRS_SHOWN = 20, 5


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "tune",
        help="look at training data before a model is tuned on it",
        description="Tuning: what a file of examples would teach a model.",
        epilog="example: outcrop tune inspect examples.jsonl --model outcrop.pebble-v1:0",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    inspecting = verbs.add_parser(
        "inspect",
        parents=[common],
        help="show which tokens would be trained, check every line, estimate the run",
        description="Reads a JSON Lines file (conversations or prompt/completion), reports every line that cannot be "
        "learned from, repeated examples and overlap with validation data, shows which tokens are trained, and "
        "estimates tokens, time and memory. Exit code 1 when a line is refused. Nothing is trained or sent anywhere.",
        epilog="example: outcrop tune inspect train.jsonl --model outcrop.pebble-v1:0 --validation valid.jsonl",
    )
    inspecting.add_argument("file", type=Path, metavar="FILE", help="the training examples")
    inspecting.add_argument("--model", required=True, metavar="ID", help="the model that would be tuned")
    inspecting.add_argument("--validation", type=Path, metavar="FILE", help="the validation examples")
    inspecting.add_argument("--show", type=int, default=3, metavar="N", help="examples to show (default: 3; -1: all)")
    inspecting.add_argument("--line", type=int, metavar="N", help="show the example of this line only")
    inspecting.add_argument("--row-tokens", type=int, default=1024, metavar="N", help="longest example (default: 1024)")
    inspecting.add_argument(
        "--cut", action="store_true", help="cut longer examples at their beginning, not refuse them"
    )
    inspecting.add_argument("--epochs", type=int, default=2, metavar="N", help="for the estimate (default: 2)")
    inspecting.add_argument("--batch", type=int, default=8, metavar="N", help="examples a step (default: 8)")
    inspecting.add_argument("--full", action="store_true", help="estimate for all weights (default: a LoRA adapter)")
    inspecting.add_argument("--no-timing", action="store_true", help="estimate without computing a step to time it")
    inspecting.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: auto")
    inspecting.set_defaults(run=run_inspect)


def run_inspect(args: argparse.Namespace) -> int:
    from outcrop.base.files import make_private_directory  # noqa: PLC0415 - PyTorch is needed by this verb only
    from outcrop.models.registry import ModelRegistry  # noqa: PLC0415
    from outcrop.training.tuning import (  # noqa: PLC0415
        Encoder,
        LongDocuments,
        TuneConfig,
        estimate,
        inspect,
        read_examples,
    )

    config = TuneConfig(epochs=args.epochs, batch_examples=args.batch, row_tokens=args.row_tokens)
    if args.full:
        config = replace(config, lora=None)
    training = read_examples(args.file)
    validation = read_examples(args.validation) if args.validation else None
    make_private_directory(args.data)
    registry = ModelRegistry(args.data / "models")
    loaded = registry.load(registry.resolve(args.model))
    longest = loaded.config.max_positions
    if args.row_tokens > longest:
        raise UserError(f"{args.model} sees at most {longest} tokens at once.", f"Use --row-tokens {longest} or fewer.")
    long_documents = LongDocuments.CUT if args.cut else LongDocuments.REFUSE
    encoder = Encoder(loaded.tokenizer, loaded.template, args.row_tokens, long_documents)
    found = inspect(encoder, training, validation)
    guess = estimate(loaded.decoder, config, found.encoded, timed=not args.no_timing) if found.encoded else None
    shown = _chosen(found, args)
    if args.json:
        print(json.dumps(_document(args, found, guess, shown, loaded.tokenizer)))
        return 0 if found.sound else 1
    colour = args.color == "always" or (args.color == "auto" and sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    for example in shown:
        _print_example(example, loaded.tokenizer, colour)
    _print_findings(args, found)
    print(
        f"{len(found.encoded)} records, {found.tokens} tokens, {found.trained_tokens} of them trained"
        + (f", {found.cut_tokens} cut off" if found.cut_tokens else "")
    )
    if guess is not None:
        _print_estimate(guess, config)
    return 0 if found.sound else 1


def _chosen(found: Inspection, args: argparse.Namespace) -> list[Encoded]:
    if args.line is not None:
        if not (chosen := [example for example in found.encoded if example.line == args.line]):
            raise NotFound(f"Line {args.line} of {args.file} holds no example that was taken.", "Leave out --line.")
        return chosen
    return list(found.encoded if args.show < 0 else found.encoded[: args.show])


def _document(
    args: argparse.Namespace, found: Inspection, guess: Estimate | None, shown: list[Encoded], tokenizer: Tokenizer
) -> dict[str, object]:
    held_out = {
        "records": len(found.validation),
        "problem_count": found.validation_problem_count,
        "problems": [asdict(problem) for problem in found.validation_problems],
        "same_example": found.overlap.whole,
        "same_question": found.overlap.questions,
    }
    return {
        "file": str(args.file),
        "sound": found.sound,
        "records": len(found.encoded),
        "tokens": found.tokens,
        "trained_tokens": found.trained_tokens,
        "cut_tokens": found.cut_tokens,
        "problem_count": found.problem_count,
        "problems": [asdict(problem) for problem in found.problems],
        "duplicates": found.duplicates,
        "validation": held_out if args.validation else None,
        "estimate": None if guess is None else asdict(guess),
        "examples": [
            {"line": example.line, "documents": [_tokens(document, tokenizer) for document in example.documents]}
            for example in shown
        ],
    }


def _tokens(document: Document, tokenizer: Tokenizer) -> list[dict[str, object]]:
    pairs = zip(document.tokens, _trained(document), strict=True)
    return [{"id": token, "text": tokenizer.token_text(token), "trained": trained} for token, trained in pairs]


def _trained(document: Document) -> list[bool]:
    """For each token whether predicting it is learned; there is nothing to predict the first one from."""
    return [index > 0 and weight > 0 for index, weight in enumerate(document.weights)]


def _print_example(example: Encoded, tokenizer: Tokenizer, colour: bool) -> None:
    before, after = (_TRAINED_COLOUR, _PLAIN) if colour else (_TRAINED_OPEN, _TRAINED_CLOSE)
    for document in example.documents:
        trained = _trained(document)
        print(f"-- line {example.line}: {len(trained)} tokens, {sum(trained)} trained")
        text = ""
        for is_trained, run in groupby(zip(document.tokens, trained, strict=True), key=itemgetter(1)):
            shown = _visible(tokenizer.decode([token for token, _ in run], skip_special_tokens=False))
            text += f"{before}{shown}{after}" if is_trained else shown
        print(text)


def _visible(text: str) -> str:
    """``text`` without control characters, which might steer the terminal; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def _print_findings(args: argparse.Namespace, found: Inspection) -> None:
    for path, problems, count in (
        (args.file, found.problems, found.problem_count),
        (args.validation, found.validation_problems, found.validation_problem_count),
    ):
        for problem in problems[:_LINES_SHOWN]:
            print(f"{path}:{problem.line}: {_visible(problem.reason)}")
        if count > _LINES_SHOWN:
            print(f"{path}: {count - _LINES_SHOWN} more problems; --json has them")
    for what, pairs in (
        ("repeats line", found.duplicates),
        ("of the validation data is also training line", found.overlap.whole),
        ("of the validation data asks what training line asks too:", found.overlap.questions),
    ):
        for line, other in pairs[:_PAIRS_SHOWN]:
            print(f"line {line} {what} {other}")
        if len(pairs) > _PAIRS_SHOWN:
            print(f"and {len(pairs) - _PAIRS_SHOWN} more")


def _print_estimate(guess: Estimate, config: TuneConfig) -> None:
    kind = "all weights" if config.lora is None else f"LoRA of rank {config.lora.rank}"
    print(
        f"Estimate for {config.epochs} epochs, {kind} ({guess.trainable_parameters:,} parameters): "
        f"{guess.steps} steps, {guess.tokens:,} tokens, about {guess.memory_bytes / 2**20:,.0f} MiB of tensors"
        + (f", about {guess.seconds:,.0f} s on this machine's processor as busy as it is now" if guess.seconds else "")
    )
