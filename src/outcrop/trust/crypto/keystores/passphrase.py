"""A key store in one file, sealed under a key stretched from a passphrase.

The file is JSON: the format's name, the scrypt parameters and the sealed master keys in base64. Every change replaces
it in one step under a lock, and every use looks whether another process has changed it. The parameters and the
format's name are authenticated with the keys.

Not covered: an older copy of the file put back in place of the newer one is not noticed (keys made since are missing,
keys destroyed since are back). The master keys are in this process's memory while the store is open.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from outcrop.base.errors import KeyStoreUnavailable, Unsealable, UserError
from outcrop.base.files import exclusive_lock, write_atomic
from outcrop.trust.crypto.aead import seal, unseal
from outcrop.trust.crypto.kdf import SCRYPT_N, StretchParameters, stretch_passphrase
from outcrop.trust.crypto.keystores.base import DEPLOYMENT_KEY, KeyStore, MasterKey, check_contract
from outcrop.trust.crypto.keystores.memory import VersionedKeys, named_version
from outcrop.trust.crypto.secret import Secret

FORMAT = "outcrop-keystore-1"
FILE_BYTES_MAX = 64 << 20
LOCK_WAIT_S = 10.0


class PassphraseKeyStore(KeyStore):
    """Master keys in the file ``path`` (0600), which is made when it is not there. Its directory must exist."""

    kind = "passphrase"

    def __init__(self, path: Path, passphrase: Secret, *, scrypt_n: int = SCRYPT_N) -> None:
        """Raises ``KeyStoreUnavailable`` for another passphrase and for a damaged file. ``scrypt_n``: for new files."""
        self._path = path
        self._passphrase = passphrase
        self._lock = threading.RLock()
        self._stamp: tuple[int, int, int] | None = None
        self._parameters: StretchParameters | None = None
        self._stretched: Secret | None = None
        self._keys = VersionedKeys()
        if not path.exists():
            with self._file_lock():
                if not path.exists():  # another process may have been first
                    self._store(VersionedKeys(), passphrase, StretchParameters.new(scrypt_n))
        self._refresh()

    def create(self, name: str) -> MasterKey:
        self._change(lambda keys: keys.create(name))
        return self.describe(name)

    def names(self) -> list[str]:
        with self._fresh_keys() as keys:
            return [name for name, _ in keys.items()]

    def describe(self, name: str) -> MasterKey:
        with self._fresh_keys() as keys:
            return keys.describe(name)

    def rotate(self, name: str) -> MasterKey:
        self._change(lambda keys: keys.rotate(name))
        return self.describe(name)

    def destroy(self, name: str) -> None:
        self._change(lambda keys: keys.destroy(name))

    def wrap(self, name: str, plaintext: Secret, context: Mapping[str, str]) -> bytes:
        with self._fresh_keys() as keys:
            return keys.wrap(name, plaintext, context)

    def unwrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        with self._fresh_keys() as keys:
            return keys.unwrap(name, wrapped, context)

    def wrapping_version(self, wrapped: bytes) -> int:
        return named_version(wrapped)

    def check(self) -> str:
        self.ensure(DEPLOYMENT_KEY)
        check_contract(self, DEPLOYMENT_KEY)
        return f"passphrase file {self._path}, {len(self.names())} master keys"

    def change_passphrase(self, passphrase: Secret) -> None:
        """Seal the file under ``passphrase`` from now on: after a crash the old or the new one opens it, never none.

        Copies of the old file still open under the old passphrase: destroy them.
        """
        with self._lock, self._file_lock():
            self._refresh()
            n = self._parameters.n if self._parameters else SCRYPT_N
            self._store(self._keys, passphrase, StretchParameters.new(n))

    def close(self) -> None:
        with self._lock:
            self._keys, self._stretched, self._stamp = VersionedKeys(), None, None

    @contextmanager
    def _fresh_keys(self) -> Iterator[VersionedKeys]:
        with self._lock:
            self._refresh()
            yield self._keys

    def _change(self, change: Callable[[VersionedKeys], None]) -> None:
        with self._lock, self._file_lock():
            self._refresh()
            keys = self._keys.copy()
            change(keys)
            assert self._parameters is not None
            self._store(keys, self._passphrase, self._parameters)

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        """Hold the file against other processes; they hold it for milliseconds, so waiting is right."""
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                lock = exclusive_lock(self._path.with_name(f"{self._path.name}.lock"))
                lock.__enter__()
                break
            except UserError:
                if time.monotonic() >= deadline:
                    raise KeyStoreUnavailable(f"{self._path} stays locked by another process.", "Stop it.") from None
                time.sleep(0.02)
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _refresh(self) -> None:
        """Read the file when it is not the one read last."""
        with self._lock:
            try:
                status = self._path.stat()
            except OSError as error:
                raise self._damaged(f"cannot be read ({error.strerror})") from None
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            if status.st_size > FILE_BYTES_MAX:
                raise self._damaged("is too long")
            parameters, sealed = self._parse(self._path.read_bytes())
            if self._stretched is None or parameters != self._parameters:
                self._stretched = stretch_passphrase(self._passphrase, parameters)
                self._parameters = parameters
            try:
                plaintext = unseal(self._stretched, sealed, _context(parameters))
            except Unsealable:
                self._stretched = None
                raise KeyStoreUnavailable(
                    f"{self._path} does not open: the passphrase is another one, or the file was changed.",
                    "Give the passphrase that it was sealed with, or restore the file from a copy.",
                ) from None
            self._keys = _decode(plaintext)
            self._stamp = stamp

    def _store(self, keys: VersionedKeys, passphrase: Secret, parameters: StretchParameters) -> None:
        if self._stretched is None or parameters != self._parameters:
            stretched = stretch_passphrase(passphrase, parameters)
        else:
            stretched = self._stretched
        sealed = seal(stretched, _encode(keys), _context(parameters))
        document = {
            "format": FORMAT,
            "scrypt": {
                "salt": base64.b64encode(parameters.salt).decode(),
                "n": parameters.n,
                "r": parameters.r,
                "p": parameters.p,
            },
            "sealed": base64.b64encode(sealed).decode(),
        }
        write_atomic(self._path, json.dumps(document, indent=1).encode() + b"\n", private=True)
        status = self._path.stat()
        self._stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        self._passphrase, self._parameters, self._stretched, self._keys = passphrase, parameters, stretched, keys

    def _parse(self, data: bytes) -> tuple[StretchParameters, bytes]:
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise ValueError
            scrypt = document["scrypt"]
            salt = base64.b64decode(scrypt["salt"], validate=True)
            parameters = StretchParameters(salt, int(scrypt["n"]), int(scrypt["r"]), int(scrypt["p"]))
            return parameters, base64.b64decode(document["sealed"], validate=True)
        except (UserError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._damaged(f"is not a key store file of the format {FORMAT}") from None

    def _damaged(self, what: str) -> KeyStoreUnavailable:
        return KeyStoreUnavailable(f"{self._path} {what}.", "Restore it from a copy.")


def _context(parameters: StretchParameters) -> dict[str, str]:
    return {
        "format": FORMAT,
        "salt": parameters.salt.hex(),
        "cost": f"scrypt {parameters.n} {parameters.r} {parameters.p}",
    }


def _encode(keys: VersionedKeys) -> bytes:
    return json.dumps(
        {
            name: {str(version): base64.b64encode(key.reveal()).decode() for version, key in versions.items()}
            for name, versions in keys.items()
        }
    ).encode()


def _decode(plaintext: bytes) -> VersionedKeys:
    # Authenticated bytes of our own: no shape is checked again.
    return VersionedKeys(
        {
            name: {int(version): Secret(base64.b64decode(key)) for version, key in versions.items()}
            for name, versions in json.loads(plaintext).items()
        }
    )
