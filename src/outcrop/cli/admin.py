"""``outcrop admin``: what an operator sets up for accounts. The nouns are in files of their own."""

from __future__ import annotations

import argparse

from outcrop.cli import admin_account, admin_bucket, admin_controls, admin_limits, admin_people

NOUNS = (admin_account, admin_people, admin_controls, admin_limits, admin_bucket)


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "admin",
        help="set up accounts: organisation, users, roles, control policies, limits, buckets",
        description="What an operator sets up for the accounts of this deployment, running or not.",
        epilog="example: outcrop admin user create alice --key",
    )
    verbs = parser.add_subparsers(metavar="NOUN", required=True)
    for noun in NOUNS:
        noun.add(verbs, common)
