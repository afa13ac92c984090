"""TLS 1.2 and 1.3 are spoken, older versions refused, to a client that would speak them, as a lax server shows.

Not covered: SSL 3, which no OpenSSL of today can offer.
"""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from outcrop.trust.crypto.ca import ensure_tls
from serving import Running

OLD = [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1]
NEW = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """``context`` for one version, with every cipher that OpenSSL has, however old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that the old versions are old is the point
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = version
        context.maximum_version = version
    return context


def spoken(host: str, port: int, ca: Path, version: ssl.TLSVersion) -> str | None:
    context = only(ssl.create_default_context(cafile=str(ca)), version)
    with (
        socket.create_connection((host, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        return wrapped.version()


@pytest.mark.parametrize("version", NEW, ids=lambda one: one.name)
def test_a_present_version_is_spoken(service: Running, version: ssl.TLSVersion):
    parts = urlsplit(service.https_url)
    assert spoken(parts.hostname or "", parts.port or 0, service.ca_certificate, version) in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize("version", OLD, ids=lambda one: one.name)
def test_an_old_version_is_refused(service: Running, version: ssl.TLSVersion):
    parts = urlsplit(service.https_url)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        spoken(parts.hostname or "", parts.port or 0, service.ca_certificate, version)


@pytest.mark.parametrize("version", OLD, ids=lambda one: one.name)
def test_the_client_of_these_tests_would_speak_an_old_version(tmp_path: Path, version: ssl.TLSVersion):
    tls = ensure_tls(tmp_path / "tls", ["localhost", "127.0.0.1"])
    context = only(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), version)
    context.load_cert_chain(tls.certificate, tls.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True):
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        assert spoken("127.0.0.1", listener.getsockname()[1], tls.ca_certificate, version) is not None
        thread.join(10)
