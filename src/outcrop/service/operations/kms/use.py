"""KMS's cryptographic operations.

A ``DryRun`` asks for everything but the act: permission, the key's state and its kind. Not covered: asymmetric keys,
key pairs, and recipients in an enclave (``Recipient``), which are refused.
"""

from __future__ import annotations

import secrets
from typing import Final

from outcrop.service.operations.kms.asked import Asked
from outcrop.service.wire.generated import kms as shapes
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys import Key, KeyRefused, KeyUsage, material_id
from outcrop.trust.keys.grants import check_tokens
from outcrop.trust.keys.refusals import foreign_key, invalid, unsupported

ALGORITHM: Final = "SYMMETRIC_DEFAULT"
_SPEC_BYTES = {"AES_256": 32, "AES_128": 16}


def encrypt(asked: Asked, request: shapes.EncryptRequest) -> shapes.EncryptResponse:
    context = request.encryption_context or {}
    _require_algorithm(request.encryption_algorithm)
    key = asked.key(request.key_id, alias=True, tokens=request.grant_tokens)
    _ready(asked, key, request.dry_run)
    blob = asked.keys.ciphers.encrypt(key.key_id, Secret(request.plaintext), context)
    return shapes.EncryptResponse(ciphertext_blob=blob, key_id=str(key.arn), encryption_algorithm=ALGORITHM)


def decrypt(asked: Asked, request: shapes.DecryptRequest) -> shapes.DecryptResponse:
    _refuse_recipient(request.recipient)
    if request.dry_run_modifiers:
        raise unsupported("DryRunModifiers are not supported.", "Give the ciphertext.")
    context = request.encryption_context or {}
    _require_algorithm(request.encryption_algorithm)
    blob = _given(request.ciphertext_blob)
    key = _source(asked, blob, request.key_id, request.grant_tokens)
    _ready(asked, key, request.dry_run)
    opened = asked.keys.ciphers.decrypt(blob, context)
    return shapes.DecryptResponse(
        key_id=str(key.arn),
        plaintext=opened.plaintext.reveal(),
        encryption_algorithm=ALGORITHM,
        key_material_id=material_id(key.key_id, opened.version),
    )


def re_encrypt(asked: Asked, request: shapes.ReEncryptRequest) -> shapes.ReEncryptResponse:
    if request.dry_run_modifiers:
        raise unsupported("DryRunModifiers are not supported.", "Give the ciphertext.")
    ciphers = asked.keys.ciphers
    before, after = request.source_encryption_context or {}, request.destination_encryption_context or {}
    _require_algorithm(request.source_encryption_algorithm)
    _require_algorithm(request.destination_encryption_algorithm)
    blob = _given(request.ciphertext_blob)
    source = _source(asked, blob, request.source_key_id, request.grant_tokens)
    target = asked.key(request.destination_key_id, alias=True)
    ciphers.usable(source.key_id)
    _ready(asked, target, request.dry_run)
    opened = ciphers.decrypt(blob, before)
    fresh = ciphers.encrypt(target.key_id, opened.plaintext, after)
    return shapes.ReEncryptResponse(
        ciphertext_blob=fresh,
        source_key_id=str(source.arn),
        key_id=str(target.arn),
        source_encryption_algorithm=ALGORITHM,
        destination_encryption_algorithm=ALGORITHM,
        source_key_material_id=material_id(source.key_id, opened.version),
        destination_key_material_id=material_id(target.key_id, ciphers.version_of(fresh)),
    )


def generate_data_key(asked: Asked, request: shapes.GenerateDataKeyRequest) -> shapes.GenerateDataKeyResponse:
    _refuse_recipient(request.recipient)
    key, plaintext, blob = _data_key(asked, request)
    return shapes.GenerateDataKeyResponse(
        ciphertext_blob=blob,
        plaintext=plaintext.reveal(),
        key_id=str(key.arn),
        key_material_id=material_id(key.key_id, asked.keys.ciphers.version_of(blob)),
    )


def generate_data_key_without_plaintext(
    asked: Asked, request: shapes.GenerateDataKeyWithoutPlaintextRequest
) -> shapes.GenerateDataKeyWithoutPlaintextResponse:
    key, _, blob = _data_key(asked, request)
    return shapes.GenerateDataKeyWithoutPlaintextResponse(
        ciphertext_blob=blob,
        key_id=str(key.arn),
        key_material_id=material_id(key.key_id, asked.keys.ciphers.version_of(blob)),
    )


