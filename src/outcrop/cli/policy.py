"""``outcrop policy``: why a request was denied, whether a policy document is understood, and what policies decide."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from outcrop.base.errors import NotFound, UserError
from outcrop.service.access.denials import find
from outcrop.trust.policy import (
    Decision,
    Layers,
    Policy,
    PolicyRole,
    Request,
    Requester,
    RequesterKind,
    compile_policy,
    decide,
)

ROLES = {
    "identity": PolicyRole.IDENTITY,
    "resource": PolicyRole.RESOURCE,
    "trust": PolicyRole.TRUST,
    "boundary": PolicyRole.BOUNDARY,
    "session": PolicyRole.SESSION,
    "scp": PolicyRole.SCP,
    "rcp": PolicyRole.RCP,
}


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "policy",
        help="explain denials, check and try policies",
        description="Say why a request was denied, check policy documents, and try what policies decide. For "
        "administrators: explanations name policies and statements, which callers are never told.",
        epilog="example: outcrop policy check reader.json",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    explain = actions.add_parser(
        "explain",
        parents=[common],
        help="say why a request was denied",
        description="Show a denied request: who asked for what, why it was denied, which statements bore on it and "
        "which condition keys were asked for and absent. The last 2000 denials at least are kept.",
        epilog="example: outcrop policy explain 2f1c6a0e-8a4b-4c8e-9d70-3f0f5f1f7a11   (the x-amzn-requestid)",
    )
    explain.add_argument("id", help="the request's id, from x-amzn-requestid")
    explain.set_defaults(run=run_explain)
    check = actions.add_parser(
        "check",
        parents=[common],
        help="check a policy document",
        description="Read a policy document as the service would: refuse it with the place and the reason, or list "
        "its statements.",
        epilog="example: outcrop policy check --as scp guardrails-only.json",
    )
    check.add_argument("file", type=Path, help="a policy document")
    check.add_argument("--as", dest="role", choices=ROLES, default="identity", help="what it is to be used as")
    check.set_defaults(run=run_check)
    simulate = actions.add_parser(
        "simulate",
        parents=[common],
        help="decide one request from policy files alone",
        description="Decide whether the policies in files would let a principal do one thing. Nothing of the "
        "deployment enters; condition keys are those given. The exit code is 1 for a denial.",
        epilog="example: outcrop policy simulate --identity reader.json --action bedrock:InvokeModel "
        "--resource 'arn:aws:bedrock:us-east-1::foundation-model/outcrop.pebble-v1:0' --key aws:SourceIp=10.0.0.1",
    )
    simulate.add_argument("--action", required=True, help="such as bedrock:InvokeModel")
    simulate.add_argument("--resource", default="*", metavar="ARN", help="default: *")
    simulate.add_argument(
        "--principal",
        default="arn:aws:iam::111122223333:user/somebody",
        metavar="ARN",
        help="a user, an account's root or a session of a role (default: %(default)s)",
    )
    simulate.add_argument("--key", action="append", default=[], metavar="KEY=VALUE", help="a condition key; repeatable")
    for name in ("identity", "scp", "rcp", "session"):
        simulate.add_argument(
            f"--{name}", action="append", type=Path, default=[], metavar="FILE", help=f"a {ROLES[name]}; repeatable"
        )
    for name in ("boundary", "resource-policy"):
        simulate.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"a {name.replace('-', ' ')}")
    simulate.set_defaults(run=run_simulate)


def run_explain(args: argparse.Namespace) -> int:
    record = find(args.data, args.id)
    if args.json:
        print(json.dumps(record))
        return 0
    for name in ("time", "principal", "action", "resource"):
        print(f"{name + ':':<11}{record[name]}")
    print(f"denied:    {record['reason']}")
    for each in cast("list[Mapping[str, str]]", record["matched"]):
        print(f"matched:   {each['effect']} in {each['policy']} ({each['role']}), statement {each['statement']}")
    for key in cast("list[str]", record["missing_keys"]):
        print(f"absent:    {key}")
    for key, value in cast("Mapping[str, object]", record["context"]).items():
        print(f"key:       {key} = {value}")
    return 0


def run_check(args: argparse.Namespace) -> int:
    policy = _read(args.file, ROLES[args.role])
    statements = [{"statement": each.record.statement, "effect": each.effect.value} for each in policy.statements]
    if args.json:
        print(json.dumps({"file": str(args.file), "role": policy.role.value, "statements": statements}))
        return 0
    print(f"{args.file} is understood as {policy.role.value}: {len(statements)} statement(s)")
    for each in statements:
        print(f"  {each['effect']:<5} {each['statement']}")
    return 0


def run_simulate(args: argparse.Namespace) -> int:
    requester = _requester(args.principal)
    layers = Layers(
        identity=tuple(_read(path, PolicyRole.IDENTITY) for path in args.identity),
        boundary=None if args.boundary is None else _read(args.boundary, PolicyRole.BOUNDARY),
        session=tuple(_read(path, PolicyRole.SESSION) for path in args.session) or None,
        resource=None if args.resource_policy is None else _read(args.resource_policy, PolicyRole.RESOURCE),
        scps=tuple((_read(path, PolicyRole.SCP),) for path in args.scp),
        rcps=tuple((_read(path, PolicyRole.RCP),) for path in args.rcp),
    )
    parts = args.resource.split(":", 5)
    owner = parts[4] if len(parts) == 6 else ""
    decision = decide(Request(requester, args.action, args.resource, owner, _keys(args.key)), layers)
    _show(decision, as_json=args.json)
    return 0 if decision.allowed else 1


def _show(decision: Decision, *, as_json: bool) -> None:
    matched = [
        {"policy": each.policy, "role": each.role.value, "statement": each.statement, "effect": each.effect.value}
        for each in decision.matched
    ]
    if as_json:
        shown = {"effect": decision.effect.value, "reason": decision.reason.value, "matched": matched}
        print(json.dumps(shown | {"missing_keys": decision.missing_keys}))
        return
    print(f"{decision.effect.value}: {decision.reason.value}")
    for each in matched:
        print(f"  {each['effect']:<5} in {each['policy']} ({each['role']}), statement {each['statement']}")
    for key in decision.missing_keys:
        print(f"  absent: {key}")


def _read(path: Path, role: PolicyRole) -> Policy:
    try:
        return compile_policy(path.read_bytes(), role, path.name)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _requester(arn: str) -> Requester:
    parts = arn.split(":", 5)
    if len(parts) == 6 and parts[0] == "arn" and parts[2] in ("iam", "sts"):
        kind, _, name = parts[5].partition("/")
        account = parts[4]
        if kind == "root":
            return Requester(RequesterKind.ROOT, account, arn)
        if kind == "user" and name:
            return Requester(RequesterKind.USER, account, arn)
        if kind == "assumed-role" and "/" in name:
            role = f"arn:{parts[1]}:iam::{account}:role/{name.partition('/')[0]}"
            return Requester(RequesterKind.SESSION, account, arn, role)
    raise UserError(
        f"{arn} is no principal that can be tried.",
        "Give the ARN of a user, of an account's root, or of a session of a role.",
    )


def _keys(given: list[str]) -> dict[str, list[str] | str]:
    """Condition keys; one that is given more than once has several values."""
    found: dict[str, list[str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UserError(f"{text!r} is no condition key with a value.", "Write KEY=VALUE.")
        found.setdefault(key, []).append(value)
    return {key: values if len(values) > 1 else values[0] for key, values in found.items()}
