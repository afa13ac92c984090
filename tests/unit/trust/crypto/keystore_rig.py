"""What the tests of key stores share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from outcrop.trust.crypto.keystores import KeyStore
from outcrop.trust.crypto.secret import Secret

SCRYPT_N = 2**14  # the least that is taken: these tests open many stores
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
TOKEN, PIN = "outcrop-tests", "74119"
PASSPHRASE = Secret("a passphrase for tests")

OpenStore = Callable[[], KeyStore]
