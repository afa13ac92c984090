"""The key stores under test, each opened fresh and, where they last, opened again on what they kept."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from keystore_rig import PASSPHRASE, PIN, SCRYPT_N, SOFTHSM, TOKEN, OpenStore
from transit_server import TransitServer

from outcrop.trust.crypto.keystores import KeyStore, MemoryKeyStore
from outcrop.trust.crypto.keystores.passphrase import PassphraseKeyStore
from outcrop.trust.crypto.keystores.pkcs11 import Pkcs11KeyStore
from outcrop.trust.crypto.keystores.transit import TransitKeyStore
from outcrop.trust.crypto.secret import Secret


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SoftHSM's library, with a fresh token. Skipped where it is not installed, except in the CI."""
    if not SOFTHSM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{SOFTHSM} is missing in the CI: install softhsm2")
        pytest.skip("SoftHSM is not installed (Debian: softhsm2)")
    directory = tmp_path_factory.mktemp("softhsm")
    (directory / "tokens").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)  # the library reads it once, when it is loaded
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", PIN],
        check=True,
        capture_output=True,
    )
    return SOFTHSM


@pytest.fixture
def transit(tmp_path: Path) -> Iterator[TransitServer]:
    """A transit server on a loopback port, with TLS, and a token file for it."""
    with TransitServer(tmp_path) as server:
        yield server


@pytest.fixture(params=["memory", "passphrase", "pkcs11-gcm", "pkcs11-cbc", "transit"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the store, again and again on the same master keys."""
    kind = request.param
    opened: list[KeyStore] = []
    if kind == "memory":
        only = MemoryKeyStore()

        def make() -> KeyStore:
            return only

    elif kind == "passphrase":

        def make() -> KeyStore:
            return PassphraseKeyStore(tmp_path / "keys.json", PASSPHRASE, scrypt_n=SCRYPT_N)

    elif kind == "transit":
        server = request.getfixturevalue("transit")

        def make() -> KeyStore:
            return TransitKeyStore(server.address, server.token_file, ca_file=server.ca_file)

    else:
        library = request.getfixturevalue("softhsm")

        def make() -> KeyStore:
            mechanism = "AES_GCM" if kind == "pkcs11-gcm" else "AES_CBC_PAD+SHA256_HMAC"
            return Pkcs11KeyStore(library, TOKEN, Secret(PIN), mechanism=mechanism)

    def open_one() -> KeyStore:
        opened.append(make())
        return opened[-1]

    yield open_one
    last = make()
    for name in last.names():  # the token is the session's
        last.destroy(name)
    for store in [*opened, last]:
        store.close()
