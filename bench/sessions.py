"""What temporary credentials cost a request: opening the session token, and the whole check of a signature by one.

    python bench/sessions.py [--json]

A session with an inline policy, a managed one and two tags, over identities held in memory. Told are: a token seen
before and one that is new (``Sessions.open``), issuing one, and a signed request of 1 KB with a session's credentials
and with long-term ones (``Authenticator.authenticate``). Processor time of one, the least of 20 rounds. The budget is
60 µs for each opening. Not included: the identity store's look-up of the role, sockets, decoding, the decision.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from outcrop.assurance.attack import Keys, Target, sign
from outcrop.base.arn import Arn, account_id
from outcrop.base.clock import SystemClock
from outcrop.trust.identity import (
    Authenticator,
    MemoryCredentials,
    MemorySubjects,
    Session,
    SessionKeys,
    Sessions,
    Subject,
    root_credential,
)

BUDGET_US = 60.0
ROUNDS, EACH = 20, 200
ACCOUNT = account_id("123456789012")
ROLE, ROLE_ID = "arn:aws:iam::123456789012:role/team/reader", "AROAOUTCROPBENCHROLE2"
POLICY = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["bedrock:InvokeModel","bedrock:Converse"],'
    '"Resource":"arn:aws:bedrock:*::foundation-model/*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}}]}'
)
LONG_TERM = Keys("AKIAOUTCROPBENCHKEY2", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def least_us(work: Callable[[], object]) -> float:
    """Processor time of one call in µs, the least of the rounds."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for _ in range(EACH):
            work()
        found.append((time.process_time_ns() - started) / EACH / 1000)
    return round(min(found), 1)


def measure() -> dict[str, float]:
    """Each figure in µs."""
    clock = SystemClock()
    sessions = Sessions(SessionKeys.generate(), MemorySubjects({ROLE: Subject(ROLE_ID)}), clock)
    now = clock.now()
    session = Session(
        role_arn=ROLE,
        name="alice",
        issued_at=now,
        expires_at=now + timedelta(hours=12),
        policies=(POLICY,),
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        tags={"team": "blue", "cost": "7"},
        subject_id=ROLE_ID,
    )
    arn = Arn("aws", "sts", "", ACCOUNT, "assumed-role/reader/alice")

    def issue() -> Keys:
        made = sessions.issue(account=ACCOUNT, arn=arn, user_id=f"{ROLE_ID}:alice", kind="role", session=session)
        return Keys(made.access_key_id, made.secret_access_key, made.session_token)

    keys = issue()
    fresh = iter([issue() for _ in range(ROUNDS * EACH)])

    def open_new() -> None:
        each = next(fresh)
        sessions.open(each.access_key_id, each.session_token)

    target = Target("localhost", "/model/m/converse", "eu-west-1", "bedrock", b"x" * 1024)
    held = MemoryCredentials(root_credential("aws", ACCOUNT, LONG_TERM.access_key_id, LONG_TERM.secret))
    verifier = Authenticator(held, target.region, clock, sessions=sessions)
    by_session, by_key = (sign(target, each, clock.now()) for each in (keys, LONG_TERM))
    return {
        "token_characters": len(keys.session_token),
        "open_seen_us": least_us(lambda: sessions.open(keys.access_key_id, keys.session_token)),
        "open_new_us": least_us(open_new),
        "issue_us": least_us(issue),
        "request_by_session_us": least_us(lambda: verifier.authenticate(by_session, "bedrock", allow_bearer=False)),
        "request_by_long_term_key_us": least_us(lambda: verifier.authenticate(by_key, "bedrock", allow_bearer=False)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    as_json = parser.parse_args().json
    figures = measure()
    met = max(figures["open_seen_us"], figures["open_new_us"]) <= BUDGET_US
    if as_json:
        print(json.dumps({**figures, "budget_us": BUDGET_US, "met": met}))
    else:
        for name, value in figures.items():
            print(f"{name:30} {value:10.1f}")
        print(f"budget for opening: {BUDGET_US} µs, {'met' if met else 'NOT met'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
