"""A deployment's trust rooms killed at a point, opened again and looked through."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "crash"))
import trust_child as child

from audit_rig import event
from outcrop.base.errors import NotFound
from outcrop.base.tables import VERSIONS, Database
from outcrop.service.auditing import AUDIT_FOLDER
from outcrop.service.trusted import SESSION_SECRET, Trust
from outcrop.trust.audit.segments import signed_records
from outcrop.trust.audit.verify import verify
from outcrop.trust.crypto.keystores.passphrase import PassphraseKeyStore
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.identity.controls import SCP
from outcrop.trust.keys import KeyState

SCRYPT_N = 2**14  # the least there is: these tests are about crashes
PASSPHRASE = "a passphrase for tests of crashes"


class Rig:
    """The forking child, and directories to start from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child = subprocess.Popen(
            [sys.executable, child.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        _cheap_key_store(folder / "prepared")
        child.prepare(folder / "prepared")
        _cheap_key_store(folder / "new")
        (folder / "empty").mkdir()
        for revision in revisions()[:-1]:
            _older(folder, revision)

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(30)

    def run(self, workload: str, origin: str, directory: Path, fault: str) -> int:
        """The exit code of ``workload`` in a copy of ``origin`` at ``directory``, with a fault armed."""
        shutil.copytree(self._folder / origin, directory)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{workload} {directory} {fault}\n")
        self._child.stdin.flush()
        return int(self._child.stdout.readline())

    def points(self, workload: str, origin: str) -> list[str]:
        """The names of all points that an undisturbed run passes, in order; such a run is looked through, too."""
        directory = self._folder / f"counted-{workload}-{origin}"
        code = self.run(workload, origin, directory, f"count:{directory}.points")
        assert code == 0, (directory / "stderr").read_text()
        CHECKS[workload](directory)
        return Path(f"{directory}.points").read_text().split()

    def kill_and_look(self, workload: str, origin: str, place: str) -> bool:
        """Kill a run at ``place`` (a number, or a name with how many times it is passed); all must be whole.

        The trail's threads batch what they write, so one run may pass a few points less than another: then it ends by
        itself, is looked through all the same, and the answer is ``False``.
        """
        directory = self._folder / f"killed-{workload}-{origin}-{place.replace(':', '-')}"
        code = self.run(workload, origin, directory, f"kill:{place}")
        assert code in (0, -signal.SIGKILL), (directory / "stderr").read_text()
        try:
            CHECKS[workload](directory)
        except BaseException as error:
            error.add_note(f"after kill -9 of {workload} from {origin} at {place}, in {directory}")
            raise
        shutil.rmtree(directory)
        return code != 0


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("kills"))
    yield made
    made.close()


def workloads() -> list[tuple[str, str]]:
    """Each workload with what it starts from; a start with a key store, whose passphrase is slow to stretch."""
    return [("change", "prepared"), ("start", "new"), *(("upgrade", revision) for revision in revisions()[:-1])]


def revisions() -> list[str]:
    return sorted(path.name[1:5] for path in VERSIONS.glob("v*.py"))


def _cheap_key_store(directory: Path) -> None:
    (directory / "keystore").mkdir(parents=True, mode=0o700)
    secret = directory / "keystore" / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    PassphraseKeyStore(directory / "keystore" / "keys.json", Secret(PASSPHRASE), scrypt_n=SCRYPT_N).close()


def _older(folder: Path, revision: str) -> None:
    """A database as the release of ``revision`` made it, with an account in it."""
    versions = folder / f"versions-{revision}"
    versions.mkdir()
    for path in VERSIONS.glob("v*.py"):
        if path.name[1:5] <= revision:
            shutil.copy(path, versions)
    (folder / revision).mkdir()
    database = Database(folder / revision / "outcrop.db", versions)
    with database.transaction() as transaction:
        transaction.execute(
            "INSERT INTO accounts (account, partition, status, created_at, name, parent) "
            "VALUES ('111122223333', 'aws', 'ACTIVE', '2026-01-01T00:00:00.000+00:00', 'kept', '')"
        )
    database.close()


def _journal(directory: Path) -> list[dict[str, str]]:
    path = directory / "journal"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_upgrade(directory: Path) -> None:
    """One revision or another, with all its rows, and open to this release."""
    with closing(sqlite3.connect(directory / "outcrop.db")) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = raw.execute("SELECT version_num FROM alembic_version").fetchall()
        assert found in ([(revisions()[-1],)], [(directory.name.split("-")[2],)])
    database = Database(directory / "outcrop.db")
    assert [row["name"] for row in database.query("SELECT name FROM accounts")] == ["kept"]
    database.close()


def check_start(directory: Path) -> None:
    """The directory starts, with the account and the key that were told."""
    deployment, trust, audit = child.opened(directory)
    steps = _journal(directory)
    assert all(step["account"] == deployment.account for step in steps if step["step"] == "opened")
    _check_keys(trust, steps)
    made = trust.identity.ensure_account("aws", deployment.account)
    assert made is None or not any(step["step"] == "key" for step in steps)
    assert len(trust.identity.list_keys()) == 1
    audit.trail.append(event("AfterTheCrash", at=child.START))
    audit.close()
    trust.close()
    _check_trail(directory, steps)


def check_change(directory: Path) -> None:
    """Nothing acknowledged is lost, everything else is old or new, all that was sealed opens, the trail verifies."""
    _, trust, audit = child.opened(directory)
    steps = _journal(directory)
    done = {step["step"] for step in steps}
    _check_keys(trust, steps)
    _check_identities(trust, done)
    _check_sessions(trust, steps)
    _check_kms(trust, steps)
    trust.identity.users.create(child.MEMBER, "after-the-crash")  # and it goes on
    trust.secrets.rotate(SESSION_SECRET)
    audit.trail.append(event("AfterTheCrash", at=child.START))
    audit.close()
    trust.close()
    _check_trail(directory, steps)


CHECKS: dict[str, Callable[[Path], None]] = {
    "start": check_start,
    "change": check_change,
    "upgrade": check_upgrade,
}


def _check_keys(trust: Trust, steps: list[dict[str, str]]) -> None:
    for step in steps:
        if step["step"] == "key":
            credential = trust.identity.lookup(step["id"])
            assert credential is not None
            assert credential.secret == step["secret"]
        if step["step"] == "api key":
            assert trust.identity.lookup_api_key(step["key"]) is not None
            assert trust.identity.lookup_api_key(step["key"][:-4] + "AAAA") is None


def _check_identities(trust: Trust, done: set[str]) -> None:
    identity, member = trust.identity, child.MEMBER
    arn = f"arn:aws:iam::{member}:policy/managed"
    policy = identity.policies.get(member, arn)
    documents = {
        "inline": identity.holdings.get_inline(member, "user", "old", "own"),
        "managed": identity.policies.version(member, arn, policy.default_version).document,
        "control": identity.controls.get(SCP, "ceiling").document,
    }
    for step, document in documents.items():
        assert document == child.NEW or (document == child.OLD and step not in done), step
    assert ("control attached" not in done) or identity.controls.get(SCP, "ceiling").targets == (member,)
    roles = {role.name: role for role in identity.roles.all(member)}
    assert ("role" not in done) or "new" in roles
    if "new" in roles:
        trusted = roles["new"].trust_policy
        assert trusted == child.NEW_TRUST or (trusted == child.OLD_TRUST and "trust policy" not in done)
        assert roles["new"].boundary == arn or (roles["new"].boundary is None and "boundary" not in done)
    users = {user.name: user for user in identity.users.all(member)}
    assert ("user" not in done) or "new" in users
    if "new" in users:
        assert users["new"].tags == {"team": "blue"}
    if "gone" in users:
        assert "user deleted" not in done
        assert identity.holdings.get_inline(member, "user", "gone", "own") == child.OLD
    else:
        with pytest.raises(NotFound):
            identity.holdings.get_inline(member, "user", "gone", "own")


def _check_sessions(trust: Trust, steps: list[dict[str, str]]) -> None:
    for step in steps:
        if step["step"] == "session":
            assert trust.sessions.open(step["id"], step["token"]).account == child.MEMBER
    assert 1 <= len(trust.secrets.get(SESSION_SECRET)) <= 2


def _check_kms(trust: Trust, steps: list[dict[str, str]]) -> None:
    keys = trust.keys
    assert keys.rows.in_states(KeyState.CREATING, KeyState.DESTROYING) == []
    assert keys.rows.rotating() == []
    of_store = {name for name in keys.store.names() if name.startswith("kms-")}
    assert of_store == {key.master_name for key in keys.rows.in_states(KeyState.ENABLED)}
    named = {step["step"]: step for step in steps if "key" in step and step["step"] != "api key"}
    for step in steps:
        if step["step"] == "encrypted":
            opened = keys.ciphers.decrypt(base64.b64decode(step["blob"]), {"for": step["key"]})
            assert opened.plaintext == Secret(step["text"])
    if "kms key" in named:
        key = keys.rows.peek(named["kms key"]["key"])
        assert key is not None
        assert key.version == 2 or (key.version == 1 and "rotated" not in named)
        old, new = keys.policies.initial(child.MEMBER), child.new_key_policy(trust)
        assert key.policy == new or (key.policy == old and "key policy" not in named)


def _check_trail(directory: Path, steps: list[dict[str, str]]) -> None:
    report = verify(directory / AUDIT_FOLDER)
    assert [str(finding) for finding in report.findings] == []
    records: Iterator[Any] = (line.parsed() for _, line in signed_records(directory / AUDIT_FOLDER / "log"))
    found = Counter(record["event"]["eventName"] for record in records)
    assert all(found[step["name"]] == 1 for step in steps if step["step"] == "event")
    assert all(count == 1 for name, count in found.items() if name.startswith(("Event", "Started", "After")))
    assert found["AfterTheCrash"] == 1
