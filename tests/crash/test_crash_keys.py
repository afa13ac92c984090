"""``kill -9`` at every fault point in the life of a key: what is opened again is whole, and old ciphertexts still open.

Not covered: power loss below the file system (a kill leaves the page cache intact), and key stores other than the
passphrase file.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from keys_child import ACCOUNT, START, open_keys, other_policy

from outcrop.base.clock import FakeClock
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys import DEFAULT_ALIAS, KeyManager, KeyRefused, KeyService, KeyState

CHILD = Path(__file__).with_name("keys_child.py")
PASSED = (
    *(f"kms.create.{moment}" for moment in ("begun", "promised", "stored", "written")),
    "kms.finish.committed",
    *(f"kms.rotate.{moment}" for moment in ("begun", "promised", "stored", "written")),
    "kms.finish.committed",
    *(f"kms.policy.{moment}" for moment in ("begun", "written", "committed")),
    "kms.grant.written",
    "kms.revoke.written",
    "kms.disable.written",
    "kms.enable.written",
    *(f"kms.schedule.{moment}" for moment in ("begun", "written", "committed")),
    "kms.cancel.written",
    *(2 * (*(f"kms.create.{moment}" for moment in ("begun", "promised", "stored", "written")), "kms.finish.committed")),
    *(f"kms.schedule.{moment}" for moment in ("begun", "written", "committed")),
    *(f"kms.delete.{moment}" for moment in ("promised", "begun", "destroyed", "written")),
    "kms.finish.committed",
)
"""The points that the child passes, in order; the first test holds this list to it."""
THE_SAME_AGAIN = range(27, 32)  # the third creation is like the first
STATE_AFTER = {
    "created": KeyState.ENABLED,
    "disabled": KeyState.DISABLED,
    "enabled": KeyState.ENABLED,
    "scheduled": KeyState.PENDING_DELETION,
    "cancelled": KeyState.DISABLED,
    "due": KeyState.PENDING_DELETION,
    "erased": KeyState.DESTROYED,
}
NEXT_STATES = {
    # The step under way when the process died was durable, or had no effect, or (erasing) is finished when reopened.
    KeyState.ENABLED: {KeyState.ENABLED, KeyState.DISABLED, KeyState.PENDING_DELETION},
    KeyState.DISABLED: {KeyState.DISABLED, KeyState.ENABLED},
    KeyState.PENDING_DELETION: {KeyState.PENDING_DELETION, KeyState.DISABLED, KeyState.DESTROYED},
    KeyState.DESTROYED: {KeyState.DESTROYED},
}


def run_child(directory: Path, fault: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(CHILD), str(directory)],
        env={**os.environ, "OUTCROP_FAULT": fault},
        capture_output=True,
        timeout=60,
        check=False,
    )


def reopened(directory: Path) -> tuple[KeyService, FakeClock]:
    clock = FakeClock(START)
    return open_keys(directory, clock), clock


def journal_of(directory: Path) -> list[dict[str, str]]:
    path = directory / "journal"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_whole(keys: KeyService) -> None:
    """No key is half made, half rotated or half destroyed, and the two stores agree on every one."""
    masters = {name for name in keys.store.names() if name.startswith("kms-")}
    assert keys.rows.in_states(KeyState.CREATING, KeyState.DESTROYING) == []
    assert keys.rows.rotating() == []
    for key in keys.rows.in_states(KeyState.ENABLED, KeyState.DISABLED, KeyState.PENDING_DELETION):
        versions = [rotation.version for rotation in keys.rows.rotations(key.key_id)]
        assert versions == list(keys.store.describe(key.master_name).versions)
        assert key.version == versions[-1]
        masters.remove(key.master_name)
    assert masters == set()  # nothing in the key store that no key speaks for


def check_promises(keys: KeyService, journal: list[dict[str, str]]) -> None:
    """What the journal says was done is there."""
    for key_id in dict.fromkeys(entry["key"] for entry in journal):
        steps = [entry for entry in journal if entry["key"] == key_id]
        key = keys.rows.peek(key_id)
        assert key is not None
        last = [STATE_AFTER[entry["step"]] for entry in steps if entry["step"] in STATE_AFTER][-1]
        assert key.state in NEXT_STATES[last]
        names = [entry["step"] for entry in steps]
        if key.state is KeyState.DESTROYED:
            assert "due" in names
            continue
        if "rotated" in names:
            assert key.version == 2
        policies = {False: {keys.policies.initial(ACCOUNT), other_policy(keys)}, True: {other_policy(keys)}}
        if key.manager is KeyManager.CUSTOMER:
            assert key.policy in policies["policy" in names]
        grants = [grant.grant_id for grant in keys.grants.of_key(key_id)]
        if "revoked" in names:
            assert grants == []


def check_ciphertexts(keys: KeyService, journal: list[dict[str, str]]) -> None:
    for entry in journal:
        if entry["step"] != "encrypted":
            continue
        key = keys.rows.peek(entry["key"])
        assert key is not None
        blob, context = base64.b64decode(entry["blob"]), {"for": entry["key"]}
        if key.state is KeyState.DESTROYED:
            assert key.master_name not in keys.store.names()
            with pytest.raises(KeyRefused):
                keys.ciphers.decrypt(blob, context)
            continue
        if key.state is KeyState.PENDING_DELETION:
            keys.lifecycle.cancel_deletion(key.key_id)
        keys.lifecycle.enable(key.key_id)
        assert keys.ciphers.decrypt(blob, context).plaintext == Secret(entry["text"])
        assert keys.lifecycle.rotate(key.key_id).version == key.version + 1
        assert keys.ciphers.decrypt(blob, context).plaintext == Secret(entry["text"])


def test_the_child_passes_these_points_and_nothing_is_amiss_without_a_crash(tmp_path: Path) -> None:
    done = run_child(tmp_path, f"count:{tmp_path / 'points'}")
    assert done.returncode == 0, done.stderr.decode()
    assert [name for name in (tmp_path / "points").read_text().split() if name.startswith("kms.")] == list(PASSED)
    keys, _ = reopened(tmp_path)
    check_whole(keys)
    check_promises(keys, journal_of(tmp_path))
    check_ciphertexts(keys, journal_of(tmp_path))
    assert journal_of(tmp_path)[-1]["step"] == "erased"


@pytest.mark.parametrize(
    "nth",
    [pytest.param(nth, id=f"{nth}-{name}") for nth, name in enumerate(PASSED, 1) if nth not in THE_SAME_AGAIN],
)
def test_killed_at_any_point_the_keys_are_whole_when_reopened(tmp_path: Path, nth: int) -> None:
    name = PASSED[nth - 1]
    died = run_child(tmp_path, f"kill:{name}:{PASSED[:nth].count(name)}")
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    keys, clock = reopened(tmp_path)
    journal = journal_of(tmp_path)
    check_whole(keys)
    check_promises(keys, journal)
    if any(entry["step"] == "due" for entry in journal):
        clock.set(START + timedelta(days=7))
        keys.reap(clock.now())
        check_whole(keys)
        assert keys.rows.peek(journal[-1]["key"]).state is KeyState.DESTROYED
    check_ciphertexts(keys, journal)
    check_whole(keys)
    keys.default_key(ACCOUNT)
    assert [alias.name for alias in keys.rows.aliases(ACCOUNT)] == [DEFAULT_ALIAS]


@pytest.mark.parametrize("name", ["kms.create.stored", "kms.rotate.stored", "kms.delete.destroyed"])
def test_a_full_disk_in_the_middle_is_an_error_and_is_made_good_later(tmp_path: Path, name: str) -> None:
    failed = run_child(tmp_path, f"enospc:{name}")
    assert failed.returncode == 1
    assert b"No space left" in failed.stderr
    keys, _ = reopened(tmp_path)
    check_whole(keys)
    check_promises(keys, journal_of(tmp_path))
    check_ciphertexts(keys, journal_of(tmp_path))
