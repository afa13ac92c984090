"""What the nouns of ``outcrop admin`` share: the opened data directory, their parsers, how results are printed.

Each verb works on the data directory whether the service runs or not, and a running service follows with its next
request. What changes something leaves an event for the audit trail first. Not covered: its outcome, and who sat at the
keyboard beyond the user's name; whoever runs them on this machine can read the key store's passphrase as well.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from outcrop.base.arn import AccountId, account_id
from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import NotFound, UserError
from outcrop.service.trusted import Trust

READ_ONLY = frozenset({"list", "show"})
"""Verbs that leave no event in the audit trail."""

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace], int]


class Noun:
    """One noun of ``outcrop admin`` and the verbs below it."""

    def __init__(
        self, verbs: Subparsers, common: argparse.ArgumentParser, name: str, summary: str, *, example: str
    ) -> None:
        parser = verbs.add_parser(
            name, help=_first_small(summary), description=summary, epilog=f"example: outcrop admin {name} {example}"
        )
        self._name, self._common = name, common
        self._actions = parser.add_subparsers(metavar="ACTION", required=True)

    def verb(
        self, name: str, summary: str, run: Run, example: str, *, account: bool = False
    ) -> argparse.ArgumentParser:
        """A verb; with ``account`` it takes ``--account``."""
        made = self._actions.add_parser(
            name,
            parents=[self._common],
            help=_first_small(summary),
            description=summary,
            epilog=f"example: outcrop admin {self._name} {example}",
        )
        if account:
            add_account(made)
        made.set_defaults(run=run, recorded_as="" if name in READ_ONLY else f"admin {self._name} {name}")
        return made


def add_account(parser: argparse.ArgumentParser) -> None:
    """``--account``, by default the deployment's own."""
    parser.add_argument("--account", metavar="ID", help="which account (default: this deployment's)")


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[tuple[Trust, AccountId]]:
    """The trust rooms of the data directory, and the account that is meant."""
    deployment = Deployment.load(args.data)
    account = account_id(getattr(args, "account", None) or deployment.account)
    trust = Trust.open(args.data, deployment, SystemClock())
    try:
        yield trust, account
    finally:
        trust.close()


def show(args: argparse.Namespace, facts: Mapping[str, object] | Sequence[object], *lines: str) -> int:
    """One JSON document where it was asked for, else ``lines`` for a person."""
    if args.json:
        print(json.dumps(facts))
    else:
        print("\n".join(lines))
    return 0


def read_text(path: Path) -> str:
    """A file that was named on the command line."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None


def _first_small(summary: str) -> str:
    return summary[0].lower() + summary[1:].rstrip(".")


def require_writable(path: Path) -> None:
    """``UserError`` where no file can be written at ``path``: to be known before the work, not after it."""
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(
            f"{path} cannot be written.", "Name a file in a directory that is there and that you may write."
        )
