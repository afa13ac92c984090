"""``outcrop admin bucket``: buckets of accounts, until there is an S3 surface to make them through.

A running service sees a new bucket at once. Not covered: the audit trail, which only the service writes, has no event
of these; whoever runs them on this machine can read the key store's passphrase as well.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager

from outcrop.base.arn import AccountId, account_id
from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.service.objects import Bucket, SealedObjects
from outcrop.service.objects.sealed import OBJECTS_FOLDER
from outcrop.service.trusted import Trust


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "bucket",
        help="make, list and delete buckets",
        description="Buckets, each of one account; what is in them is sealed under a key of that account.",
        epilog="example: outcrop admin bucket create invocation-logs",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def verb(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, parents=[common], help=summary, description=summary, epilog=f"example: outcrop admin bucket {example}"
        )
        made.add_argument("--account", metavar="ID", help="the owner (default: this deployment's account)")
        return made

    create = verb("create", "Make a bucket.", "create invocation-logs --account 123456789012 --key alias/logs")
    create.add_argument("name", metavar="NAME", help="3 to 63 small letters, digits and hyphens")
    create.add_argument(
        "--key", metavar="ARN", help="a KMS key of the owner (default: the account's default key, which stays enabled)"
    )
    create.set_defaults(run=run_create)

    listing = verb("list", "Show the buckets of an account.", "list")
    listing.set_defaults(run=run_list)

    delete = verb("delete", "Delete an empty bucket.", "delete invocation-logs")
    delete.add_argument("name", metavar="NAME")
    delete.set_defaults(run=run_delete)


def run_create(args: argparse.Namespace) -> int:
    with opened(args) as (objects, account, trust):
        trust.identity.organisation.account(account)
        bucket = objects.create_bucket(args.name, account, args.key)
    if args.json:
        print(json.dumps(_facts(bucket)))
    else:
        print(f"{bucket.name} belongs to account {account}, under {bucket.kms_key or 'its default key'}.")
    return 0


def run_list(args: argparse.Namespace) -> int:
    with opened(args) as (objects, account, _):
        found = objects.buckets(account)
    if args.json:
        print(json.dumps([_facts(bucket) for bucket in found]))
        return 0
    for bucket in found:
        print(f"{bucket.name}  {bucket.created_at:%Y-%m-%d}  {bucket.kms_key or 'default key'}")
    if not found:
        print("No buckets. Make one: outcrop admin bucket create NAME")
    return 0


def run_delete(args: argparse.Namespace) -> int:
    with opened(args) as (objects, account, _):
        objects.delete_bucket(args.name, account)
    if args.json:
        print(json.dumps({"name": args.name, "account": account, "deleted": True}))
    else:
        print(f"{args.name} is deleted.")
    return 0


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[tuple[SealedObjects, AccountId, Trust]]:
    """The objects of the data directory, the account that is meant, and the trust rooms behind them."""
    deployment = Deployment.load(args.data)
    clock = SystemClock()
    account = account_id(args.account or deployment.account)
    trust = Trust.open(args.data, deployment, clock)
    try:
        yield SealedObjects(trust.keys, trust.vault, args.data / OBJECTS_FOLDER, clock), account, trust
    finally:
        trust.close()


def _facts(bucket: Bucket) -> dict[str, str]:
    return {
        "name": bucket.name,
        "account": bucket.account,
        "kms_key": bucket.kms_key,
        "created_at": bucket.created_at.isoformat(timespec="seconds"),
    }
