"""``outcrop attack``: try to break a running deployment, and say what came of each attempt."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from outcrop.assurance.attack import (
    FAMILIES,
    Client,
    Family,
    Outcome,
    Result,
    Scene,
    attack,
    chosen,
    load,
    private_deployment,
    throw_away,
)
from outcrop.base.arn import AccountId, Arn
from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import UserError

if TYPE_CHECKING:
    from outcrop.service.trusted import Trust

DEFAULT_URL = "http://127.0.0.1:8080"
QUICK_TRIALS, TRIALS = 20, 200
WORDS = {
    Outcome.REFUSED: "refused",
    Outcome.SUCCEEDED: "SUCCEEDED",
    Outcome.UNPROVEN: "unproven",
    Outcome.NOT_APPLICABLE: "not applicable",
}


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    del common  # its default for --data would make every attack one from within
    parser = subparsers.add_parser(
        "attack",
        help="try to break a running deployment",
        description="Attack a running deployment as an outsider, as another tenant and as one of its own people. Every "
        "attempt must be refused: the exit code is 1 where one succeeds, or could not be judged. With --data (on the "
        "machine of the deployment) two throw-away tenants are made, attacked and taken away again (their accounts "
        "stay, suspended and empty), and a private deployment is started and broken; without it only an outsider's "
        "attacks run.",
        epilog="example: outcrop attack http://127.0.0.1:8080 --data ./data --only foreign",
    )
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, metavar="URL", help="the service (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the deployment's data directory: attack from within")
    parser.add_argument(
        "--tenants",
        type=Path,
        metavar="FILE",
        help="a TOML file with keys of two tenants made for this, in place of throw-away ones",
    )
    parser.add_argument("--ca", type=Path, metavar="FILE", help="the CA of an https URL (default: that of --data)")
    parser.add_argument("--region", default="us-east-1", help="the region, where --data does not tell it")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        choices=[family.name for family in FAMILIES],
        help=f"run this family only; repeatable: {', '.join(family.name for family in FAMILIES)}",
    )
    parser.add_argument(
        "--control",
        action="append",
        default=[],
        metavar="ID",
        help="run what is evidence for this control, as NIST-AC-3 or AISVS-5.3.1; repeatable",
    )
    parser.add_argument("--quick", action="store_true", help="leave out what waits for the service's own time-outs")
    parser.add_argument("--json", action="store_true", help="print one JSON document, for scripts")
    parser.set_defaults(run=run, recorded_as="attack")


def run(args: argparse.Namespace) -> int:
    families = chosen(args.only, args.control)
    if not families:
        known = sorted({control for family in FAMILIES for control in family.controls})
        raise UserError("No family is evidence for that.", f"Known controls: {', '.join(known)}.")
    found: list[Result] = []
    with _scene(args) as scene, tqdm(total=len(families), unit="family", disable=args.json or None) as bar:
        if not scene.client.alive():
            raise UserError(f"Nothing answers at {args.url}.", "Start the service with `outcrop up`, or give its URL.")
        for family, results in attack(scene, families):
            found += results
            bar.update()
            if not args.json:
                tqdm.write(_told(family, results), file=sys.stdout)
    totals = Counter(result.outcome for result in found)
    failed = any(not result.passed for result in found)
    if args.json:
        cases = [
            {
                "family": each.family,
                "case": each.case,
                "controls": each.controls,
                "outcome": each.outcome.value,
                "evidence": each.evidence,
            }
            for each in found
        ]
        print(json.dumps({"url": args.url, "passed": not failed, "totals": _totals(totals), "cases": cases}))
    else:
        print(f"\n{len(found)} cases: " + ", ".join(f"{count} {name}" for name, count in _totals(totals).items()))
        print("Something did not hold." if failed else "No attack succeeded.")
    return 1 if failed else 0


def _totals(totals: Counter[Outcome]) -> dict[str, int]:
    return {WORDS[outcome]: totals[outcome] for outcome in Outcome}


def _told(family: Family, results: list[Result]) -> str:
    """One line for a family, and one for each case that an operator must look at."""
    totals = Counter(result.outcome for result in results)
    counts = ", ".join(f"{totals[outcome]} {WORDS[outcome]}" for outcome in Outcome if totals[outcome])
    lines = [f"{family.name:<12} {counts:<44} {family.title}"]
    lines += [
        f"  {WORDS[each.outcome]}: {each.case}: {each.evidence}"
        for each in results
        if not each.passed or (each.outcome is Outcome.NOT_APPLICABLE and len(results) <= 3)
    ]
    return "\n".join(lines)


@contextlib.contextmanager
def _scene(args: argparse.Namespace) -> Iterator[Scene]:
    trials = QUICK_TRIALS if args.quick else TRIALS
    if args.data is None:
        victims = load(args.tenants) if args.tenants else None
        yield Scene(Client(args.url, args.ca), args.region, victims, timing_trials=trials, slow=not args.quick)
        return
    from outcrop.cli.trust import TLS_DIRECTORY  # noqa: PLC0415
    from outcrop.service import trusted  # noqa: PLC0415 - heavy: only an attack from within needs it
    from outcrop.trust.crypto.ca import ServerTls  # noqa: PLC0415

    deployment = Deployment.load(args.data)
    tls = ServerTls.of(args.data.absolute() / TLS_DIRECTORY).ca_certificate
    client = Client(args.url, args.ca or (tls if args.url.startswith("https") else None))
    trust = trusted.Trust.open(args.data, deployment, SystemClock())
    with contextlib.ExitStack() as stack:
        stack.callback(trust.close)
        if args.tenants:
            victims = load(args.tenants)
        else:
            victims = stack.enter_context(
                throw_away(
                    trust.identity,
                    trust.keys,
                    deployment.region,
                    deployment.partition,
                    lambda account: _belongings(args.data, deployment, trust, account),
                )
            )
        yield Scene(
            client,
            deployment.region,
            victims,
            args.data,
            private_deployment,
            limit=None if args.tenants else lambda account, rpm: _limit(trust, account, rpm),
            replay_cache=trust.settings.profile == "strict",
            timing_trials=trials,
            slow=not args.quick,
        )


def _limit(trust: Trust, account: str, requests_per_minute: int) -> None:
    """Set a throw-away account's quota for every model, or take it away again (0)."""
    from outcrop.service.admission.base import Quota  # noqa: PLC0415
    from outcrop.service.admission.quotas import ANY, QuotaStore  # noqa: PLC0415

    store = QuotaStore(trust.database)
    if requests_per_minute:
        store.put(account, ANY, Quota(requests_per_minute=requests_per_minute))
    else:
        store.delete(account, ANY)


