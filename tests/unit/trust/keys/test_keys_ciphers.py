"""Ciphertexts of KMS keys: what opens, and what does not."""

from __future__ import annotations

import pytest
from keys_rig import Rig

from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys import KeyRefused

CONTEXT = {"department": "finance", "purpose": "test"}


def refused(code: str) -> object:
    return pytest.raises(KeyRefused, check=lambda error: error.code == code)


def test_what_is_encrypted_decrypts_with_its_context_only(rig: Rig) -> None:
    key = rig.key()
    blob = rig.keys.ciphers.encrypt(key.key_id, Secret("secret"), CONTEXT)
    assert rig.keys.ciphers.decrypt(blob, dict(reversed(CONTEXT.items()))).plaintext == Secret("secret")
    assert b"secret" not in blob
    wrong = ({}, {"department": "finance"}, {**CONTEXT, "more": ""}, {**CONTEXT, "purpose": "Test"})
    for context in wrong:
        with refused("InvalidCiphertextException"):
            rig.keys.ciphers.decrypt(blob, context)


def test_equal_plaintexts_give_different_ciphertexts(rig: Rig) -> None:
    key = rig.key()
    blobs = {rig.keys.ciphers.encrypt(key.key_id, Secret("x"), {}) for _ in range(20)}
    assert len(blobs) == 20


def test_no_changed_byte_and_no_cut_opens(rig: Rig) -> None:
    key = rig.key()
    blob = rig.keys.ciphers.encrypt(key.key_id, Secret("x" * 8), CONTEXT)
    for place in range(len(blob)):
        changed = bytearray(blob)
        changed[place] ^= 1
        with pytest.raises(KeyRefused):
            rig.keys.ciphers.decrypt(bytes(changed), CONTEXT)
    for length in range(len(blob)):
        with pytest.raises(KeyRefused):
            rig.keys.ciphers.decrypt(blob[:length], CONTEXT)
    with pytest.raises(KeyRefused):
        rig.keys.ciphers.decrypt(blob + b"\0", CONTEXT)
    assert rig.keys.ciphers.decrypt(blob, CONTEXT).plaintext == Secret("x" * 8)


def test_a_ciphertext_does_not_open_under_another_keys_name(rig: Rig) -> None:
    mine, other = rig.key(), rig.key()
    ours = rig.keys.ciphers.encrypt(mine.key_id, Secret("x"), {})
    theirs = rig.keys.ciphers.encrypt(other.key_id, Secret("y"), {})
    with refused("InvalidCiphertextException"):
        rig.keys.ciphers.decrypt(theirs[:17] + ours[17:], {})
    assert rig.keys.ciphers.named_by(ours) == mine


def test_bounds(rig: Rig) -> None:
    key = rig.key()
    blob = rig.keys.ciphers.encrypt(key.key_id, Secret(b"x" * 4096), {"k": "v" * 7000})
    assert len(blob) <= 6144  # what Decrypt takes
    for plaintext in (b"", b"x" * 4097):
        with refused("ValidationException"):
            rig.keys.ciphers.encrypt(key.key_id, Secret(plaintext), {})
    for size in (0, 1025):
        with refused("ValidationException"):
            rig.keys.ciphers.data_key(key.key_id, size, {})
    with refused("ValidationException"):
        rig.keys.ciphers.encrypt(key.key_id, Secret("x"), {"k": "v" * 8200})


def test_a_data_key_comes_back_from_its_ciphertext(rig: Rig) -> None:
    key = rig.key()
    plaintext, blob = rig.keys.ciphers.data_key(key.key_id, 32, CONTEXT)
    assert len(plaintext) == 32
    assert rig.keys.ciphers.decrypt(blob, CONTEXT).plaintext == plaintext
    assert rig.keys.ciphers.data_key(key.key_id, 32, CONTEXT)[0] != plaintext


def test_a_key_that_its_store_lost_is_unavailable_and_not_invalid(rig: Rig) -> None:
    key = rig.key()
    blob = rig.keys.ciphers.encrypt(key.key_id, Secret("x"), {})
    rig.store.destroy(key.master_name)
    with refused("KeyUnavailableException"):
        rig.keys.ciphers.decrypt(blob, {})


def test_nothing_shows_a_plaintext(rig: Rig) -> None:
    key = rig.key()
    opened = rig.keys.ciphers.decrypt(rig.keys.ciphers.encrypt(key.key_id, Secret("canary"), {}), {})
    assert "canary" not in repr(opened)
