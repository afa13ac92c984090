"""``outcrop audit``: look through the audit trail, prove it, and keep its head, with or without a running service.

Every verb only reads. ``verify`` needs neither the database nor a private key, so it also runs on a copy of the folder.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outcrop.base.errors import NotFound, UserError
from outcrop.trust.audit import TreeHead, merkle
from outcrop.trust.audit.keys import PublicKeys
from outcrop.trust.audit.segments import Line, segments, signed_records, whole_lines
from outcrop.trust.audit.verify import verify
from outcrop.trust.audit.writer import LOG_FOLDER

AUDIT_FOLDER = "audit"


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "audit",
        help="verify, prove and show the audit trail",
        description="The audit trail of this deployment: who did what, in a log that shows every later change. Nothing "
        "is changed by any of these.",
        epilog="example: outcrop audit verify",
    )
    verbs = parser.add_subparsers(metavar="ACTION", required=True)

    def verb(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, parents=[common], help=summary, description=summary, epilog=f"example: outcrop audit {example}"
        )

    check = verb("verify", "Read the whole trail and name the first place where it does not hold.", "verify")
    check.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="a copy of the audit folder")
    check.add_argument("--head", type=Path, metavar="FILE", help="a head kept elsewhere: the log must begin with it")
    check.add_argument("--log", metavar="ID", help="the log's id as `audit keys` showed it, at least 16 digits")
    check.set_defaults(run=run_verify)

    head = verb("head", "Show the newest signed head, to be kept elsewhere.", "head --json > /media/usb/head.json")
    head.add_argument("--since", type=Path, metavar="FILE", help="also prove that the log still begins with this head")
    head.set_defaults(run=run_head)

    prove = verb(
        "prove", "Prove that an event is in the log.", "prove 5f2c1c1e-8f7e-4d0e-9f56-2a2e4c1d0b11 --json > proof.json"
    )
    prove.add_argument("id", metavar="EVENT_ID", help="the event's eventID")
    prove.set_defaults(run=run_prove)

    show = verb("show", "Show the last events.", "show --last 20")
    show.add_argument("--last", type=int, default=10, metavar="N", help="how many (default: %(default)s)")
    show.set_defaults(run=run_show)

    keys = verb("keys", "Show the log's id and its public keys.", "keys")
    keys.set_defaults(run=run_keys)


def run_verify(args: argparse.Namespace) -> int:
    report = verify(args.folder or args.data / AUDIT_FOLDER, _read_head(args.head) if args.head else None, args.log)
    if args.json:
        findings = [{"place": finding.place, "what": finding.what} for finding in report.findings]
        print(json.dumps({**asdict(report), "findings": findings, "holds": report.holds}))
    else:
        for finding in report.findings:
            print(f"BROKEN  {finding}")
        if report.holds and report.head is not None:
            print(
                f"The trail holds: {report.records} records under {report.heads} signed heads, up to {report.head.at}"
            )
            print(f"and {report.digests} digests. Log {report.log}")
        elif report.holds:
            print("The trail holds, and is empty.")
        if report.unsigned_bytes:
            print(f"{report.unsigned_bytes} bytes stand behind the last head: a commit under way, or torn by a crash.")
    return 0 if report.holds else 1


def run_head(args: argparse.Namespace) -> int:
    directory = args.data / AUDIT_FOLDER
    head = _newest_head(directory)
    facts: dict[str, Any] = asdict(head)
    if args.since:
        facts = {"head": facts, **_consistency(directory, _read_head(args.since), head)}
    if args.json:
        print(json.dumps(facts))
    elif args.since:
        print(f"The log of {head.tree_size} records begins with the {facts['since']['tree_size']} of the head given.")
    else:
        print(f"{head.tree_size} records at {head.at}, root {head.root}")
        print("Keep it where this machine cannot write: outcrop audit head --json > FILE")
    return 0


def run_prove(args: argparse.Namespace) -> int:
    directory = args.data / AUDIT_FOLDER
    head = _newest_head(directory)
    nodes = _nodes(directory, head.tree_size)
    wanted = f'"eventID":"{args.id}"'.encode()
    for index, line in signed_records(directory / LOG_FOLDER):
        if wanted in line.payload and line.parsed()["event"].get("eventID") == args.id:
            proof = merkle.inclusion_proof(index, head.tree_size, nodes)
            leaf = merkle.leaf_hash(line.payload)
            if not merkle.verify_inclusion(leaf, index, head.tree_size, proof, bytes.fromhex(head.root)):
                raise UserError("The log does not hold.", "`outcrop audit verify` names the place.")
            facts = {
                "head": asdict(head),
                "index": index,
                "leaf": leaf.hex(),
                "record": line.payload.decode(),
                "proof": [one.hex() for one in proof],
            }
            print(json.dumps(facts) if args.json else f"Record {index} of {head.tree_size}, with {len(proof)} hashes.")
            return 0
    raise NotFound(f"No event {args.id} is in the log.", "`outcrop audit show` lists the last ones.")


def run_show(args: argparse.Namespace) -> int:
    if args.last < 1:
        raise UserError(f"{args.last} events cannot be shown.", "Give --last 1 or more.")
    found = deque(signed_records(_checked(args.data / AUDIT_FOLDER) / LOG_FOLDER), maxlen=args.last)
    events = [line.parsed()["event"] for _, line in found]
    if args.json:
        print(json.dumps(events))
        return 0
    for event in events:
        identity = event["userIdentity"]
        who = identity.get("arn") or identity.get("invokedBy") or identity["type"]
        outcome = event.get("errorCode", "done")
        print(
            f"{event['eventTime']}  {event['eventSource']}:{event['eventName']}  {who}  {outcome}  {event['eventID']}"
        )
    return 0


def run_keys(args: argparse.Namespace) -> int:
    keys = PublicKeys.load(_checked(args.data / AUDIT_FOLDER))
    if args.json:
        print(json.dumps({"log": keys.log, "keys": [asdict(key) for key in keys.keys]}))
        return 0
    print(f"log {keys.log}")
    for key in keys.keys:
        print(f"{key.use:6}  {key.id}  from record {key.from_size}, {key.from_time}")
    return 0


def _checked(directory: Path) -> Path:
    if not segments(directory / LOG_FOLDER):
        raise NotFound(f"There is no audit trail in {directory}.", "Run `outcrop up` first, or name it with --data.")
    return directory


def _newest_head(directory: Path) -> TreeHead:
    """The newest head, its signature checked."""
    keys = PublicKeys.load(_checked(directory))
    for segment in reversed(segments(directory / LOG_FOLDER)):
        last: Line | None = None
        for line in whole_lines(segment):
            last = line if line.kind == "H" else last
        if last is not None:
            head = TreeHead.parse(last.payload)
            if wrong := keys.check_head(head):
                raise UserError(f"The log does not hold: {wrong}.", "`outcrop audit verify` names the place.")
            return head
    raise NotFound("The audit trail is empty.", "It begins when the service starts.")


def _nodes(directory: Path, size: int) -> merkle.Node:
    """The tree over the records themselves: the stored one may be behind, and is not to be trusted for a proof."""
    found: dict[tuple[int, int], bytes] = {}
    frontier = merkle.Frontier()
    for index, payload in _payloads(directory, size):
        for level, value in frontier.append(merkle.leaf_hash(payload)):
            found[level, index >> level] = value
    return lambda level, index: found[level, index]


def _payloads(directory: Path, size: int) -> Iterator[tuple[int, bytes]]:
    for index, line in signed_records(directory / LOG_FOLDER):
        if index >= size:
            return
        yield index, line.payload


def _consistency(directory: Path, old: TreeHead, new: TreeHead) -> dict[str, Any]:
    if wrong := PublicKeys.load(directory).check_head(old):
        raise UserError(
            f"The head given is not of this log: {wrong}.", "`outcrop audit verify --head FILE` tells more."
        )
    roots = bytes.fromhex(old.root), bytes.fromhex(new.root)
    proof = (
        merkle.consistency_proof(old.tree_size, new.tree_size, _nodes(directory, new.tree_size))
        if old.tree_size <= new.tree_size
        else []
    )
    if not merkle.verify_consistency(old.tree_size, new.tree_size, *roots, proof):
        raise UserError(
            f"The log does not begin with the {old.tree_size} records of the head given: it was changed or cut short.",
            "`outcrop audit verify --head FILE` names the place.",
        )
    return {"since": asdict(old), "proof": [one.hex() for one in proof]}


def _read_head(path: Path) -> TreeHead:
    try:
        return TreeHead.parse(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).", "Name a file with a head.") from None
