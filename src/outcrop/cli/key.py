"""``outcrop key``: the access keys of this deployment's account, and API keys made from them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import NotFound, QuotaReached, UserError
from outcrop.service.trusted import Trust
from outcrop.trust.identity import Credential, IdentityStore, KeyRecord, bearer


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "key",
        help="list, make and disable access keys; make API keys",
        description="The access keys of this deployment's account. A running service follows each change at once.",
        epilog="example: outcrop key create",
    )
    verbs = parser.add_subparsers(metavar="ACTION", required=True)

    def verb(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, parents=[common], help=summary, description=summary, epilog=f"example: outcrop key {example}"
        )

    listing = verb("list", "Show the access keys, never their secrets.", "list --json")
    listing.set_defaults(run=run_list)

    create = verb("create", "Make an access key and show its secret, this once (two keys at most).", "create")
    create.set_defaults(run=run_create, recorded_as="key create")

    for name, summary, handler in (
        ("disable", "Stop a key, and all API keys made from it, from working; enable undoes it.", run_disable),
        ("enable", "Let a disabled key work again.", run_enable),
        ("delete", "Delete a key for good.", run_delete),
    ):
        one = verb(name, summary, f"{name} AKIAIOSFODNN7EXAMPLE")
        one.add_argument("id", metavar="ID", help="the access key id")
        one.set_defaults(run=handler, recorded_as=f"key {name}")
        if handler is run_delete:
            one.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")

    api_key = verb(
        "bearer",
        "Make an API key for OpenAI, Anthropic and AWS clients that take one (AWS_BEARER_TOKEN_BEDROCK).",
        "bearer --expires-s 3600",
    )
    api_key.add_argument(
        "--expires-s",
        type=int,
        default=bearer.EXPIRES_MAX_S,
        metavar="N",
        help="seconds it works for, at most and by default %(default)s (12 hours)",
    )
    api_key.add_argument("--key", metavar="ID", help="the access key to make it from (default: the oldest active one)")
    api_key.set_defaults(run=run_bearer, recorded_as="key bearer")


def run_list(args: argparse.Namespace) -> int:
    with _opened(args) as (deployment, store):
        records = store.list_keys(deployment.account)
    if args.json:
        print(json.dumps([_facts(record) for record in records]))
        return 0
    for record in records:
        print(f"{record.access_key_id}  {_status(record):8}  {record.created_at}  {record.arn}")
    if not records:
        print("No access keys. Make one: outcrop key create")
    return 0


def run_create(args: argparse.Namespace) -> int:
    with _opened(args) as (deployment, store):
        try:
            issued = store.create_key(deployment.account)
        except QuotaReached as error:
            raise QuotaReached(f"{error.what}.", "Delete one first: outcrop key list, outcrop key delete ID") from None
    if args.json:
        print(json.dumps({**_facts(issued.record), "secret_access_key": issued.secret_access_key}))
        return 0
    print(f"export AWS_ACCESS_KEY_ID={issued.access_key_id}")
    print(f"export AWS_SECRET_ACCESS_KEY={issued.secret_access_key}")
    print("# The secret is shown this once.")
    return 0


def run_disable(args: argparse.Namespace) -> int:
    return _set_active(args, active=False)


def run_enable(args: argparse.Namespace) -> int:
    return _set_active(args, active=True)


def run_delete(args: argparse.Namespace) -> int:
    with _opened(args) as (_, store):
        record = store.get_key(args.id) if args.dry_run else store.delete_key(args.id)
    if args.json:
        print(json.dumps({**_facts(record), "deleted": not args.dry_run}))
    else:
        print(f"{record.access_key_id} {'would be' if args.dry_run else 'is'} deleted.")
    return 0


def run_bearer(args: argparse.Namespace) -> int:
    now = SystemClock().now()
    with _opened(args) as (deployment, store):
        credential = _signing_key(store, deployment.account, args.key)
    key = bearer.mint(credential, deployment.region, args.expires_s, now)
    expires_at = (now + timedelta(seconds=args.expires_s)).isoformat(timespec="seconds")
    if args.json:
        facts = {"api_key": key, "access_key_id": credential.access_key_id, "expires_at": expires_at}
        print(json.dumps({**facts, "region": deployment.region}))
    else:
        print(key)
    return 0


def _set_active(args: argparse.Namespace, active: bool) -> int:
    with _opened(args) as (_, store):
        record = store.set_key_active(args.id, active)
    if args.json:
        print(json.dumps(_facts(record)))
    else:
        print(f"{record.access_key_id} is {_status(record).lower()}.")
    return 0


def _signing_key(store: IdentityStore, account: str, access_key_id: str | None) -> Credential:
    if access_key_id is not None:
        credential = store.lookup(store.get_key(access_key_id).access_key_id)
        if credential is None:
            raise UserError(f"{access_key_id} is disabled.", f"Enable it with `outcrop key enable {access_key_id}`.")
        return credential
    for record in store.list_keys(account):
        credential = store.lookup(record.access_key_id)
        if credential is not None:
            return credential
    raise NotFound("There is no active access key to make an API key from.", "Make one with `outcrop key create`.")


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator[tuple[Deployment, IdentityStore]]:
    deployment = Deployment.load(args.data)
    trust = Trust.open(args.data, deployment, SystemClock())
    try:
        yield deployment, trust.identity
    finally:
        trust.close()


def _facts(record: KeyRecord) -> dict[str, str]:
    return {
        "access_key_id": record.access_key_id,
        "status": _status(record),
        "created_at": record.created_at,
        "arn": str(record.arn),
    }


def _status(record: KeyRecord) -> str:
    return "Active" if record.active else "Inactive"
