"""``outcrop admin bucket``: buckets of accounts, until there is an S3 surface to make them through.

A running service sees a new bucket at once. Not covered: see ``admin_common``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager

from outcrop.base.arn import AccountId
from outcrop.base.clock import SystemClock
from outcrop.cli import admin_common
from outcrop.service.objects import Bucket, SealedObjects
from outcrop.service.objects.sealed import OBJECTS_FOLDER
from outcrop.service.trusted import Trust


def add(verbs: admin_common.Subparsers, common: argparse.ArgumentParser) -> None:
    noun = admin_common.Noun(
        verbs,
        common,
        "bucket",
        "Make, list and delete buckets, each of one account and sealed under a key of its.",
        example="create invocation-logs",
    )
    create = noun.verb("create", "Make a bucket.", run_create, "create invocation-logs --key alias/logs", account=True)
    create.add_argument("name", metavar="NAME", help="3 to 63 small letters, digits and hyphens")
    create.add_argument(
        "--key", metavar="ARN", help="a KMS key of the owner (default: the account's default key, which stays enabled)"
    )
    noun.verb("list", "Show the buckets of an account.", run_list, "list", account=True)
    delete = noun.verb("delete", "Delete an empty bucket.", run_delete, "delete invocation-logs", account=True)
    delete.add_argument("name", metavar="NAME")


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
    with admin_common.opened(args) as (trust, account):
        yield SealedObjects(trust.keys, trust.vault, args.data / OBJECTS_FOLDER, SystemClock()), account, trust


def _facts(bucket: Bucket) -> dict[str, str]:
    return {
        "name": bucket.name,
        "account": bucket.account,
        "kms_key": bucket.kms_key,
        "created_at": bucket.created_at.isoformat(timespec="seconds"),
    }
