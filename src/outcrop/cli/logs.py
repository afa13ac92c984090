"""``outcrop logs``: an account's model invocation log, read back from its bucket, with or without a running service.

What is shown is unsealed through the account's key: where that is disabled nothing is shown. Each use leaves an event
for the audit trail first. Not covered: what becomes of an exported file.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import NotFound
from outcrop.base.files import write_atomic
from outcrop.cli.admin_bucket import opened
from outcrop.cli.admin_common import require_writable
from outcrop.service.accounts import Accounts, LogBucket
from outcrop.service.invocations import log_files, records_in


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "logs",
        help="show and export an account's model invocation log",
        description="Model invocation logs, as PutModelInvocationLoggingConfiguration has them written: what was asked "
        "and answered. Nothing is changed by any of these.",
        epilog="example: outcrop logs show",
    )
    verbs = parser.add_subparsers(metavar="ACTION", required=True)

    def verb(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name, parents=[common], help=summary, description=summary, epilog=f"example: outcrop logs {example}"
        )
        made.add_argument("--account", metavar="ID", help="whose log (default: this deployment's account)")
        made.add_argument("--bucket", metavar="NAME", help="where it is (default: where it is configured to go now)")
        made.add_argument("--prefix", metavar="TEXT", help="with --bucket: what stands before the keys")
        return made

    show = verb(
        "show", "Show the last invocations: who called which model; with --json also what was said.", "show --last 20"
    )
    show.add_argument("--last", type=int, default=10, metavar="N", help="how many (default: %(default)s)")
    show.set_defaults(run=run_show, recorded_as="logs show")

    export = verb("export", "Write the whole log, bodies included, as JSON lines.", "export invocations.jsonl")
    export.add_argument("file", type=Path, metavar="FILE", help="replaced if it is there; readable by its owner only")
    export.set_defaults(run=run_export, recorded_as="logs export")


def run_show(args: argparse.Namespace) -> int:
    with _records(args) as records:
        found = deque(records, maxlen=max(args.last, 1))
    if args.json:
        print(json.dumps(list(found)))
        return 0
    for record in found:
        counts = f"{_count(record, 'input')} in, {_count(record, 'output')} out"
        outcome = record.get("errorCode", "done")
        print(
            f"{record['timestamp']}  {record['operation']}  {record['modelId']}  {record['identity']['arn']}  "
            f"{counts}  {outcome}  {record['requestId']}"
        )
    if not found:
        print("The log is empty.")
    return 0


def run_export(args: argparse.Namespace) -> int:
    require_writable(args.file)
    with _records(args) as records:
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    write_atomic(args.file, "".join(lines).encode(), private=True)
    if args.json:
        print(json.dumps({"file": str(args.file), "records": len(lines)}))
    else:
        print(f"{len(lines)} records are in {args.file}, as plain text.")
    return 0


@contextmanager
def _records(args: argparse.Namespace) -> Iterator[Iterator[Any]]:
    region = Deployment.load(args.data).region
    with opened(args) as (objects, account, trust):
        bucket = LogBucket(args.bucket, args.prefix) if args.bucket else None
        if bucket is None:
            configured = Accounts(trust.database, SystemClock()).logging.get(account)
            if configured is None:
                raise NotFound(
                    f"Account {account} logs no invocations.", "Name the bucket of an earlier log with --bucket."
                )
            bucket = configured.bucket
        objects.bucket(bucket.name, account)
        yield (
            record
            for file in log_files(objects, bucket.name, account, region, bucket.prefix)
            for record in records_in(objects, file, account, bodies=True)
        )


def _count(record: dict[str, Any], side: str) -> Any:
    return record.get(side, {}).get(f"{side}TokenCount", "?")
