"""Signatures: RSA-2048 with PKCS#1 v1.5 and SHA-256, ECDSA on P-256 with SHA-256, and Ed25519.

RSA is what CloudTrail's digest files are signed with (CloudTrail user guide, "CloudTrail digest file structure":
SHA256withRSA); the others sign our own log heads and evidence. Ed25519 is deterministic and smallest; P-256 is the one
to take where a FIPS 140 module of the older kind must do it.

Not covered: post-quantum signatures; hardware-held signing keys; revocation. ECDSA signatures are not unique: the same
message may have several valid ones, so a signature is no identifier.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from outcrop.base.errors import UserError, check
from outcrop.trust.crypto.hashes import sha256_hex
from outcrop.trust.crypto.secret import Secret

Algorithm: TypeAlias = Literal["rsa-2048", "ecdsa-p256", "ed25519"]
RSA_BITS = 2048
_PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class VerifyingKey:
    """The public half of a signing key."""

    def __init__(self, key: _PublicKey) -> None:
        self._key = key
        self.algorithm: Algorithm = _algorithm_of(key)

    @classmethod
    def from_pem(cls, pem: bytes) -> VerifyingKey:
        """Read a SubjectPublicKeyInfo in PEM; ``UserError`` for what is none, or of another algorithm or size."""
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise UserError("This is not a public key in PEM.", "Export it with its public_pem.") from None
        return cls(_supported_public(key))

    @classmethod
    def from_pkcs1_der(cls, der: bytes) -> VerifyingKey:
        """Read an RSA key as CloudTrail's ListPublicKeys hands it out (PKCS#1, DER); ``UserError``."""
        try:
            key = serialization.load_der_public_key(der)
        except (ValueError, UnsupportedAlgorithm):
            raise UserError("This is not an RSA public key in PKCS#1.") from None
        return cls(_supported_public(key))

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is this key's over ``message``."""
        key = self._key
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            else:
                key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def public_pem(self) -> bytes:
        """SubjectPublicKeyInfo in PEM."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def pkcs1_der(self) -> bytes:
        """An RSA key as CloudTrail's ListPublicKeys hands it out."""
        check(isinstance(self._key, rsa.RSAPublicKey), "PKCS#1 is a form of RSA keys")
        return self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)

    def fingerprint(self) -> str:
        """SHA-256 of the key's SubjectPublicKeyInfo (DER), 64 hexadecimal digits."""
        return sha256_hex(
            self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        return f"VerifyingKey({self.algorithm}, {self.fingerprint()[:16]})"


class SigningKey:
    """A private key. It does not show itself; ``private_pem`` hands it out as a ``Secret``, to be sealed."""

    def __init__(self, key: _PrivateKey) -> None:
        self._key = key
        self.verifying_key = VerifyingKey(key.public_key())

    @classmethod
    def generate(cls, algorithm: Algorithm) -> SigningKey:
        """A fresh key."""
        check(algorithm in get_args(Algorithm), "the signature algorithm is one of the three")
        if algorithm == "rsa-2048":
            return cls(rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS))
        if algorithm == "ecdsa-p256":
            return cls(ec.generate_private_key(ec.SECP256R1()))
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: Secret) -> SigningKey:
        """Read what ``private_pem`` wrote; ``UserError`` for anything else. The key's text is in no message."""
        try:
            key = serialization.load_pem_private_key(pem.reveal(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise UserError("This is not a private key in PEM.", "Restore it from a copy.") from None
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            raise UserError("This private key is of an algorithm that is not used here.")
        return cls(key)

    @property
    def algorithm(self) -> Algorithm:
        return self.verifying_key.algorithm

    def sign(self, message: bytes) -> bytes:
        """The signature over ``message``: 256 bytes (RSA), DER (ECDSA) or 64 bytes (Ed25519)."""
        key = self._key
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(message, ec.ECDSA(hashes.SHA256()))
        return key.sign(message)

    def private_pem(self) -> Secret:
        """PKCS#8 in PEM, not encrypted: seal it before it is stored."""
        return Secret(
            self._key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm}, {self.verifying_key.fingerprint()[:16]})"


def _supported_public(key: object) -> _PublicKey:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise UserError("This public key is of an algorithm that is not used here.")
    return key


def _algorithm_of(key: _PublicKey) -> Algorithm:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size == RSA_BITS:
        return "rsa-2048"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ecdsa-p256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    raise UserError("This key is of a size or curve that is not used here.", "Use RSA-2048, P-256 or Ed25519.")
