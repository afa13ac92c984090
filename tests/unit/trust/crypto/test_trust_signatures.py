"""Signatures, ids and the module they run in."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from outcrop.base.errors import InvariantError, UserError
from outcrop.trust.crypto import module as module_room
from outcrop.trust.crypto.module import loaded_module, require_fips
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.crypto.signatures import Algorithm, SigningKey, VerifyingKey
from outcrop.trust.crypto.tokens import (
    PREFIXES,
    random_access_key_id,
    random_service_credential_id,
    random_temporary_key_id,
    random_unique_id,
)

ALGORITHMS: tuple[Algorithm, ...] = ("rsa-2048", "ecdsa-p256", "ed25519")


@pytest.fixture(scope="module", params=ALGORITHMS)
def key(request: pytest.FixtureRequest) -> SigningKey:
    return SigningKey.generate(request.param)


def test_a_signature_holds_for_its_message_and_key_only(key: SigningKey):
    signature = key.sign(b"message")
    public = key.verifying_key
    assert public.verify(signature, b"message")
    assert not public.verify(signature, b"massage")
    assert not public.verify(signature, b"")
    assert not public.verify(b"", b"message")
    for place in range(len(signature)):
        changed = bytearray(signature)
        changed[place] ^= 1
        assert not public.verify(bytes(changed), b"message")
    assert not SigningKey.generate(key.algorithm).verifying_key.verify(signature, b"message")


def test_keys_are_written_and_read(key: SigningKey):
    again = SigningKey.from_pem(key.private_pem())
    assert again.algorithm == key.algorithm
    public = VerifyingKey.from_pem(key.verifying_key.public_pem())
    assert public == again.verifying_key == key.verifying_key
    assert public.verify(again.sign(b"x"), b"x")
    assert public.fingerprint() == key.verifying_key.fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", public.fingerprint())
    shown = repr(key) + str(key.private_pem()) + repr(public)
    assert "PRIVATE" not in shown


def test_openssl_agrees_on_rsa(tmp_path: Path):
    """What CloudTrail's validators do: SHA-256 with PKCS#1 v1.5."""
    key = SigningKey.generate("rsa-2048")
    (tmp_path / "key.pem").write_bytes(key.verifying_key.public_pem())
    (tmp_path / "signature").write_bytes(key.sign(b"message"))
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature"]
    said = subprocess.run(command, cwd=tmp_path, input=b"message", capture_output=True, check=False)
    assert b"Verified OK" in said.stdout
    said = subprocess.run(command, cwd=tmp_path, input=b"massage", capture_output=True, check=False)
    assert said.returncode != 0
    assert len(key.sign(b"message")) == 256


def test_rsa_keys_have_the_form_of_list_public_keys():
    key = SigningKey.generate("rsa-2048").verifying_key
    assert VerifyingKey.from_pkcs1_der(key.pkcs1_der()) == key
    with pytest.raises(InvariantError):
        SigningKey.generate("ed25519").verifying_key.pkcs1_der()
    with pytest.raises(UserError):
        VerifyingKey.from_pkcs1_der(b"no key")


def test_other_keys_are_refused():
    pem, format_, none = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for other in (
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP384R1()),
        ed448.Ed448PrivateKey.generate(),
    ):
        with pytest.raises(UserError):
            SigningKey.from_pem(Secret(other.private_bytes(pem, format_, none)))
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        with pytest.raises(UserError):
            VerifyingKey.from_pem(other.public_key().public_bytes(pem, spki))
    with pytest.raises(UserError) as caught:
        SigningKey.from_pem(Secret("-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"))
    assert "canary" not in str(caught.value)
    with pytest.raises(UserError):
        VerifyingKey.from_pem(b"no key")
    with pytest.raises(InvariantError):
        SigningKey.generate("dsa")  # type: ignore[arg-type]


def test_ids_have_the_prefixes_of_iam():
    for kind, prefix in PREFIXES.items():
        assert re.fullmatch(f"{prefix}[A-Z2-7]{{17}}", random_unique_id(kind))
    assert PREFIXES["user"] == "AIDA"
    assert PREFIXES["role"] == "AROA"
    assert re.fullmatch("AKIA[A-Z2-7]{16}", random_access_key_id())
    assert re.fullmatch("ASIA[A-Z2-7]{16}", random_temporary_key_id())
    assert re.fullmatch("ACCA[A-Z2-7]{17}", random_service_credential_id())
    assert len({random_unique_id("role") for _ in range(1000)}) == 1000


def test_the_loaded_module_is_told_and_tested():
    module = loaded_module()
    assert module.failed_tests == ()
    assert "OpenSSL" in module.cryptography_openssl or "AWS-LC" in module.cryptography_openssl
    assert module.cryptography_version in str(module)
    assert module.python_openssl in str(module)


def test_a_wrong_answer_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module_room, "hmac_sha256_hex", lambda key, data: "00" * 32)
    module = loaded_module()
    assert module.failed_tests == ("HMAC-SHA-256",)
    assert "wrong answers: HMAC-SHA-256" in str(module)
    monkeypatch.setattr(module_room, "HKDF", None)
    assert loaded_module().failed_tests == ("HMAC-SHA-256", "HKDF-SHA-256")


@pytest.mark.parametrize(
    ("one", "other", "wrong", "accepted"),
    [
        (True, True, False, True),
        (True, False, False, False),
        (False, True, False, False),
        (False, False, False, False),
        (True, True, True, False),
    ],
)
def test_fips_is_required_of_both_copies_and_of_the_answers(
    monkeypatch: pytest.MonkeyPatch, one: bool, other: bool, wrong: bool, accepted: bool
):
    monkeypatch.setattr(module_room, "_cryptography_fips", lambda: one)
    monkeypatch.setattr(module_room, "_python_fips", lambda: other)
    if wrong:
        monkeypatch.setattr(module_room, "sha256_hex", lambda data: "")
    if accepted:
        assert require_fips().fips_active
    else:
        with pytest.raises(UserError, match="FIPS mode is required"):
            require_fips()
