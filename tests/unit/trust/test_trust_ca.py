"""The private CA: strict clients accept it, it stays, and its server certificate is renewed in time."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from outcrop.base.clock import FakeClock, SystemClock
from outcrop.base.errors import NotFound, UserError
from outcrop.trust.crypto.ca import ServerTls, ca_fingerprint, ensure_tls

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def make(directory: Path, *hosts: str, at: datetime = NOW) -> ServerTls:
    return ensure_tls(directory / "tls", hosts, FakeClock(at))


def server(files: ServerTls) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def handshake(files: ServerTls, name: str) -> None:
    """A TLS handshake in memory with a client as strict as Python 3.13's default."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.certificate, files.key)
    client_context = ssl.create_default_context(cafile=files.ca_certificate)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    listener = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = {client, listener}
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "ai.example.org", "10.1.2.3"])
def test_a_strict_client_accepts_every_name(tmp_path: Path, name: str) -> None:
    handshake(ensure_tls(tmp_path / "tls", ["ai.example.org", "10.1.2.3"], SystemClock()), name)


def test_a_client_refuses_a_name_that_was_not_asked_for(tmp_path: Path) -> None:
    files = ensure_tls(tmp_path / "tls")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, "example.org")


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    files = make(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in (files.key, files.ca_key)] == [0o600, 0o600]
    assert files.key.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in files.key.parent.iterdir()) == ["ca.key", "ca.pem", "server.key", "server.pem"]


def test_the_certificates_say_what_they_may_do(tmp_path: Path) -> None:
    files = make(tmp_path)
    ca = x509.load_pem_x509_certificate(files.ca_certificate.read_bytes())
    leaf = server(files)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert issuer == ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=397)
    assert leaf.not_valid_before_utc < NOW


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    files = make(tmp_path, "ai.example.org")
    before = {path: path.read_bytes() for path in files.key.parent.iterdir()}
    make(tmp_path, at=NOW + timedelta(days=300))
    make(tmp_path, "AI.example.org", at=NOW + timedelta(days=364))
    assert {path: path.read_bytes() for path in files.key.parent.iterdir()} == before


def test_the_last_thirty_days_bring_a_new_server_certificate_from_the_same_ca(tmp_path: Path) -> None:
    files = make(tmp_path)
    authority, old = files.ca_certificate.read_bytes(), server(files)
    make(tmp_path, at=old.not_valid_after_utc - timedelta(days=30))
    assert server(files).serial_number != old.serial_number
    assert files.ca_certificate.read_bytes() == authority
    server(files).verify_directly_issued_by(x509.load_pem_x509_certificate(authority))


def test_a_new_host_name_brings_a_new_server_certificate(tmp_path: Path) -> None:
    files = make(tmp_path)
    old = server(files)
    make(tmp_path, "10.1.2.3")
    assert server(files).serial_number != old.serial_number


def test_a_half_written_pair_is_replaced(tmp_path: Path) -> None:
    files, other = make(tmp_path), make(tmp_path / "other")
    files.key.write_bytes(other.key.read_bytes())
    make(tmp_path)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    files.certificate.write_bytes(b"")
    make(tmp_path)
    files.key.unlink()
    make(tmp_path)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)


def test_a_certificate_of_another_ca_is_replaced(tmp_path: Path) -> None:
    files, other = make(tmp_path), make(tmp_path / "other")
    files.certificate.write_bytes(other.certificate.read_bytes())
    files.key.write_bytes(other.key.read_bytes())
    make(tmp_path)
    assert server(files) != server(other)


def test_a_first_start_that_was_cut_short_is_made_good(tmp_path: Path) -> None:
    files = make(tmp_path)
    files.ca_certificate.unlink()
    make(tmp_path)
    server(files).verify_directly_issued_by(x509.load_pem_x509_certificate(files.ca_certificate.read_bytes()))


def test_a_damaged_ca_is_never_replaced_silently(tmp_path: Path) -> None:
    files, other = make(tmp_path), make(tmp_path / "other")
    for content, text in (
        (other.ca_key.read_bytes(), "is not the key of"),
        (b"x", "not a private key"),
        (None, "is missing"),
    ):
        files.ca_key.unlink() if content is None else files.ca_key.write_bytes(content)
        with pytest.raises(UserError, match=text) as caught:
            make(tmp_path)
        assert caught.value.remedy


def test_a_ca_about_to_end_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match="The private CA ends on 2036-03-01"):
        make(tmp_path, at=NOW + timedelta(days=3640))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_stands_for_all_is_left_out(tmp_path: Path, host: str) -> None:
    names = server(make(tmp_path, host)).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(list(names)) == 3


@pytest.mark.parametrize("host", ["", "a b", "-a.example", "a..b", "h\u00e9.example", "a" * 64, "http://x"])
def test_a_name_no_certificate_can_carry_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(UserError, match="not a host name"):
        make(tmp_path, host)


def test_the_fingerprint_is_the_cas(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"outcrop up"):
        ca_fingerprint(ServerTls.of(tmp_path / "tls"))
    text = ca_fingerprint(make(tmp_path))
    assert len(text.split(":")) == 32
