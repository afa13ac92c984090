"""What a transit server can answer, and what is asked of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transit_server import TOKEN, TransitServer

from outcrop.base.errors import KeyStoreUnavailable, NotFound, Unsealable, UserError
from outcrop.trust.crypto.keystores import KeyStoreConfig, open_key_store
from outcrop.trust.crypto.keystores.transit import TransitKeyStore
from outcrop.trust.crypto.secret import Secret


def opened(server: TransitServer) -> TransitKeyStore:
    return TransitKeyStore(server.address, server.token_file, ca_file=server.ca_file)


def test_rewrapping_happens_in_the_server(transit: TransitServer):
    store = opened(transit)
    store.create("a")
    wrapped = store.wrap("a", Secret(b"x"), {})
    store.rotate("a")
    transit.log.clear()
    store.rewrap("a", wrapped, {})
    assert transit.log == ["POST /v1/transit/rewrap/outcrop-a"]


def test_data_keys_are_made_in_the_server(transit: TransitServer):
    store = opened(transit)
    store.create("a")
    transit.log.clear()
    store.generate_data_key("a", {})
    assert transit.log[-1] == "POST /v1/transit/datakey/plaintext/outcrop-a"


def test_encrypting_under_a_missing_name_makes_no_key(transit: TransitServer):
    with pytest.raises(NotFound):
        opened(transit).wrap("a", Secret(b"x"), {})
    assert transit.keys == {}


@pytest.mark.parametrize("change", [{"exportable": True}, {"derived": False}, {"type": "rsa-2048"}])
def test_keys_of_another_kind_are_refused(transit: TransitServer, change: dict[str, object]):
    store = opened(transit)
    store.create("a")
    transit.keys["outcrop-a"].update(change)
    with pytest.raises(KeyStoreUnavailable, match="not of the kind"):
        store.wrap("a", Secret(b"x"), {})


def test_other_keys_of_the_server_are_left_alone(transit: TransitServer):
    transit.make("somebody-elses", {"derived": True})
    store = opened(transit)
    assert store.names() == []
    with pytest.raises(NotFound):
        store.destroy("somebody-elses")
    assert list(transit.keys) == ["somebody-elses"]


def test_a_refused_token_is_told_without_the_token(transit: TransitServer):
    transit.token_file.write_text("s.canary-wrong\n")
    with pytest.raises(KeyStoreUnavailable, match="refuses the token") as caught:
        opened(transit).names()
    assert "canary" not in str(caught.value)
    transit.token_file.write_bytes(b"s.canary\xff")
    with pytest.raises(KeyStoreUnavailable, match="ValueError") as caught:
        opened(transit).names()
    assert "canary" not in str(caught.value)
    transit.token_file.write_text(TOKEN)  # an agent renews it: no restart
    assert opened(transit).names() == []


def test_a_token_file_that_others_can_read_is_refused(transit: TransitServer):
    transit.token_file.chmod(0o644)
    with pytest.raises(UserError, match="open to others"):
        opened(transit).names()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"", "sealed"),
        (500, b'{"errors": ["canary"]}', "HTTP 500"),
        (429, b"", "HTTP 429"),
        (307, b"", "HTTP 307"),
        (200, b"no json", "documentation"),
        (200, b"[" * 100_000, "documentation"),
        (200, b'{"data": {"plaintext": "!", "ciphertext": "vault:v1:AA=="}}', "documentation"),
        (200, b"x" * (1 << 20) + b"x", "HTTP 200"),
    ],
)
def test_answers_that_are_none(transit: TransitServer, status: int, body: bytes, said: str):
    store = opened(transit)
    store.create("a")
    wrapped = store.wrap("a", Secret(b"x"), {})
    transit.answer = (status, body)
    with pytest.raises(KeyStoreUnavailable, match=said) as caught:
        store.unwrap("a", wrapped, {})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "ciphertext", ["plain", "vault:v0:AA==", "vault:v1:", "vault:v1:AA==\n", 'vault:v1:"', None, 7]
)
def test_ciphertexts_that_are_none(transit: TransitServer, ciphertext: object):
    store = opened(transit)
    store.create("a")
    key_answer = {"type": "aes256-gcm96", "derived": True, "exportable": False, "latest_version": 1, "keys": {"1": 0}}
    transit.answer = (200, json.dumps({"data": {**key_answer, "ciphertext": ciphertext}}).encode())
    with pytest.raises(KeyStoreUnavailable, match="documentation"):
        store.wrap("a", Secret(b"x"), {})
    if isinstance(ciphertext, str):
        with pytest.raises(Unsealable):
            store.wrapping_version(ciphertext.encode())


def test_no_server_and_no_trust_in_it(transit: TransitServer, tmp_path: Path):
    with pytest.raises(KeyStoreUnavailable, match="cannot be reached"):
        TransitKeyStore("https://127.0.0.1:1", transit.token_file).names()
    with pytest.raises(KeyStoreUnavailable, match="SSLCertVerificationError"):
        TransitKeyStore(transit.address, transit.token_file).names()
    with (
        TransitServer(tmp_path, "127.0.0.2") as elsewhere,  # an address that its certificate does not have
        pytest.raises(KeyStoreUnavailable, match="SSLCertVerificationError"),
    ):
        opened(elsewhere).names()
    with pytest.raises(UserError, match="CA certificates"):
        TransitKeyStore(transit.address, transit.token_file, ca_file=tmp_path / "none.pem")
    assert transit.log == []


@pytest.mark.parametrize(
    "address",
    [
        "http://vault.example:8200",
        "vault.example",
        "ftp://127.0.0.1",
        "https://",
        "https://h/path",
        "https://u:canary@h",
        "",
    ],
)
def test_addresses_that_are_refused(address: str, tmp_path: Path):
    with pytest.raises(UserError, match="not the address") as caught:
        TransitKeyStore(address, tmp_path / "token")
    assert "canary" not in str(caught.value)


def test_plain_http_is_for_loopback_only(tmp_path: Path):
    for address in ("http://127.0.0.1:8200", "http://localhost:8200", "http://[::1]:8200", "https://vault.example"):
        TransitKeyStore(address, tmp_path / "token")
    for mount in ("", "/transit", "transit/", "../sys", "a?b"):
        with pytest.raises(UserError, match="not the mount"):
            TransitKeyStore("https://vault.example", tmp_path / "token", mount=mount)


def test_it_is_opened_by_configuration(transit: TransitServer, tmp_path: Path):
    config = KeyStoreConfig(
        kind="transit",
        transit_address=transit.address,
        transit_token_file=transit.token_file,
        transit_ca_file=transit.ca_file,
    )
    assert "transit server 127.0.0.1" in open_key_store(config, tmp_path / "data", {}).check()
