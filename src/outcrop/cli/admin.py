"""``outcrop admin``: what an operator sets up for accounts. Each noun has a file of its own."""

from __future__ import annotations

import argparse

from outcrop.cli import admin_bucket

NOUNS = (admin_bucket,)


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "admin",
        help="set up what accounts have: buckets",
        description="What an operator sets up for the accounts of this deployment, running or not.",
        epilog="example: outcrop admin bucket create invocation-logs",
    )
    verbs = parser.add_subparsers(metavar="NOUN", required=True)
    for noun in NOUNS:
        noun.add(verbs, common)
