"""Several threads and processes at one key at once: made once, rotated whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from keys_rig import ACCOUNT, Rig

from outcrop.base.errors import KeyRefused
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys import KeyService


def test_the_default_key_is_made_once_however_many_ask_at_once(rig: Rig) -> None:
    services = [rig.keys, rig.another_process(), rig.another_process()]
    with ThreadPoolExecutor(12) as threads:
        ids = list(threads.map(lambda turn: services[turn % 3].default_key(ACCOUNT).key_id, range(12)))
    assert len(set(ids)) == 1
    assert [name for name in rig.store.names() if name.startswith("kms-")] == [f"kms-{ids[0]}"]


def test_rotations_at_once_are_done_one_after_the_other_or_refused(rig: Rig) -> None:
    key = rig.key()
    blob = rig.keys.ciphers.encrypt(key.key_id, Secret("x"), {})
    services = [rig.keys, rig.another_process()]

    def rotate(service: KeyService) -> str:
        try:
            service.lifecycle.rotate(key.key_id)
        except KeyRefused as refused:
            return refused.code
        return "rotated"

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda turn: rotate(services[turn % 2]), range(8)))
    assert set(answers) <= {"rotated", "ConflictException"}
    done = answers.count("rotated")
    assert done >= 1
    versions = [rotation.version for rotation in rig.keys.rows.rotations(key.key_id)]
    assert versions == list(range(1, done + 2)) == list(rig.store.describe(key.master_name).versions)
    assert rig.keys.ciphers.decrypt(blob, {}).plaintext == Secret("x")


def test_a_key_disabled_in_the_middle_is_used_before_or_refused_after(rig: Rig) -> None:
    key, there = rig.key(), rig.another_process()
    ended = False

    def use(_: int) -> str:
        was_ended = ended
        try:
            there.ciphers.encrypt(key.key_id, Secret("x"), {})
        except KeyRefused as refused:
            return refused.code
        return "late" if was_ended else "used"

    with ThreadPoolExecutor(4) as threads:
        uses = [threads.submit(use, turn) for turn in range(200)]
        rig.keys.lifecycle.disable(key.key_id)
        ended = True
        uses += [threads.submit(use, turn) for turn in range(50)]
    answers = [each.result() for each in uses]
    assert "late" not in answers
    assert set(answers) <= {"used", "DisabledException"}
    assert set(answers[200:]) == {"DisabledException"}
