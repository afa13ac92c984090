"""Encryption, data keys and message authentication under KMS keys. Each call looks at the key's state first.

A ciphertext is::

    1 byte   format version, 1
    16 bytes key id
    n bytes  what the key store wrapped: it names the backing key's version and is authenticated with the context

The wrapping is bound to the key (by its name in the store) and to a digest of the encryption context, under a purpose
of its own: a data key that the vault wrapped for an object is no ciphertext here, whatever context is given with it.

Not covered: who may use the key, which the service decides before; asymmetric keys and pairs of them; and a ciphertext
of the real KMS, which only the real KMS can open.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from outcrop.base.errors import KeyRefused, KeyStoreUnavailable, NotFound, Unsealable
from outcrop.trust.crypto import constant_time_equal, hmac_sha256, sha256_hex
from outcrop.trust.crypto.kdf import encode_context
from outcrop.trust.crypto.keystores import KeyStore
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys.records import Context, Key, KeyUsage
from outcrop.trust.keys.refusals import ciphertext_of_nobody, invalid, invalid_ciphertext
from outcrop.trust.keys.rows import KeyRows
from outcrop.trust.keys.states import GONE, KeyState, unusable
from outcrop.trust.keys.unfinished import HMAC_CONTEXT

PLAINTEXT_BYTES_MAX = 4096  # KMS API reference, Encrypt
DATA_KEY_BYTES_MAX = 1024  # GenerateDataKey
CONTEXT_BYTES_MAX = 8192  # KMS quotas: encryption context
MAC_MESSAGE_BYTES_MAX = 4096  # GenerateMac

_VERSION = b"\x01"
_HEAD_BYTES = len(_VERSION) + 16


@dataclass(frozen=True, slots=True)
class Opened:
    """What a ciphertext held, and what it was under. Its ``repr`` does not show the plaintext."""

    key: Key
    plaintext: Secret
    version: int


class Ciphers:
    """The cryptographic operations of one key service."""

    def __init__(self, rows: KeyRows, store: KeyStore) -> None:
        self._rows = rows
        self._store = store

    def usable(self, key_id: str, usage: KeyUsage = KeyUsage.ENCRYPT) -> Key:
        """The key, if it may be used now and for this; as any process last left it."""
        key = self._rows.peek(key_id)
        if key is None or key.state in GONE:
            raise KeyRefused("NotFoundException", f"Key '{key_id}' does not exist")
        if key.state is not KeyState.ENABLED:
            raise unusable(str(key.arn), key.state)
        if key.usage is not usage:
            raise KeyRefused(
                "InvalidKeyUsageException", f"{key.arn} key usage is {key.usage} which is not valid for this operation."
            )
        return key

    def encrypt(self, key_id: str, plaintext: Secret, context: Context) -> bytes:
        """``plaintext`` (1 to 4096 bytes) under the key's current version."""
        key = self.usable(key_id)
        if not 1 <= len(plaintext) <= PLAINTEXT_BYTES_MAX:
            raise invalid(f"A plaintext has 1 to {PLAINTEXT_BYTES_MAX} bytes, not {len(plaintext)}.")
        with told(key):
            wrapped = self._store.wrap(key.master_name, plaintext, _bound(context))
        return _VERSION + uuid.UUID(key.key_id).bytes + wrapped

    def data_key(self, key_id: str, size_bytes: int, context: Context) -> tuple[Secret, bytes]:
        """A fresh random key of ``size_bytes`` (1 to 1024), and the same encrypted."""
        if not 1 <= size_bytes <= DATA_KEY_BYTES_MAX:
            raise invalid(f"A data key has 1 to {DATA_KEY_BYTES_MAX} bytes, not {size_bytes}.")
        plaintext = Secret(secrets.token_bytes(size_bytes))
        return plaintext, self.encrypt(key_id, plaintext, context)

    def named_by(self, ciphertext: bytes) -> Key:
        """The key that a ciphertext names, unverified: to be asked for permission before anything is opened."""
        if len(ciphertext) <= _HEAD_BYTES or ciphertext[:1] != _VERSION:
            raise invalid_ciphertext()
        key = self._rows.peek(str(uuid.UUID(bytes=ciphertext[1:_HEAD_BYTES])))
        if key is None or key.state in GONE:
            raise ciphertext_of_nobody()
        return key

    def decrypt(self, ciphertext: bytes, context: Context) -> Opened:
        """What was encrypted, if key, context and every byte are as they were."""
        key = self.usable(self.named_by(ciphertext).key_id)
        wrapped = ciphertext[_HEAD_BYTES:]
        try:
            with told(key):
                plaintext = self._store.unwrap(key.master_name, wrapped, _bound(context))
                return Opened(key, plaintext, self._store.wrapping_version(wrapped))
        except Unsealable:
            raise invalid_ciphertext() from None

    def version_of(self, ciphertext: bytes) -> int:
        """The version of the key that a ciphertext names, unverified."""
        try:
            return self._store.wrapping_version(ciphertext[_HEAD_BYTES:])
        except Unsealable:
            raise invalid_ciphertext() from None

    def mac(self, key_id: str, message: bytes) -> bytes:
        """HMAC-SHA-256 of ``message`` (1 to 4096 bytes) under an HMAC key."""
        if not 1 <= len(message) <= MAC_MESSAGE_BYTES_MAX:
            raise invalid(f"A message has 1 to {MAC_MESSAGE_BYTES_MAX} bytes, not {len(message)}.")
        key = self.usable(key_id, KeyUsage.MAC)
        with told(key):
            material = self._store.unwrap(key.master_name, key.material or b"", HMAC_CONTEXT)
        return hmac_sha256(material.reveal(), message)

    def verify_mac(self, key_id: str, message: bytes, mac: bytes) -> None:
        """Raise ``KMSInvalidMacException`` unless ``mac`` is this message's."""
        if not constant_time_equal(self.mac(key_id, message), mac):
            raise KeyRefused("KMSInvalidMacException", "The HMAC does not match the message under this key.")


def _bound(context: Context) -> dict[str, str]:
    encoded = encode_context(context)
    if len(encoded) > CONTEXT_BYTES_MAX:
        raise invalid(f"An encryption context has at most {CONTEXT_BYTES_MAX} bytes.")
    return {"kms": "ciphertext", "encryption context": sha256_hex(encoded)}


@contextmanager
def told(key: Key) -> Iterator[None]:
    """Tell the refusals of the key store in the words of the KMS API; ``Unsealable`` stays what it is."""
    try:
        yield
    except (NotFound, KeyStoreUnavailable) as error:
        raise KeyRefused(
            "KeyUnavailableException", f"{key.arn} is unavailable: its key store cannot use it.", "Try again."
        ) from error
