"""Small messages sealed with AES-256-GCM, each under a key of its own, bound to a context.

A sealed message is::

    1 byte   format version, 1
    32 bytes salt, random
    32 bytes key commitment
    n bytes  ciphertext, as long as the plaintext
    16 bytes GCM tag

HKDF-SHA-256 makes the message key and the commitment from the key and the salt, so GCM's limit on messages under one
key with random nonces (2^32, NIST SP 800-38D 8.3) does not apply: each message key seals once, with the nonce 0. Two
messages share a key only when two salts of 256 random bits are equal. The commitment is there because GCM alone lets
one ciphertext be made that opens under two keys (Albertini and others, "How to abuse and fix authenticated encryption
without key commitment", 2022). Version, salt, commitment and context are authenticated with the message.

Not covered: the length of the plaintext shows, equal messages are not recognisable but replays are not noticed, and
an older message opens as well as a newer one unless the context says which is meant.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outcrop.base.errors import Unsealable, UserError, check
from outcrop.trust.crypto.hashes import constant_time_equal
from outcrop.trust.crypto.kdf import KEY_BYTES, SALT_BYTES, derive, encode_context
from outcrop.trust.crypto.secret import Secret

VERSION = b"\x01"
COMMITMENT_BYTES = 32
TAG_BYTES = 16
OVERHEAD_BYTES = len(VERSION) + SALT_BYTES + COMMITMENT_BYTES + TAG_BYTES
MESSAGE_BYTES_MAX = 64 << 20  # what is larger belongs in a sealed object, which is read in chunks
_NONCE = bytes(12)
_PURPOSE = "message v1"


def seal(key: bytes | Secret, plaintext: bytes, context: Mapping[str, str]) -> bytes:
    """``plaintext`` sealed under the 32-byte ``key`` for ``context``; 81 bytes longer.

    The context is not stored: whoever unseals has to know it. Raises ``UserError`` for more than 64 MiB.
    """
    if len(plaintext) > MESSAGE_BYTES_MAX:
        raise UserError(
            f"A message of {len(plaintext)} bytes is too long to seal at once.",
            f"Seal at most {MESSAGE_BYTES_MAX} bytes, or write a sealed object.",
        )
    salt = secrets.token_bytes(SALT_BYTES)
    message_key, commitment = _keys(key, salt)
    head = VERSION + salt + commitment
    return head + AESGCM(message_key).encrypt(_NONCE, plaintext, head + encode_context(context))


def unseal(key: bytes | Secret, sealed: bytes, context: Mapping[str, str]) -> bytes:
    """What ``seal`` was given; ``Unsealable`` for any other key, any other context and any changed byte."""
    head_bytes = OVERHEAD_BYTES - TAG_BYTES
    if len(sealed) < OVERHEAD_BYTES or sealed[:1] != VERSION:
        raise Unsealable
    head, body = bytes(sealed[:head_bytes]), sealed[head_bytes:]
    message_key, commitment = _keys(key, head[1 : 1 + SALT_BYTES])
    if not constant_time_equal(commitment, head[1 + SALT_BYTES :]):
        raise Unsealable
    try:
        return AESGCM(message_key).decrypt(_NONCE, body, head + encode_context(context))
    except InvalidTag:
        raise Unsealable from None


def _keys(key: bytes | Secret, salt: bytes) -> tuple[bytes, bytes]:
    check(len(key) == KEY_BYTES, "a sealing key has 32 bytes")
    both = derive(key, _PURPOSE, salt=salt, size_bytes=KEY_BYTES + COMMITMENT_BYTES)
    return both[:KEY_BYTES], both[KEY_BYTES:]
