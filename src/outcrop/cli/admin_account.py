"""``outcrop admin account`` and ``outcrop admin ou``: accounts, and the tree of the organisation that they stand in."""

from __future__ import annotations

import argparse

from outcrop.base.deployment import Deployment
from outcrop.cli.admin_common import Noun, Subparsers, opened, show
from outcrop.trust.identity.records import Account, AccountStatus


def add(verbs: Subparsers, common: argparse.ArgumentParser) -> None:
    account = Noun(
        verbs,
        common,
        "account",
        "Make, list and close accounts.",
        example="create research",
    )
    create = account.verb(
        "create",
        "Make an account below the organisation's root, with a root key that is shown this once.",
        run_create,
        "create research",
    )
    create.add_argument("name", metavar="NAME", help="a name for people")
    create.add_argument("--id", metavar="ID", help="twelve digits (default: random ones)")
    account.verb("list", "Show all accounts, their state and place.", run_list, "list --json")
    for name, summary, run in (
        ("close", "Suspend an account: no credential of it proves anything until it is opened again.", run_close),
        ("reopen", "Make a closed account active again.", run_reopen),
    ):
        one = account.verb(name, summary, run, f"{name} 444455556666")
        one.add_argument("id", metavar="ID")

    unit = Noun(verbs, common, "ou", "Make, list and fill organisational units.", example="create research")
    make = unit.verb(
        "create", "Make an organisational unit.", run_create_unit, "create research --parent ou-ab12-cd34ef56"
    )
    make.add_argument("name", metavar="NAME")
    make.add_argument("--parent", metavar="ID", help="the unit above it (default: the organisation's root)")
    unit.verb("list", "Show the organisation as a tree.", run_tree, "list")
    move = unit.verb("move", "Put an account below a unit or the root.", run_move, "move 444455556666 ou-ab12-cd34ef56")
    move.add_argument("id", metavar="ACCOUNT")
    move.add_argument("unit", metavar="UNIT", help="a unit's id, or root")


def run_create(args: argparse.Namespace) -> int:
    partition = Deployment.load(args.data).partition
    with opened(args) as (trust, _):
        made = trust.identity.organisation.create_account(args.id, partition, args.name)
        issued = trust.identity.create_key(made.account)
    key = {"access_key_id": issued.access_key_id, "secret_access_key": issued.secret_access_key}
    return show(
        args,
        {**_facts(made), **key},
        f"# Account {made.account} ({made.name}). The secret of its root key is shown this once.",
        f"export AWS_ACCESS_KEY_ID={issued.access_key_id}",
        f"export AWS_SECRET_ACCESS_KEY={issued.secret_access_key}",
    )


def run_list(args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        found = trust.identity.organisation.accounts()
    lines = [f"{each.account}  {each.status:9}  {each.parent or '-':20}  {each.name}" for each in found]
    return show(args, [_facts(each) for each in found], *(lines or ["No accounts yet. `outcrop up` makes the first."]))


def run_close(args: argparse.Namespace) -> int:
    return _set_status(args, "SUSPENDED", "closed: its credentials prove nothing")


def run_reopen(args: argparse.Namespace) -> int:
    return _set_status(args, "ACTIVE", "active")


def run_create_unit(args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        made = trust.identity.organisation.create_unit(args.name, args.parent)
    facts = {"id": made.id, "parent": made.parent, "name": made.name}
    return show(args, facts, f"{made.id} ({made.name}) is below {made.parent}.")


def run_tree(args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        organisation = trust.identity.organisation.organisation()
        units = trust.identity.organisation.units()
        accounts = trust.identity.organisation.accounts()
    below: dict[str, list[tuple[str, str]]] = {}
    for unit in units:
        below.setdefault(unit.parent, []).append((unit.id, unit.name))
    for account in accounts:
        below.setdefault(account.parent, []).append((account.account, account.name))
    lines = [f"{organisation.root}  (organisation {organisation.id})"]

    def draw(parent: str, depth: int) -> None:
        for identifier, name in below.get(parent, ()):
            mark = "  (management account)" if identifier == organisation.management_account else ""
            lines.append(f"{'  ' * depth}{identifier}  {name}{mark}")
            draw(identifier, depth + 1)

    draw(organisation.root, 1)
    lines += [f"outside the organisation: {identifier}  {name}" for identifier, name in below.get("", ())]
    facts = {
        "organisation": organisation.id,
        "root": organisation.root,
        "management_account": organisation.management_account,
        "units": [{"id": unit.id, "parent": unit.parent, "name": unit.name} for unit in units],
        "accounts": [_facts(account) for account in accounts],
    }
    return show(args, facts, *lines)


def run_move(args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        organisation = trust.identity.organisation
        parent = organisation.organisation().root if args.unit == "root" else args.unit
        moved = organisation.move_account(args.id, parent)
    return show(args, _facts(moved), f"{moved.account} is below {moved.parent}.")


def _set_status(args: argparse.Namespace, status: AccountStatus, said: str) -> int:
    with opened(args) as (trust, _):
        account = trust.identity.organisation.set_status(args.id, status)
    return show(args, _facts(account), f"{account.account} is {said}.")


def _facts(account: Account) -> dict[str, str | None]:
    return {
        "account": account.account,
        "name": account.name,
        "status": account.status,
        "parent": account.parent,
        "alias": account.alias,
        "created_at": account.created_at,
    }