@contextlib.contextmanager
def _belongings(data: Path, deployment: Deployment, trust: Trust, account: str) -> Iterator[Mapping[str, str]]:
    """A model that only ``account`` sees, and a bucket of its own, for as long as the attack takes."""
    from outcrop.models.registry import BUNDLED, ModelRegistry  # noqa: PLC0415
    from outcrop.service.objects import SealedObjects  # noqa: PLC0415
    from outcrop.service.objects.sealed import OBJECTS_FOLDER  # noqa: PLC0415

    owner = AccountId(account)
    registry = ModelRegistry(data / "models")
    source = next(path for path in sorted(BUNDLED.iterdir()) if (path / "config.json").is_file())
    objects = SealedObjects(trust.keys, trust.vault, data / OBJECTS_FOLDER, SystemClock())
    with contextlib.ExitStack() as stack:
        info = registry.import_directory(source, f"local.attack-{account}-v1:0", owner=owner)
        stack.callback(registry.remove, info.model_id)
        bucket = objects.create_bucket(f"attack-{account}", owner, None)
        stack.callback(objects.delete_bucket, bucket.name, owner)
        path = f"imported-model/{info.resource_id}"
        model = Arn(deployment.partition, "bedrock", deployment.region, owner, path)
        yield {"model_name": info.model_id, "model": str(model), "bucket": bucket.name}
