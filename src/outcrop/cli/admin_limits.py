"""``outcrop admin quota``, ``oidc`` and ``rotate-session-keys``: limits, identity providers, and session keys."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from outcrop.base.arn import account_id
from outcrop.base.errors import UserError
from outcrop.cli.admin_common import Noun, Subparsers, opened, read_text, show
from outcrop.service.admission.base import Quota
from outcrop.service.admission.quotas import ANY, QuotaStore
from outcrop.service.trusted import SESSION_SECRET


def add(verbs: Subparsers, common: argparse.ArgumentParser) -> None:
    _add_quota(verbs, common)
    oidc = Noun(
        verbs,
        common,
        "oidc",
        "Register identity providers.",
        example="add https://idp.example.org --jwks keys.json --client-id outcrop",
    )
    add_one = oidc.verb(
        "add",
        "Register an OpenID Connect issuer with its public keys, or give new keys to one that is there. Nothing is "
        "ever fetched: when the issuer's keys change, run this again.",
        run_add_provider,
        "add https://idp.example.org --jwks keys.json --client-id outcrop",
        account=True,
    )
    add_one.add_argument("issuer", metavar="ISSUER", help="its URL, as tokens have it (iss)")
    add_one.add_argument("--jwks", type=Path, required=True, metavar="FILE", help="its key set, as it publishes it")
    add_one.add_argument(
        "--client-id", action="append", required=True, metavar="ID", help="an audience to accept; repeatable"
    )
    rotate = verbs.add_parser(
        "rotate-session-keys",
        parents=[common],
        help="seal new sessions under a new key",
        description="Make a new key for the session tokens of temporary credentials. Each process of the service takes "
        "it up when it is restarted; sessions under the key before it go on, those under older ones end.",
        epilog="example: outcrop admin rotate-session-keys",
    )
    rotate.set_defaults(run=run_rotate)


def _add_quota(verbs: Subparsers, common: argparse.ArgumentParser) -> None:
    quota = Noun(
        verbs, common, "quota", "Set, list and delete limits on use.", example="set --account 444455556666 --tpm 100000"
    )
    put = quota.verb(
        "set",
        "Limit what an account may use of a model. The row for both counts before that of the account for all models, "
        "that before the model's for all accounts.",
        run_set,
        "set --account 444455556666 --model '*' --rpm 60 --tpm 100000",
    )
    put.add_argument("--rpm", type=int, metavar="N", help="requests a minute (default: no limit)")
    put.add_argument("--tpm", type=int, metavar="N", help="tokens a minute (default: no limit)")
    put.add_argument("--concurrent", type=int, metavar="N", help="requests at once (default: no limit)")
    put.add_argument(
        "--weight", type=float, default=1.0, metavar="W", help="its share where others wait too (default: 1)"
    )
    quota.verb("list", "Show all limits.", run_list, "list --json")
    delete = quota.verb("delete", "Remove a limit.", run_delete, "delete --account 444455556666 --model '*'")
    for verb in (put, delete):
        verb.add_argument("--account", dest="limited", default=ANY, metavar="ID", help="which account (default: every)")
        verb.add_argument("--model", default=ANY, metavar="ID", help="which model (default: every)")


def run_set(args: argparse.Namespace) -> int:
    account = _account(args.limited)
    quota = Quota(args.rpm, args.tpm, args.concurrent, args.weight)
    if (account, args.model, quota) == (ANY, ANY, Quota()):
        raise UserError(
            "No limit is given, and this would take away the one that holds for everybody.",
            "Give --rpm, --tpm or --concurrent; `outcrop admin quota delete` removes a limit.",
        )
    with opened(args) as (trust, _):
        QuotaStore(trust.database).put(account, args.model, quota)
    return show(args, _facts(account, args.model, quota), _line(account, args.model, quota))


def run_list(args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        rows = QuotaStore(trust.database).list()
    lines = [_line(*row) for row in rows]
    return show(args, [_facts(*row) for row in rows], *(lines or ["No limits: the service's own defaults hold."]))


def run_delete(args: argparse.Namespace) -> int:
    account = _account(args.limited)
    with opened(args) as (trust, _):
        QuotaStore(trust.database).delete(account, args.model)
    facts = {"account": account, "model": args.model, "deleted": True}
    return show(args, facts, f"The limit for account {account} and model {args.model} is deleted.")


def run_add_provider(args: argparse.Namespace) -> int:
    jwks = read_text(args.jwks)
    with opened(args) as (trust, account):
        providers = trust.identity.oidc
        known = [each for each in providers.all(account) if f"https://{each.url}" == args.issuer.rstrip("/")]
        if not known:
            provider = providers.create(account, args.issuer, client_ids=args.client_id, jwks=jwks)
        else:
            arn = str(known[0].arn)
            providers.set_jwks(account, arn, jwks)
            for client in args.client_id:
                providers.add_client(account, arn, client)
            provider = providers.get(account, arn)
    facts = {"arn": str(provider.arn), "url": provider.url, "client_ids": list(provider.client_ids)}
    return show(args, facts, f"{provider.arn} is registered for {', '.join(provider.client_ids)}.")


def run_rotate(args: argparse.Namespace) -> int:
    with opened(args) as (trust, _):
        trust.secrets.rotate(SESSION_SECRET)
    facts = {"rotated": SESSION_SECRET}
    return show(args, facts, "New sessions are sealed under a new key once the service is restarted.")


def _account(text: str) -> str:
    return text if text == ANY else account_id(text)


def _line(account: str, model: str, quota: Quota) -> str:
    limits = (
        (quota.requests_per_minute, "requests a minute"),
        (quota.tokens_per_minute, "tokens a minute"),
        (quota.concurrent_requests, "requests at once"),
    )
    told = [f"{limit} {unit}" for limit, unit in limits if limit is not None] or ["no limit"]
    return f"account {account}, model {model}: {', '.join(told)}, weight {quota.weight:g}"


def _facts(account: str, model: str, quota: Quota) -> dict[str, object]:
    return {"account": account, "model": model, **asdict(quota)}
