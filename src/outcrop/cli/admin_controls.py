"""``outcrop admin scp`` and ``outcrop admin rcp``: ceilings that the organisation sets for its accounts.

A control policy is nobody's permission: it bounds what identity policies (SCP) or resource policies (RCP) can give, to
roots as well. Neither applies to the management account.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from outcrop.cli.admin_common import Noun, Subparsers, opened, read_text, show
from outcrop.trust.identity.controls import RCP, SCP
from outcrop.trust.identity.records import ControlKind, ControlPolicy

KINDS: tuple[tuple[str, ControlKind, str], ...] = (
    ("scp", SCP, "service control policies"),
    ("rcp", RCP, "resource control policies"),
)


def add(verbs: Subparsers, common: argparse.ArgumentParser) -> None:
    for word, kind, told in KINDS:
        noun = Noun(verbs, common, word, f"Write, attach and list {told}.", example="put no-kms deny-kms.json")
        one = told.replace("policies", "policy")
        put = noun.verb(
            "put",
            f"Write a {one}, or another document for the one of this name.",
            partial(run_put, kind),
            "put no-kms deny-kms.json",
        )
        put.add_argument("name", metavar="NAME")
        put.add_argument("file", type=Path, metavar="FILE", help="the policy document")
        put.add_argument("--description", default="", metavar="TEXT")
        for name, summary, run in (
            ("attach", f"Attach a {one} to the root, a unit or an account.", partial(run_attach, kind)),
            ("detach", f"Detach a {one}.", partial(run_detach, kind)),
        ):
            verb = noun.verb(name, summary, run, f"{name} no-kms root")
            verb.add_argument("policy", metavar="POLICY", help="its name or id")
            verb.add_argument("target", metavar="TARGET", help="root, or the id of a unit or an account")
        delete = noun.verb(
            "delete", f"Delete a {one} that is attached nowhere.", partial(run_delete, kind), "delete no-kms"
        )
        delete.add_argument("policy", metavar="POLICY", help="its name or id")
        noun.verb("list", f"Show the {told} and where they are attached.", partial(run_list, kind), "list --json")


def run_put(kind: ControlKind, args: argparse.Namespace) -> int:
    document = read_text(args.file)
    with opened(args) as (trust, _):
        policy = trust.identity.controls.put(kind, args.name, document, args.description)
    return show(args, _facts(policy), f"{policy.id} ({policy.name}) is written.")


def run_attach(kind: ControlKind, args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        trust.identity.controls.attach(kind, args.policy, args.target)
        policy = trust.identity.controls.get(kind, args.policy)
    return show(args, _facts(policy), f"{policy.name} is attached to {', '.join(policy.targets)}.")


def run_detach(kind: ControlKind, args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        trust.identity.controls.detach(kind, args.policy, args.target)
        policy = trust.identity.controls.get(kind, args.policy)
    return show(args, _facts(policy), f"{policy.name} is attached to {', '.join(policy.targets) or 'nothing'}.")


def run_delete(kind: ControlKind, args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        policy = trust.identity.controls.get(kind, args.policy)
        trust.identity.controls.delete(kind, policy.id)
    return show(args, {**_facts(policy), "deleted": True}, f"{policy.name} is deleted.")


def run_list(kind: ControlKind, args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        found = trust.identity.controls.all(kind)
    lines = [f"{each.id}  {each.name}  on {', '.join(each.targets) or 'nothing'}" for each in found]
    return show(args, [_facts(each) for each in found], *(lines or ["None."]))


def _facts(policy: ControlPolicy) -> dict[str, object]:
    return {
        "id": policy.id,
        "name": policy.name,
        "description": policy.description,
        "document": policy.document,
        "targets": list(policy.targets),
        "aws_managed": policy.aws_managed,
    }
