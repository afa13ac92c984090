"""The vault: what a tenant owns opens as what it is, under a key that may be used, and not otherwise."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from keys_rig import ACCOUNT, OTHER, Rig

from outcrop.base.errors import NotFound, Unsealable
from outcrop.trust.crypto.keystores.cache import TTL_S_MAX
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys import DEFAULT_ALIAS, KeyRefused, KeyService, Vault

ARN = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:imported-model/a"
TEXT = b"canary " * 30_000  # four chunks


def refused(code: str) -> object:
    return pytest.raises(KeyRefused, check=lambda error: error.code == code)


def vault_of(keys: KeyService, rig: Rig) -> Vault:
    return Vault(keys, rig.clock)


def test_objects_open_as_what_they_were_written_as_and_only_so(rig: Rig, tmp_path: Path) -> None:
    vault, path = vault_of(rig.keys, rig), tmp_path / "object"
    vault.seal_object(path, TEXT, ARN, ACCOUNT, "1")
    assert b"canary" not in path.read_bytes()
    with vault.open_object(path, ARN, ACCOUNT, "1") as reader:
        assert reader.size == len(TEXT)
        assert reader.read(7 * 10_000, 6) == b"canary"
        assert b"".join(reader.chunks()) == TEXT
    for arn, account, version in ((ARN + "b", ACCOUNT, "1"), (ARN, OTHER, "1"), (ARN, ACCOUNT, "2")):
        with pytest.raises(Unsealable):
            vault.open_object(path, arn, account, version)
    with pytest.raises(NotFound):
        vault.open_object(tmp_path / "none", ARN, ACCOUNT, "1")


def test_streams_and_bytes_give_the_same_plaintext_and_never_the_same_file(rig: Rig, tmp_path: Path) -> None:
    vault = vault_of(rig.keys, rig)
    vault.seal_object(tmp_path / "a", TEXT, ARN, ACCOUNT, "1")
    vault.seal_object(tmp_path / "b", io.BytesIO(TEXT), ARN, ACCOUNT, "1")
    plain = [b"".join(vault.open_object(tmp_path / name, ARN, ACCOUNT, "1").chunks()) for name in "ab"]
    assert plain == [TEXT, TEXT]
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_another_tenants_file_does_not_open_in_ones_own_place(rig: Rig, tmp_path: Path) -> None:
    vault, mine, theirs = vault_of(rig.keys, rig), tmp_path / "mine", tmp_path / "theirs"
    vault.seal_object(mine, b"mine", ARN, ACCOUNT, "1")
    vault.seal_object(theirs, b"theirs", ARN, OTHER, "1")
    shutil.copy(theirs, mine)
    with pytest.raises(Unsealable):
        vault.open_object(mine, ARN, ACCOUNT, "1")


def test_a_disabled_key_closes_open_readers_and_other_processes_at_once(rig: Rig, tmp_path: Path) -> None:
    vault, path, key = vault_of(rig.keys, rig), tmp_path / "object", rig.key()
    there = vault_of(rig.another_process(), rig)
    vault.seal_object(path, TEXT, ARN, ACCOUNT, "1", key_id=key.key_id)
    reader, far = vault.open_object(path, ARN, ACCOUNT, "1"), there.open_object(path, ARN, ACCOUNT, "1")
    assert reader.key_name == key.master_name
    rest = reader.chunks()
    next(rest)
    assert (vault.cached_keys, there.cached_keys) == (1, 1)
    rig.keys.lifecycle.disable(key.key_id)
    assert vault.cached_keys == 0
    for use in (
        lambda: reader.read(0, 1),
        lambda: reader.readinto(0, bytearray(1)),
        reader.verify,
        lambda: next(rest),
        lambda: far.read(0, 1),
        lambda: vault.open_object(path, ARN, ACCOUNT, "1"),
        lambda: there.open_object(path, ARN, ACCOUNT, "1"),
        lambda: vault.seal_object(path, b"new", ARN, ACCOUNT, "2", key_id=key.key_id),
    ):
        with refused("DisabledException"):
            use()
    assert there.cached_keys == 0
    rig.keys.lifecycle.enable(key.key_id)
    assert reader.read(0, 6) == far.read(0, 6) == b"canary"
    assert b"".join(vault.open_object(path, ARN, ACCOUNT, "1").chunks()) == TEXT


def test_other_keys_are_not_closed_with_it(rig: Rig, tmp_path: Path) -> None:
    vault, key = vault_of(rig.keys, rig), rig.key()
    vault.seal_object(tmp_path / "a", b"a", ARN, ACCOUNT, "1", key_id=key.key_id)
    vault.seal_object(tmp_path / "b", b"b", ARN, ACCOUNT, "1")
    rig.keys.lifecycle.disable(key.key_id)
    assert vault.open_object(tmp_path / "b", ARN, ACCOUNT, "1").read(0, 1) == b"b"


def test_a_destroyed_key_is_the_end_of_what_it_sealed_and_of_every_copy(rig: Rig, tmp_path: Path) -> None:
    vault, key = vault_of(rig.keys, rig), rig.key()
    for name in ("object", "other"):
        vault.seal_object(tmp_path / name, TEXT, ARN, ACCOUNT, "1", key_id=key.key_id)
    shutil.copy(tmp_path / "object", tmp_path / "copy")
    assert vault.open_object(tmp_path / "copy", ARN, ACCOUNT, "1").read(0, 6) == b"canary"
    rig.keys.lifecycle.schedule_deletion(key.key_id, 7)
    with refused("KMSInvalidStateException"):
        vault.open_object(tmp_path / "copy", ARN, ACCOUNT, "1")
    rig.wait(days=7)
    rig.keys.reap(rig.clock.now())
    fresh = vault_of(rig.another_process(), rig)
    for each in (vault, fresh):
        for name in ("object", "other", "copy"):
            with refused("NotFoundException"):
                each.open_object(tmp_path / name, ARN, ACCOUNT, "1")
    # Even with the state lifted by hand the key store has nothing to open it with.
    assert key.master_name not in rig.store.names()


def test_old_objects_open_after_a_rotation(rig: Rig, tmp_path: Path) -> None:
    vault, key = vault_of(rig.keys, rig), rig.key()
    vault.seal_object(tmp_path / "old", b"old", ARN, ACCOUNT, "1", key_id=key.key_id)
    rig.keys.lifecycle.rotate(key.key_id)
    vault.seal_object(tmp_path / "new", b"new", ARN, ACCOUNT, "2", key_id=key.key_id)
    assert vault.open_object(tmp_path / "old", ARN, ACCOUNT, "1").read(0, 9) == b"old"
    assert vault.open_object(tmp_path / "new", ARN, ACCOUNT, "2").read(0, 9) == b"new"


def test_a_foreign_or_missing_key_seals_nothing(rig: Rig, tmp_path: Path) -> None:
    vault, foreign = vault_of(rig.keys, rig), rig.key(OTHER)
    with refused("AccessDeniedException"):
        vault.seal_object(tmp_path / "x", b"x", ARN, ACCOUNT, "1", key_id=str(foreign.arn))
    with refused("NotFoundException"):
        vault.seal_object(tmp_path / "x", b"x", ARN, ACCOUNT, "1", key_id="alias/none")
    assert not (tmp_path / "x").exists()
    assert rig.keys.rows.aliases(ACCOUNT) == []
    vault.seal_object(tmp_path / "x", b"x", ARN, ACCOUNT, "1")
    assert [alias.name for alias in rig.keys.rows.aliases(ACCOUNT)] == [DEFAULT_ALIAS]


def test_unwrapped_keys_are_used_a_counted_number_of_times_and_not_long(rig: Rig, tmp_path: Path) -> None:
    asked = 0
    honest = rig.store.unwrap

    def counted(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        return honest(*arguments)

    rig.store.unwrap = counted
    vault = Vault(rig.keys, rig.clock, uses_max=3)
    vault.seal_object(tmp_path / "x", b"x", ARN, ACCOUNT, "1")

    def read(times: int) -> int:
        nonlocal asked
        asked = 0
        for _ in range(times):
            vault.open_object(tmp_path / "x", ARN, ACCOUNT, "1").close()
        return asked

    assert read(3) == 1
    assert read(3) == 1
    assert read(2) == 1
    rig.clock._elapsed_s += TTL_S_MAX  # monotonic time, which `set` leaves alone
    assert read(1) == 1


def test_a_vaults_data_key_is_no_ciphertext_of_the_kms_api(rig: Rig, tmp_path: Path) -> None:
    key = rig.key()
    context = {"arn": ARN, "account": ACCOUNT, "version": "1"}
    wrapped = rig.store.generate_data_key(key.master_name, context).wrapped
    ciphers = rig.keys.ciphers
    head = ciphers.encrypt(key.key_id, Secret("x"), {})
    for given in (context, {}):
        with refused("InvalidCiphertextException"):
            ciphers.decrypt(head[:17] + wrapped, given)
