"""Which cryptographic module is loaded, whether it runs in FIPS mode, and whether it gives the right answers.

Two copies of OpenSSL can be in one process: the one that ``cryptography`` brings in its wheel (or takes from the
system) and the one that Python's ``ssl`` and ``hashlib`` use. Both are told, since data is sealed with the first and
TLS is spoken with the second.

``fips_active`` means that OpenSSL's default properties ask for ``fips=yes``, in both copies. Not covered: that the
provider is a validated one, in the version and on the platform that its certificate names. That is for the operator to
look up under the version shown here; the wheels of ``cryptography`` from PyPI have no FIPS provider at all. scrypt and
Ed25519 are refused or outside the boundary in many FIPS modules; the passphrase key store needs scrypt.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import cryptography
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from outcrop.base.errors import UserError
from outcrop.trust.crypto.hashes import hmac_sha256_hex, sha256_hex
from outcrop.trust.crypto.signatures import SigningKey


@dataclass(frozen=True, slots=True)
class CryptographicModule:
    """What is loaded. ``failed_tests`` names the known-answer tests that failed just now."""

    cryptography_version: str
    cryptography_openssl: str
    python_openssl: str
    cryptography_fips: bool
    python_fips: bool
    failed_tests: tuple[str, ...]

    @property
    def fips_active(self) -> bool:
        return self.cryptography_fips and self.python_fips

    def __str__(self) -> str:
        fips = "FIPS mode on" if self.fips_active else "FIPS mode off"
        if self.cryptography_fips != self.python_fips:
            fips = f"FIPS mode on in {'cryptography' if self.cryptography_fips else 'Python'} only"
        answers = f"wrong answers: {', '.join(self.failed_tests)}" if self.failed_tests else "known answers right"
        return (
            f"{self.cryptography_openssl} in cryptography {self.cryptography_version}, "
            f"{self.python_openssl} in Python, {fips}, {answers}"
        )


def loaded_module() -> CryptographicModule:
    """Look at the loaded libraries and run the known-answer tests (about 1 ms)."""
    return CryptographicModule(
        cryptography_version=cryptography.__version__,
        cryptography_openssl=backend.openssl_version_text(),
        python_openssl=ssl.OPENSSL_VERSION,
        cryptography_fips=_cryptography_fips(),
        python_fips=_python_fips(),
        failed_tests=tuple(name for name, test in KNOWN_ANSWER_TESTS.items() if not _passes(test)),
    )


def require_fips() -> CryptographicModule:
    """The loaded module; ``UserError`` unless FIPS mode is active in both copies and every known answer is right."""
    module = loaded_module()
    if not module.fips_active or module.failed_tests:
        raise UserError(
            f"FIPS mode is required and cannot be relied upon: {module}.",
            "Run on a platform whose OpenSSL has a validated FIPS provider and is configured to use it, with "
            "cryptography built against that OpenSSL (pip install --no-binary cryptography cryptography).",
        )
    return module


def _sha256() -> bool:
    """FIPS 180-4, the example "abc", in both copies."""
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"abc")
    return sha256_hex(b"abc") == wanted and digest.finalize().hex() == wanted


def _hmac() -> bool:
    """RFC 4231, test case 2."""
    wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    return hmac_sha256_hex(b"Jefe", b"what do ya want for nothing?") == wanted


def _aes_gcm() -> bool:
    """McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16; a changed tag must be refused."""
    cipher = AESGCM(bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2))
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    associated = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    wanted = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
    )
    if cipher.encrypt(nonce, plaintext, associated) != wanted or cipher.decrypt(nonce, wanted, associated) != plaintext:
        return False
    try:
        cipher.decrypt(nonce, wanted[:-1] + bytes((wanted[-1] ^ 1,)), associated)
    except InvalidTag:
        return True
    return False


def _hkdf() -> bool:
    """RFC 5869, test case 1."""
    wanted = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    salt, info = bytes(range(13)), bytes(range(0xF0, 0xFA))
    return HKDF(hashes.SHA256(), 42, salt, info).derive(b"\x0b" * 22).hex() == wanted


def _ecdsa() -> bool:
    """A signature of a fresh P-256 key holds for its message and not for another (a pairwise test, no vector)."""
    key = SigningKey.generate("ecdsa-p256")
    signature = key.sign(b"message")
    return key.verifying_key.verify(signature, b"message") and not key.verifying_key.verify(signature, b"massage")


KNOWN_ANSWER_TESTS: dict[str, Callable[[], bool]] = {
    "SHA-256": _sha256,
    "HMAC-SHA-256": _hmac,
    "AES-256-GCM": _aes_gcm,
    "HKDF-SHA-256": _hkdf,
    "ECDSA P-256": _ecdsa,
}


def _passes(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except Exception:  # noqa: BLE001 - whatever a broken module raises, the test has failed
        return False


def _cryptography_fips() -> bool:
    # Neither library has a public call for this; where the private one is gone, the answer is no.
    return getattr(backend, "_fips_enabled", False) is True


def _python_fips() -> bool:
    get_mode = getattr(getattr(hashlib, "_hashlib", None), "get_fips_mode", None)
    return get_mode is not None and get_mode() == 1