def generate_mac(asked: Asked, request: shapes.GenerateMacRequest) -> shapes.GenerateMacResponse:
    key = _mac_key(asked, request)
    mac = asked.keys.ciphers.mac(key.key_id, request.message)
    return shapes.GenerateMacResponse(mac=mac, mac_algorithm=request.mac_algorithm, key_id=str(key.arn))


def verify_mac(asked: Asked, request: shapes.VerifyMacRequest) -> shapes.VerifyMacResponse:
    key = _mac_key(asked, request)
    asked.keys.ciphers.verify_mac(key.key_id, request.message, request.mac)
    return shapes.VerifyMacResponse(key_id=str(key.arn), mac_valid=True, mac_algorithm=request.mac_algorithm)


def generate_random(asked: Asked, request: shapes.GenerateRandomRequest) -> shapes.GenerateRandomResponse:
    _refuse_recipient(request.recipient)
    if request.custom_key_store_id is not None:
        raise KeyRefused("CustomKeyStoreNotFoundException", "There are no custom key stores here.")
    if request.number_of_bytes is None:
        raise invalid("NumberOfBytes is required.")
    return shapes.GenerateRandomResponse(plaintext=secrets.token_bytes(request.number_of_bytes))


def _data_key(
    asked: Asked,
    request: shapes.GenerateDataKeyRequest | shapes.GenerateDataKeyWithoutPlaintextRequest,
) -> tuple[Key, Secret, bytes]:
    if (request.key_spec is None) == (request.number_of_bytes is None):
        raise invalid("Please specify either number of bytes or key spec.")
    context = request.encryption_context or {}
    key = asked.key(request.key_id, alias=True, tokens=request.grant_tokens)
    _ready(asked, key, request.dry_run)
    size_bytes = request.number_of_bytes or _SPEC_BYTES[str(request.key_spec)]
    return key, *asked.keys.ciphers.data_key(key.key_id, size_bytes, context)


def _source(asked: Asked, blob: bytes, named: str | None, tokens: list[str] | None) -> Key:
    """The key that a ciphertext names, which must be the one that the request names, if it names one."""
    wanted = None if named is None else asked.key(named, alias=True, tokens=tokens)
    check_tokens(tokens or ())
    key = asked.keys.ciphers.named_by(blob)
    if wanted is not None and wanted.key_id != key.key_id:
        if wanted.account != asked.account:
            raise foreign_key(str(named))  # as for one that is not there: whether it is must not show
        raise KeyRefused(
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.",
        )
    return key


def _mac_key(asked: Asked, request: shapes.GenerateMacRequest | shapes.VerifyMacRequest) -> Key:
    key = asked.key(request.key_id, alias=True, tokens=request.grant_tokens)
    if request.mac_algorithm != "HMAC_SHA_256":
        raise KeyRefused(
            "InvalidKeyUsageException", f"Algorithm {request.mac_algorithm} is incompatible with key spec {key.spec}."
        )
    _ready(asked, key, request.dry_run, KeyUsage.MAC)
    return key


def _ready(asked: Asked, key: Key, dry_run: bool | None, usage: KeyUsage = KeyUsage.ENCRYPT) -> None:
    asked.keys.ciphers.usable(key.key_id, usage)
    refuse_dry_run(dry_run)


def refuse_dry_run(dry_run: bool | None) -> None:
    """Stop where a request asked for everything but the act itself."""
    if dry_run:
        raise KeyRefused("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


def _require_algorithm(named: str | None) -> None:
    if named not in (None, ALGORITHM):
        raise KeyRefused("InvalidKeyUsageException", f"Algorithm {named} is incompatible with key spec {ALGORITHM}.")


def _given(ciphertext: bytes | None) -> bytes:
    if ciphertext is None:
        raise invalid("CiphertextBlob is required.")
    return ciphertext


def _refuse_recipient(recipient: shapes.RecipientInfo | None) -> None:
    if recipient is not None:
        raise unsupported("Recipients in an enclave are not supported.", "Leave Recipient out.")
