"""``outcrop admin user``, ``role``, ``policy`` and ``revoke``: the first users and roles of an account.

What they have here is what a day-one operator needs; everything else is the IAM API's, which a client with the root key
or with one of these users' keys talks to.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from outcrop.cli.admin_common import Noun, Subparsers, add_account, opened, read_text, show
from outcrop.trust.identity import IdentityStore
from outcrop.trust.identity.records import Role, User


def add(verbs: Subparsers, common: argparse.ArgumentParser) -> None:
    user = Noun(verbs, common, "user", "Make and list users.", example="create alice --key")
    create = user.verb(
        "create",
        "Make a user, who may do what the given policies say.",
        run_create_user,
        "create alice --policy arn:aws:iam::aws:policy/AmazonBedrockFullAccess --key",
        account=True,
    )
    create.add_argument("name", metavar="NAME")
    create.add_argument("--path", default="/", help="default: /")
    _add_policies(create)
    create.add_argument("--key", action="store_true", help="make an access key, and show its secret this once")
    user.verb("list", "Show the users of an account.", run_list_users, "list", account=True)

    role = Noun(verbs, common, "role", "Make roles.", example="create worker --trust trust.json")
    make = role.verb(
        "create",
        "Make a role that those may assume whom a trust policy names.",
        run_create_role,
        "create worker --trust trust.json --policy arn:aws:iam::aws:policy/AmazonBedrockFullAccess",
        account=True,
    )
    make.add_argument("name", metavar="NAME")
    make.add_argument("--trust", type=Path, required=True, metavar="FILE", help="the trust policy")
    make.add_argument("--path", default="/", help="default: /")
    _add_policies(make)

    policy = Noun(verbs, common, "policy", "Attach managed policies.", example="attach ARN --user alice")
    attach = policy.verb(
        "attach",
        "Attach a managed policy of the account's own or of AWS's to a user, a group or a role.",
        run_attach,
        "attach arn:aws:iam::aws:policy/AmazonBedrockFullAccess --user alice",
        account=True,
    )
    attach.add_argument("arn", metavar="ARN")
    holder = attach.add_mutually_exclusive_group(required=True)
    for kind in ("user", "group", "role"):
        holder.add_argument(f"--{kind}", metavar="NAME")

    summary = "Make all sessions of a role that were issued until now worthless, at once."
    revoke = verbs.add_parser(
        "revoke",
        parents=[common],
        help="make all sessions of a role worthless",
        description=summary + " The role may be assumed again; to stop that, change its trust policy.",
        epilog="example: outcrop admin revoke worker",
    )
    revoke.add_argument("role", metavar="ROLE")
    add_account(revoke)
    revoke.set_defaults(run=run_revoke)


def run_create_user(args: argparse.Namespace) -> int:
    with opened(args) as (trust, account):
        identity = trust.identity
        _must_know(identity, account, args.policy)
        made = identity.users.create(account, args.name, args.path)
        for arn in args.policy:
            identity.holdings.attach(account, "user", made.name, arn)
        issued = identity.keys.create(account, made.name) if args.key else None
    facts = {**_facts(made), "policies": args.policy}
    if issued is None:
        return show(args, facts, f"{made.arn} is made. A key for it: aws iam create-access-key --user-name {made.name}")
    key = {"access_key_id": issued.access_key_id, "secret_access_key": issued.secret_access_key}
    return show(
        args,
        {**facts, **key},
        f"# {made.arn}. The secret is shown this once.",
        f"export AWS_ACCESS_KEY_ID={issued.access_key_id}",
        f"export AWS_SECRET_ACCESS_KEY={issued.secret_access_key}",
    )


def run_list_users(args: argparse.Namespace) -> int:
    with opened(args) as (trust, account):
        found = trust.identity.users.all(account)
    lines = [f"{each.name}  {each.created_at}  {each.arn}" for each in found]
    return show(args, [_facts(each) for each in found], *(lines or [f"Account {account} has no users."]))


def run_create_role(args: argparse.Namespace) -> int:
    document = read_text(args.trust)
    with opened(args) as (trust, account):
        _must_know(trust.identity, account, args.policy)
        made = trust.identity.roles.create(account, args.name, document, path=args.path)
        for arn in args.policy:
            trust.identity.holdings.attach(account, "role", made.name, arn)
    return show(args, {**_facts(made), "policies": args.policy}, f"{made.arn} is made.")


def run_attach(args: argparse.Namespace) -> int:
    kinds: tuple[Literal["user", "group", "role"], ...] = ("user", "group", "role")
    kind = next(each for each in kinds if getattr(args, each) is not None)
    name = getattr(args, kind)
    with opened(args) as (trust, account):
        trust.identity.holdings.attach(account, kind, name, args.arn)
        held = trust.identity.holdings.attached(account, kind, name)
    return show(args, {kind: name, "account": account, "policies": held}, f"{args.arn} is attached to {kind} {name}.")


def run_revoke(args: argparse.Namespace) -> int:
    with opened(args) as (trust, account):
        role = trust.identity.roles.revoke(account, args.role)
    return show(
        args,
        {**_facts(role), "revoked_before": role.revoked_before},
        f"Sessions of {role.arn} that were issued before {role.revoked_before} are worth nothing.",
    )


def _must_know(identity: IdentityStore, account: str, policies: list[str]) -> None:
    """Raise ``NotFound`` for a policy that cannot be attached, before anything is made."""
    for arn in policies:
        identity.policies.get(account, arn)


def _add_policies(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy", action="append", default=[], metavar="ARN", help="a managed policy to attach; repeatable"
    )


def _facts(entity: User | Role) -> dict[str, object]:
    return {
        "name": entity.name,
        "id": entity.id,
        "arn": str(entity.arn),
        "account": entity.account,
        "created_at": entity.created_at,
    }
