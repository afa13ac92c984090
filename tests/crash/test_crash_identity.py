"""``kill -9`` at every fault point of a change to identities: each change is there whole or not at all.

Not covered: power loss below the file system (a kill leaves the page cache intact).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from identity_child import ACCOUNT, OLD_KEY, READ_ONLY, changes, open_identities, write_old

from outcrop.base.errors import NotFound
from outcrop.trust.identity import IdentityStore

CHILD = Path(__file__).with_name("identity_child.py")
STEPS = (
    *("user.create", "group.create", "group.add_user", "key.create", "service_credential.create"),
    *("attachment.attach", "inline.put", "policy.create", "policy.create_version", "role.create", "role.revoke"),
    *("account.create", "user.delete"),
)
PASSED = (
    "identity.legacy.import.written",
    "identity.legacy.import.committed",
    "identity.legacy.imported",
    "identity.legacy.removed",
    *(f"identity.{step}.{moment}" for step in STEPS for moment in ("written", "committed")),
)
"""The points that the child passes, in order; the first test holds this list to it."""

pytestmark = pytest.mark.crash


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the tables made and an old file to take in: the tables' own crash test is elsewhere."""
    directory = tmp_path_factory.mktemp("before")
    open_identities(directory)
    write_old(directory / "identity.db")
    return directory


def run_child(before: Path, directory: Path, fault: str) -> subprocess.CompletedProcess[bytes]:
    shutil.copytree(before, directory, dirs_exist_ok=True)
    return subprocess.run(
        [sys.executable, str(CHILD), str(directory)],
        env={**os.environ, "OUTCROP_FAULT": fault},
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_the_points_are_those_that_are_passed(before: Path, tmp_path: Path) -> None:
    run_child(before, tmp_path / "data", f"count:{tmp_path / 'passed'}").check_returncode()
    passed = [name for name in (tmp_path / "passed").read_text().splitlines() if name.startswith("identity.")]
    assert tuple(passed) == PASSED


@pytest.mark.parametrize("point", range(1, len(PASSED) + 1))
def test_each_change_is_whole_or_absent_after_a_kill(before: Path, tmp_path: Path, point: int) -> None:
    name = PASSED[point - 1]
    died = run_child(before, tmp_path, f"kill:{name}:{PASSED[:point].count(name)}")
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    journal = (tmp_path / "journal").read_text().split("\n")[:-1] if (tmp_path / "journal").exists() else []
    store = open_identities(tmp_path)
    credential = store.lookup(OLD_KEY)
    assert credential is not None
    assert credential.secret == "the old secret"
    assert not (tmp_path / "identity.db").exists()
    names = [name for name, _ in changes(store)]
    assert journal == names[: len(journal)]
    committed = max(0, (point - 4) // 2)  # changes whose commit came before the kill
    assert len(journal) in (committed, committed - 1)
    for place, name in enumerate(names[:-1]):
        gone = committed == len(names) and name in GONE_WITH_THE_USER
        assert PRESENT[name](store) is (place < committed and not gone), name
    if committed == len(names):
        assert not PRESENT["user"](store)
    rest = list(changes(store))[committed:]
    for _, change in rest:
        change()
    with pytest.raises(NotFound):
        store.users.get(ACCOUNT, "ann")


GONE_WITH_THE_USER = {"user", "member", "key", "credential", "attached", "inline"}


def _there(question: Callable[[IdentityStore], bool]) -> Callable[[IdentityStore], bool]:
    def answer(store: IdentityStore) -> bool:
        try:
            return question(store)
        except NotFound:
            return False

    return answer


ARN = f"arn:aws:iam::{ACCOUNT}:policy/p"
PRESENT: dict[str, Callable[[IdentityStore], bool]] = {
    "user": _there(lambda store: store.users.get(ACCOUNT, "ann").tags == {"k": "v"}),
    "group": _there(lambda store: store.groups.get(ACCOUNT, "g").name == "g"),
    "member": _there(lambda store: [user.name for user in store.groups.members(ACCOUNT, "g")] == ["ann"]),
    "key": _there(lambda store: len(store.keys.all(ACCOUNT, "ann")) == 1),
    "credential": _there(lambda store: len(store.service_credentials.all(ACCOUNT, "ann")) == 1),
    "attached": _there(lambda store: store.holdings.attached(ACCOUNT, "user", "ann") == [READ_ONLY]),
    "inline": _there(lambda store: [*store.holdings.inline(ACCOUNT, "user", "ann")] == ["own"]),
    "policy": _there(lambda store: len(store.policies.versions(ACCOUNT, ARN)) >= 1),
    "version": _there(lambda store: store.policies.get(ACCOUNT, ARN).default_version == "v2"),
    "role": _there(lambda store: store.roles.get(ACCOUNT, "r").boundary == ARN),
    "revoked": _there(lambda store: store.roles.get(ACCOUNT, "r").revoked_before is not None),
    "account": _there(lambda store: store.organisation.account("444455556666").status == "ACTIVE"),
}
