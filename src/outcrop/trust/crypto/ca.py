"""A private certificate authority and one server certificate, made at first start and kept in a directory.

The CA is what clients are told to trust, so it stays the same for ten years; the server certificate lives 396 days
(browsers and Apple's TLS stack refuse more than 398) and is renewed at start in its last 30. The extensions are those
that RFC 5280 asks for, so that OpenSSL's strict mode, Python 3.13's default, Go and Node accept both.

Not covered: revocation (delete the directory and trust the new CA), a passphrase on the CA's key (its file mode is
all that protects it: whoever reads it can impersonate any host to a client that trusts this CA), renewal while running.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.errors import NotFound, UserError
from outcrop.base.files import make_private_directory, write_atomic

CA_LIFETIME = timedelta(days=3653)
SERVER_LIFETIME = timedelta(days=396)
RENEW_BEFORE_END = timedelta(days=30)
BACKDATED = timedelta(hours=24)  # clients' clocks may be behind ours
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_NO_USAGE = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The four files of a directory: what the server loads, and the authority that clients must trust."""

    certificate: Path
    key: Path
    ca_certificate: Path
    ca_key: Path

    @classmethod
    def of(cls, directory: Path) -> ServerTls:
        """The files' places in ``directory``, there or not."""
        return cls(directory / "server.pem", directory / "server.key", directory / "ca.pem", directory / "ca.key")


def ensure_tls(directory: Path, hosts: Sequence[str] = (), clock: Clock | None = None) -> ServerTls:
    """Make what ``directory`` lacks: the CA once, a server certificate whenever the one there will not do.

    It is good for ``LOOPBACK`` and ``hosts`` (DNS names or addresses). The caller keeps other processes out meanwhile.
    Raises ``UserError`` for a name that no certificate can carry and for a CA that is damaged or about to end.
    """
    files = ServerTls.of(directory)
    wanted = _general_names([*LOOPBACK, *hosts])
    now = (clock or SystemClock()).now()
    make_private_directory(directory)
    if not files.ca_certificate.exists():
        _make_ca(files, now)
    ca, ca_key = _load_ca(files, now)
    if not _server_certificate_serves(files, ca, wanted, now):
        _make_server_certificate(files, ca, ca_key, wanted, now)
    return files


def ca_fingerprint(files: ServerTls) -> str:
    """SHA-256 of the CA certificate as people compare it (``AB:CD:…``); ``NotFound`` when there is none yet."""
    if not files.ca_certificate.exists():
        raise NotFound(f"There is no {files.ca_certificate}.", "`outcrop up` makes the private CA at its first start.")
    certificate = _read_certificate(files.ca_certificate)
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _make_ca(files: ServerTls, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # A name of its own, so that two deployments' CAs in one trust store are told apart.
    name = _name(f"Outcrop private CA {identifier.digest.hex()[:8]}")
    usage = x509.KeyUsage(**{**_NO_USAGE, "key_cert_sign": True, "crl_sign": True})
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The key first: a certificate without its key would be trusted and of no use.
    write_atomic(files.ca_key, _key_pem(key), private=True)
    write_atomic(files.ca_certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _make_server_certificate(
    files: ServerTls,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    begin = now - BACKDATED
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("Outcrop server"))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(min(begin + SERVER_LIFETIME, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**_NO_USAGE, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    # A crash between the two leaves a pair that does not match, which the next start sees and replaces.
    write_atomic(files.key, _key_pem(key), private=True)
    write_atomic(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _server_certificate_serves(
    files: ServerTls, ca: x509.Certificate, wanted: list[x509.GeneralName], now: datetime
) -> bool:
    """Whether the pair there matches, comes from this CA, names all of ``wanted`` and lasts 30 days more."""
    try:
        certificate = _read_certificate(files.certificate)
        key = _read_key(files.key)
        certificate.verify_directly_issued_by(ca)
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, UserError, InvalidSignature, ValueError, x509.ExtensionNotFound):
        return False
    return (
        certificate.public_key() == key.public_key()
        and set(wanted) <= set(named)
        and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE_END
    )


def _load_ca(files: ServerTls, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    again = f"Restore {files.ca_key.parent} from a copy, or delete it: a new CA is made, which clients must trust anew."
    try:
        certificate, key = _read_certificate(files.ca_certificate), _read_key(files.ca_key)
    except FileNotFoundError as error:
        raise UserError(f"The private CA is incomplete: {error.filename} is missing.", again) from None
    if certificate.public_key() != key.public_key():
        raise UserError(f"{files.ca_key} is not the key of {files.ca_certificate}.", again)
    if now >= certificate.not_valid_after_utc - RENEW_BEFORE_END:
        raise UserError(f"The private CA ends on {certificate.not_valid_after_utc:%Y-%m-%d}.", again)
    return certificate, key


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not a certificate: {error}.", "Restore it from a copy.") from None


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a private key: {error}.", "Restore it from a copy.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{path} is not an elliptic-curve key.", "Restore it from a copy.")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Outcrop"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Each name once, as a certificate holds it; ``0.0.0.0`` and ``::`` name no host and are left out."""
    found: dict[x509.GeneralName, None] = {}
    for name in names:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            found[_dns_name(name)] = None
        else:
            if not address.is_unspecified:
                found[x509.IPAddress(address)] = None
    return list(found)


def _dns_name(name: str) -> x509.DNSName:
    labels = name.lower().removeprefix("*.").split(".")
    well_formed = all(
        label.isascii() and label.replace("-", "a").isalnum() and len(label) <= 63 and label.strip("-") == label
        for label in labels
    )
    if not well_formed or len(name) > 253:
        raise UserError(f"{name!r} is not a host name.", "Use a DNS name such as ai.example.org, or an IP address.")
    return x509.DNSName(name.lower())
