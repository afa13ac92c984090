"""What a decision adds to a request: finding resources, condition keys and every policy, for the busiest operation.

    python bench/access.py [--json]

``Access.decide`` for a Converse request, over the real identity store in a temporary database: a user with an inline
policy of two statements with conditions, a tag, and the organisation's control policies; and the account's root. By
model id, and by inference profile (two decisions). Processor time of one request, the least of 20 rounds of 500.
Not included: sockets, signatures, decoding. The budget is 150 µs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from outcrop.base.arn import AccountId, Arn, Scope
from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.inference.base import EngineConfig
from outcrop.models.registry import ModelRegistry
from outcrop.service.access import Access, Asking, Denials
from outcrop.service.access.resources import Resources
from outcrop.service.hosting import DEFAULT_MODEL_ID, ModelHost, paged_engines
from outcrop.service.http import RawRequest
from outcrop.service.trusted import Trust
from outcrop.service.wire.generated import bedrock_runtime as shapes
from outcrop.trust.identity import Principal

BUDGET_US = 150.0
ROUNDS, REQUESTS = 20, 500
HEADERS = [(b"host", b"localhost"), (b"user-agent", b"Boto3/1.44"), (b"content-type", b"application/json")]
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["bedrock:InvokeModel*"],
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalTag/team": "red"}},
        },
        {
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {"NotIpAddress": {"aws:SourceIp": ["127.0.0.0/8", "10.0.0.0/8"]}},
        },
    ],
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args(arguments).json
    with tempfile.TemporaryDirectory(prefix="outcrop-bench-") as folder:
        found = measure(Path(folder))
    for name, cost_us in found.items() if not as_json else ():
        print(f"{name:<18} {cost_us:6.1f} µs")
    if as_json:
        print(json.dumps(found))
    return int(max(found.values()) > BUDGET_US)


def measure(data: Path) -> dict[str, float]:
    """Microseconds of processor time for one request, by who asks and how the model is named."""
    clock = SystemClock()
    deployment = Deployment.create(data, region="us-east-1")
    trust = Trust.open(data, deployment, clock)
    identity, account = trust.identity, deployment.scope.account
    identity.ensure_account(deployment.partition, account)
    user = identity.users.create(account, "alice", tags=(("team", "red"),))
    identity.holdings.put_inline(account, "user", "alice", "own", json.dumps(POLICY))
    host = ModelHost(ModelRegistry(data / "models"), deployment.scope, paged_engines(EngineConfig()), clock)
    access = Access(
        identity,
        Resources(host, clock, identity, trust.keys),
        clock,
        Denials(data),
        identity.organisation.organisation_path,
    )
    senders = (
        Principal(account, user.arn, user.id, "AKIAUSER", "user", "sigv4"),
        Principal(account, _root(deployment.scope), account, "AKIAROOT", "root", "sigv4"),
    )
    found = {}
    for way, name in (("model", DEFAULT_MODEL_ID), ("profile", host.profile_id(DEFAULT_MODEL_ID))):
        for who in senders:
            request = RawRequest("POST", b"/", b"", HEADERS, b"", "127.0.0.1")
            asking = Asking(who, request, "bench", shapes.ConverseRequest(model_id=name))
            found[f"{who.kind} by {way}"] = _least_us(access, asking)
    trust.close()
    return found


def _root(scope: Scope) -> Arn:
    return Arn(scope.partition, "iam", "", AccountId(scope.account), "root")


def _least_us(access: Access, asking: Asking) -> float:
    least_s = float("inf")
    for _ in range(ROUNDS):
        start_s = time.process_time()
        for _ in range(REQUESTS):
            access.decide("bedrock-runtime:Converse", asking)
        least_s = min(least_s, time.process_time() - start_s)
    return least_s / REQUESTS * 1e6


if __name__ == "__main__":
    sys.exit(main())
