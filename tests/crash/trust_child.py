"""The trust rooms of a deployment at work, to be killed at a point: starting, changing, upgrading.

Run as a program it forks once for each line ``WORKLOAD DIRECTORY FAULT`` on its standard input and answers with the
exit status of the fork, so that two hundred deaths do not take two hundred starts of Python. Each finished step is
appended to a journal, flushed to the disk: what it says was done must be found afterwards.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from audit_rig import event
from outcrop.base import faultpoints
from outcrop.base.arn import Arn
from outcrop.base.clock import FakeClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import NotFound
from outcrop.base.tables import Database
from outcrop.service.auditing import open_audit
from outcrop.service.trusted import SESSION_SECRET, Trust
from outcrop.trust.audit.keeper import AuditKeeper
from outcrop.trust.crypto.keystores import DEPLOYMENT_KEY
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.identity import Session
from outcrop.trust.identity.controls import SCP
from outcrop.trust.policy import Requester, RequesterKind

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLOCK = FakeClock(START)
MEMBER = "444455556666"


def policy(action: str, **more: object) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def trusting(name: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{MEMBER}:{name}"}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


OLD, NEW = policy("kms:Encrypt"), policy("kms:Decrypt")
OLD_TRUST, NEW_TRUST = trusting("root"), trusting("user/old")


def open_deployment(directory: Path) -> Deployment:
    try:
        return Deployment.load(directory)
    except NotFound:
        return Deployment.create(directory, region="us-east-1")


def opened(directory: Path) -> tuple[Deployment, Trust, AuditKeeper]:
    """The deployment in ``directory``, as a service that starts opens it."""
    deployment = open_deployment(directory)
    trust = Trust.open(directory, deployment, CLOCK)
    return deployment, trust, open_audit(directory, deployment, trust, CLOCK)


class Journal:
    """What was acknowledged, with what is needed to look for it."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / "journal").open("a", encoding="utf-8")

    def done(self, step: str, **facts: str) -> None:
        self._file.write(json.dumps({"step": step, **facts}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def start(directory: Path) -> None:
    """The first start of a deployment."""
    journal = Journal(directory)
    deployment, trust, audit = opened(directory)
    journal.done("opened", account=deployment.account)
    key = trust.identity.ensure_account("aws", deployment.account)
    assert key is not None
    journal.done("key", id=key.access_key_id, secret=key.secret_access_key)
    audit.trail.append(event("Started", at=CLOCK.now()))
    journal.done("event", name="Started")
    audit.close()
    trust.close()


def change(directory: Path) -> None:
    """A deployment that has a member account: everything that an administrator changes, each thing twice."""
    journal = Journal(directory)
    _, trust, audit = opened(directory)
    identity = trust.identity

    def recorded(number: int) -> None:
        name = f"Event{number}"
        audit.trail.append(event(name, at=CLOCK.now()))
        journal.done("event", name=name)

    def session(name: str) -> None:
        role = identity.roles.get(MEMBER, "new")
        made = trust.sessions.issue(
            account=role.account,
            arn=Arn("aws", "sts", "", role.account, f"assumed-role/new/{name}"),
            user_id=f"{role.id}:{name}",
            kind="role",
            session=Session(
                role_arn=str(role.arn),
                name=name,
                issued_at=START,
                expires_at=START + timedelta(hours=1),
                subject_id=role.id,
            ),
        )
        journal.done("session", id=made.access_key_id, token=made.session_token)

    recorded(1)
    identity.users.create(MEMBER, "new", tags=[("team", "blue")])
    journal.done("user")
    key = identity.keys.create(MEMBER, "new")
    journal.done("key", id=key.access_key_id, secret=key.secret_access_key)
    api_key = identity.service_credentials.create(MEMBER, "new", "bedrock.amazonaws.com")
    journal.done("api key", key=api_key.api_key)
    identity.holdings.put_inline(MEMBER, "user", "old", "own", NEW)
    journal.done("inline")
    arn = f"arn:aws:iam::{MEMBER}:policy/managed"
    identity.policies.create_version(MEMBER, arn, NEW, set_default=True)
    journal.done("managed")
    recorded(2)
    identity.controls.put(SCP, "ceiling", NEW)
    journal.done("control")
    identity.controls.attach(SCP, "ceiling", MEMBER)
    journal.done("control attached")
    identity.roles.create(MEMBER, "new", OLD_TRUST)
    journal.done("role")
    identity.roles.set_trust_policy(MEMBER, "new", NEW_TRUST)
    journal.done("trust policy")
    identity.holdings.put_boundary(MEMBER, "role", "new", arn)
    journal.done("boundary")
    session("before")
    trust.secrets.rotate(SESSION_SECRET)
    journal.done("sessions rotated")
    session("between")
    recorded(3)
    keys = trust.keys
    root = Requester(RequesterKind.ROOT, MEMBER, f"arn:aws:iam::{MEMBER}:root")
    key_id = keys.lifecycle.create(MEMBER, keys.policies.initial(MEMBER)).key_id
    journal.done("kms key", key=key_id)
    for number in range(2):
        blob = keys.ciphers.encrypt(key_id, Secret(f"text {number}"), {"for": key_id})
        journal.done("encrypted", text=f"text {number}", key=key_id, blob=base64.b64encode(blob).decode())
        if number == 0:
            keys.lifecycle.rotate(key_id)
            journal.done("rotated", key=key_id)
    keys.policies.put(keys.find(key_id, MEMBER), new_key_policy(trust), root)
    journal.done("key policy", key=key_id)
    trust.key_store.rotate(DEPLOYMENT_KEY)
    journal.done("deployment key rotated")
    again = identity.keys.create(MEMBER, "new")
    journal.done("key", id=again.access_key_id, secret=again.secret_access_key)
    recorded(4)
    audit.trail.rotate_keys()
    journal.done("audit keys rotated")
    recorded(5)
    identity.users.delete(MEMBER, "gone", force=True)
    journal.done("user deleted")
    audit.close()
    trust.close()


def new_key_policy(trust: Trust) -> str:
    document = json.loads(trust.keys.policies.initial(MEMBER))
    document["Statement"][0]["Sid"] = "Changed"
    return json.dumps(document)


def prepare(directory: Path) -> None:
    """What ``change`` finds."""
    deployment, trust, audit = opened(directory)
    trust.identity.ensure_account("aws", deployment.account)
    trust.identity.organisation.create_account(MEMBER, "aws")
    for name in ("old", "gone"):
        trust.identity.users.create(MEMBER, name)
        trust.identity.holdings.put_inline(MEMBER, "user", name, "own", OLD)
    trust.identity.policies.create(MEMBER, "managed", OLD)
    trust.identity.controls.put(SCP, "ceiling", OLD)
    audit.close()
    trust.close()


def upgrade(directory: Path) -> None:
    """A database of an older release is opened."""
    Database(directory / "outcrop.db").close()
    Journal(directory).done("upgraded")


WORKLOADS = {"start": start, "change": change, "upgrade": upgrade}


def main() -> None:
    for line in sys.stdin:
        workload, directory, fault = line.split()
        process = os.fork()
        if process == 0:
            faultpoints._ARMED = fault
            status = 1
            try:
                with open(Path(directory) / "stderr", "w", encoding="utf-8") as errors:
                    os.dup2(errors.fileno(), 2)
                WORKLOADS[workload](Path(directory))
                status = 0
            except BaseException:  # noqa: BLE001 - told by the exit code and in the file
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
