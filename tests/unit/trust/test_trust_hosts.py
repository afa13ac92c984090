"""The host allow-list, and the twin of the identity store."""

from __future__ import annotations

import pytest
from trust_signing import CREDENTIAL, authenticator, sign

from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import MemoryCredentials

HOSTS = frozenset({"LocalHost", "127.0.0.1", "::1"})

MALFORMED = ("[::1", "::1", "[::1]evil.example", "[localhost]", "localhost:x", "localhost:80:80", "localhost:")


def accept(host: str, **options) -> None:
    authenticator(**options).authenticate(sign(headers={"host": host}), "bedrock", allow_bearer=False)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "LOCALHOST:8080", "127.0.0.1:80", "[::1]:8443", "[::1]"]
)
def test_listed_hosts_are_served_on_any_port(host: str) -> None:
    accept(host, hosts=HOSTS)


@pytest.mark.parametrize(
    "host",
    ["rebound.example", "localhost.example", "", "localhost@example", "[::2]:80", "127.0.0.1.nip.io", *MALFORMED],
)
def test_other_hosts_are_refused_although_signed(host: str) -> None:
    accept(host)
    with pytest.raises(AuthenticationError, match="is not served here") as caught:
        accept(host, hosts=HOSTS)
    assert caught.value.code == "AccessDeniedException"


def test_two_host_headers_name_no_host() -> None:
    request = sign(unsigned={"host": "localhost"})
    with pytest.raises(AuthenticationError, match="is not served here"):
        authenticator(hosts=HOSTS).authenticate(request, "bedrock", allow_bearer=False)


def test_memory_credentials_know_what_they_were_given() -> None:
    twin = MemoryCredentials(CREDENTIAL)
    assert twin.lookup(CREDENTIAL.access_key_id) is CREDENTIAL
    assert twin.lookup("AKIA") is None
