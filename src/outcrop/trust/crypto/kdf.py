"""Keys from keys (HKDF-SHA-256, RFC 5869) and keys from passphrases (scrypt, RFC 7914).

``derive`` separates uses: two purposes or two contexts give keys that say nothing of each other. A passphrase is
stretched with parameters that are stored beside what it protects, so that they can be raised later.

Not covered: a weak passphrase. scrypt makes each guess cost some 0.3 s and 128 MiB, which does not save a word from a
dictionary. scrypt is not an approved algorithm of FIPS 140-3: where that counts, use the PKCS#11 or transit key store.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from outcrop.base.errors import UserError, check
from outcrop.trust.crypto.secret import Secret

KEY_BYTES = 32
SALT_BYTES = 32

# OWASP's password storage cheat sheet (read 2026): N=2^17, r=8, p=1, which is 128 MiB and some 0.3 s of one core.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**17, 8, 1
SCRYPT_N_MIN = 2**14
SCRYPT_MEMORY_BYTES_MAX = 2**30  # 128·N·r; parameters come from a file that somebody may have changed


def encode_context(context: Mapping[str, str]) -> bytes:
    """The one byte string of a context: its pairs in the order of their keys, every length before its text.

    Two different contexts never have the same encoding, whatever characters they hold.
    """
    parts = [len(context).to_bytes(4, "big")]
    for key, value in sorted((key.encode(), value.encode()) for key, value in context.items()):
        parts += (len(key).to_bytes(4, "big"), key, len(value).to_bytes(4, "big"), value)
    return b"".join(parts)


def derive(
    key: bytes | Secret,
    purpose: str,
    context: Mapping[str, str] | None = None,
    *,
    salt: bytes = b"",
    size_bytes: int = KEY_BYTES,
) -> bytes:
    """A key for ``purpose`` in ``context`` from ``key`` (at least 16 bytes of entropy), by HKDF-SHA-256.

    ``salt`` is public; a random one makes the result new each time. ``size_bytes`` is at most 8160 (RFC 5869, 2.3).
    """
    material = key.reveal() if isinstance(key, Secret) else key
    check(len(material) >= 16, "a key to derive from has at least 128 bits")
    info = encode_context({"outcrop": purpose}) + encode_context(context or {})
    return HKDF(hashes.SHA256(), size_bytes, salt or None, info).derive(material)


@dataclass(frozen=True, slots=True)
class StretchParameters:
    """What scrypt needs beside the passphrase; public, and stored with what the result protects."""

    salt: bytes
    n: int = SCRYPT_N
    r: int = SCRYPT_R
    p: int = SCRYPT_P

    def __post_init__(self) -> None:
        memory_bytes = 128 * self.n * self.r
        sound = (
            self.n >= SCRYPT_N_MIN
            and self.n & (self.n - 1) == 0
            and self.r >= 1
            and 1 <= self.p <= 16
            and memory_bytes <= SCRYPT_MEMORY_BYTES_MAX
            and 8 <= len(self.salt) <= 64
        )
        if not sound:
            raise UserError(
                "The scrypt parameters are out of bounds.",
                f"N is a power of two from {SCRYPT_N_MIN}, p is 1 to 16, the salt 8 to 64 bytes, "
                f"and 128·N·r at most {SCRYPT_MEMORY_BYTES_MAX}.",
            )

    @classmethod
    def new(cls, n: int = SCRYPT_N) -> StretchParameters:
        """The recommended cost (or ``n``) with a salt of its own."""
        return cls(secrets.token_bytes(SALT_BYTES), n)


def stretch_passphrase(passphrase: Secret, parameters: StretchParameters) -> Secret:
    """A 32-byte key from ``passphrase`` by scrypt (RFC 7914); takes 128·N·r bytes of memory while it runs."""
    scrypt = Scrypt(parameters.salt, KEY_BYTES, parameters.n, parameters.r, parameters.p)
    return Secret(scrypt.derive(passphrase.reveal()))
