"""``outcrop evidence``: run the tests behind controls of public catalogues, and sign what came of them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from outcrop.base.clock import SystemClock

LABELS = ("holds", "fails", "incomplete", "documented", "operator", "not met", "not applicable")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "evidence",
        help="run the tests behind security controls and sign the results",
        description="Evidence for controls of public catalogues (docs/reference/controls.md), made by running the "
        "tests of a source checkout.",
        epilog="example: outcrop evidence run --framework aisvs",
    )
    verbs = parser.add_subparsers(metavar="ACTION", required=True)

    running = verbs.add_parser(
        "run",
        parents=[common],
        help="run the tests behind controls and write a signed file",
        description="Runs the tests behind the chosen controls (all, unless some are named) in the checkout that this "
        "command belongs to, and writes what came of each, with commit, machine and packages, signed with this data "
        "directory's evidence key. Exit code 1 when a test failed or was skipped.",
        epilog="example: outcrop evidence run --control NIST-AC-3 --control AISVS-5.3.1 --out evidence.json",
    )
    running.add_argument("--control", action="append", default=[], metavar="ID", help="a control's id; repeatable")
    running.add_argument(
        "--framework", action="append", default=[], metavar="NAME", help="aisvs, nist-800-53 or fedramp-ksi; repeatable"
    )
    running.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: DIR/evidence/TIME.json)")
    running.add_argument("--oscal", type=Path, metavar="FILE", help="also write an OSCAL component definition (JSON)")
    running.set_defaults(run=run_run)

    checking = verbs.add_parser(
        "verify",
        parents=[common],
        help="check the signature of an evidence file",
        description="Checks that an evidence file is as its signer left it, and shows what it says. Nothing is run.",
        epilog="example: outcrop evidence verify evidence.json --key 3f9c2a71d0e4b586",
    )
    checking.add_argument("file", type=Path, metavar="FILE", help="the evidence file")
    checking.add_argument("--key", default="", metavar="FINGERPRINT", help="the signer's key, or the beginning of it")
    checking.set_defaults(run=run_verify)


def run_run(args: argparse.Namespace) -> int:
    from tqdm import tqdm  # noqa: PLC0415 - this and the trust room are needed by this verb only

    from outcrop.assurance.controls import ControlMap  # noqa: PLC0415
    from outcrop.assurance.evidence import Checkout, EvidenceFile, Statement, evidence_key, run_tests  # noqa: PLC0415
    from outcrop.assurance.evidence.checkout import machine_facts, packages  # noqa: PLC0415
    from outcrop.assurance.evidence.oscal import component_definition  # noqa: PLC0415
    from outcrop.assurance.evidence.statement import results  # noqa: PLC0415
    from outcrop.base.files import write_atomic  # noqa: PLC0415
    from outcrop.cli.admin_common import require_writable  # noqa: PLC0415

    for path in (args.out, args.oscal):
        if path is not None:
            require_writable(path)
    checkout = Checkout.of_this_package()
    control_map = ControlMap.load()
    chosen = control_map.choose(args.control, args.framework)
    tests = list(dict.fromkeys(test for _, control in chosen for test in control_map.tests(control)))
    key = evidence_key(args.data)
    facts = checkout.facts()  # before the tests run: what is stated is what was there when they began
    with tqdm(unit="case", desc=f"{len(tests)} tests", file=sys.stderr, disable=None, leave=False) as bar:

        def tell(done: int) -> None:
            bar.update(done - bar.n)

        runs = run_tests(checkout.root, tests, tell) if tests else []
    at = SystemClock().now()
    statement = Statement(
        at.isoformat(timespec="seconds"), facts, machine_facts(), packages(), runs, results(control_map, chosen, runs)
    )
    out = args.out or args.data / "evidence" / f"{at:%Y%m%dT%H%M%SZ}.json"
    EvidenceFile.sign(statement.document(), key).write(out)
    if args.oscal:
        document = component_definition(control_map.catalogues, statement)
        write_atomic(args.oscal, (json.dumps(document, indent=1) + "\n").encode())
    fingerprint = key.verifying_key.fingerprint()
    if args.json:
        print(
            json.dumps({"file": str(out), "key": fingerprint, "counts": statement.counts(), "sound": statement.sound})
        )
        return 0 if statement.sound else 1
    _print_counts(statement.counts())
    for result in statement.controls:
        if result.outcome in ("fails", "incomplete"):
            print(f"{result.outcome:<11} {result.id}  {result.title}")
    for run in runs:
        if run.outcome != "passed":
            print(f"{run.outcome:<11} {run.test}")
    print(f"Signed by {fingerprint[:16]}: {out}")
    return 0 if statement.sound else 1


def run_verify(args: argparse.Namespace) -> int:
    from outcrop.assurance.evidence import EvidenceFile  # noqa: PLC0415

    evidence = EvidenceFile.read(args.file)
    evidence.verify(args.key)
    stated, fingerprint = evidence.statement, evidence.public_key.fingerprint()
    controls = stated["controls"]
    counts: dict[str, dict[str, int]] = {}
    for one in controls:
        found = counts.setdefault(one["catalogue"], {})
        label = one["outcome"] or one["status"]
        found[label] = found.get(label, 0) + 1
    if args.json:
        print(json.dumps({"key": fingerprint, "at": stated["at"], "checkout": stated["checkout"], "counts": counts}))
        return 0
    checkout = stated["checkout"]
    print(f"The signature holds, by the key {fingerprint}.")
    if not args.key:
        print("Whose key that is, only --key FINGERPRINT can tell.")
    dirty = {True: ", with changes on top", False: "", None: ", changes unknown"}[checkout["dirty"]]
    print(f"Run {stated['at']} on commit {checkout['commit']}{dirty}.")
    _print_counts(counts)
    return 0


def _print_counts(counts: dict[str, dict[str, int]]) -> None:
    print(f"{'':<14}" + "".join(f"{label:>16}" for label in LABELS))
    for name, found in counts.items():
        print(f"{name:<14}" + "".join(f"{found.get(label, 0):>16}" for label in LABELS))
