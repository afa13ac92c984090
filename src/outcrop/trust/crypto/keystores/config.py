"""Which key store a deployment uses, and how it is opened.

What each protects against, stated plainly:

- ``passphrase`` in the profile ``dev``: the passphrase is made at first start and kept in the data directory itself, at
  ``keystore/passphrase``. This protects copies of single files (an object, the database, a backup without the
  ``keystore`` directory), and nothing against someone who has the whole directory.
- ``passphrase`` in any other profile: the passphrase comes from outside the data directory, so the directory alone
  opens nothing. Root on the running machine can still read the keys from memory.
- ``pkcs11``: master keys never leave the token. Root on the running machine can use them while it is there.
- ``transit``: master keys never leave the server, which logs each use and can refuse it.

A passphrase is taken from the first of: ``passphrase_file``; the systemd credential ``outcrop-passphrase`` (a file
in ``$CREDENTIALS_DIRECTORY``); the file that ``$OUTCROP_PASSPHRASE_FILE`` names. Never from the value of an
environment variable, which every child process and crash report would carry.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from outcrop.base.errors import KeyStoreUnavailable, UserError
from outcrop.base.files import make_private_directory, sync_directory, write_atomic
from outcrop.trust.crypto.keystores.base import KeyStore
from outcrop.trust.crypto.keystores.memory import MemoryKeyStore
from outcrop.trust.crypto.secret import Secret

KEYSTORE_DIRECTORY = "keystore"
KEYS_FILE = "keys.json"
CREDENTIAL_NAME = "outcrop-passphrase"
PASSPHRASE_FILE_VARIABLE = "OUTCROP_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5)
DEV_PROFILE = "dev"
PASSPHRASE_BYTES_MIN = 16
SECRET_FILE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class KeyStoreConfig:
    """Where the master keys are. Only the fields of the chosen ``kind`` count.

    ``pkcs11_mechanism`` ``auto`` takes AES-GCM when the token has it, else AES-CBC with HMAC-SHA-256.
    """

    kind: Literal["passphrase", "pkcs11", "transit", "memory"] = "passphrase"
    profile: str = DEV_PROFILE
    passphrase_file: Path | None = None
    pkcs11_library: Path | None = None
    pkcs11_token: str = ""
    pkcs11_pin_file: Path | None = None
    pkcs11_mechanism: Literal["auto", "AES_GCM", "AES_CBC_PAD+SHA256_HMAC"] = "auto"
    transit_address: str = ""
    transit_mount: str = "transit"
    transit_namespace: str = ""
    transit_token_file: Path | None = None
    transit_ca_file: Path | None = None


def open_key_store(
    config: KeyStoreConfig, data_directory: Path, environment: Mapping[str, str] | None = None
) -> KeyStore:
    """The key store of ``config``, made at first use where that is possible. ``environment`` defaults to the process's.

    Raises ``UserError`` for a configuration that cannot work, ``KeyStoreUnavailable`` for a store that does not open.
    """
    if config.kind == "memory":
        return MemoryKeyStore()
    if config.kind == "pkcs11":
        from outcrop.trust.crypto.keystores.pkcs11 import Pkcs11KeyStore  # noqa: PLC0415 - an optional extra

        if config.pkcs11_library is None or not config.pkcs11_token or config.pkcs11_pin_file is None:
            raise UserError("The pkcs11 key store is not configured.", "Name its library, its token and its PIN file.")
        pin = read_secret_file(config.pkcs11_pin_file)
        return Pkcs11KeyStore(config.pkcs11_library, config.pkcs11_token, pin, mechanism=config.pkcs11_mechanism)
    if config.kind == "transit":
        from outcrop.trust.crypto.keystores.transit import TransitKeyStore  # noqa: PLC0415 - only where it is used

        if not config.transit_address or config.transit_token_file is None:
            raise UserError("The transit key store is not configured.", "Name its address and its token file.")
        return TransitKeyStore(
            config.transit_address,
            config.transit_token_file,
            mount=config.transit_mount,
            namespace=config.transit_namespace,
            ca_file=config.transit_ca_file,
        )
    from outcrop.trust.crypto.keystores.passphrase import PassphraseKeyStore  # noqa: PLC0415 - only where it is used

    directory = data_directory / KEYSTORE_DIRECTORY
    passphrase = find_passphrase(config, data_directory, os.environ if environment is None else environment)
    make_private_directory(directory)
    return PassphraseKeyStore(directory / KEYS_FILE, passphrase)


def find_passphrase(config: KeyStoreConfig, data_directory: Path, environment: Mapping[str, str]) -> Secret:
    """The passphrase, by the rules above. Raises ``UserError`` when there is none, or none that will do."""
    path = config.passphrase_file
    if path is None and (credentials := environment.get(CREDENTIALS_VARIABLE)):
        candidate = Path(credentials) / CREDENTIAL_NAME
        path = candidate if candidate.exists() else None
    if path is None and (named := environment.get(PASSPHRASE_FILE_VARIABLE)):
        path = Path(named)
    own = data_directory / KEYSTORE_DIRECTORY / "passphrase"
    if path is None:
        if config.profile != DEV_PROFILE:
            raise UserError(
                f"The profile {config.profile!r} needs a passphrase from outside the data directory.",
                f"Give a file by passphrase_file, by the systemd credential {CREDENTIAL_NAME}, "
                f"or by ${PASSPHRASE_FILE_VARIABLE}.",
            )
        path = own
        if not own.exists():
            if (own.parent / "keys.json").exists():
                raise KeyStoreUnavailable(
                    f"{own} is missing, and without it {own.parent} does not open.",
                    "Restore it; or, if the passphrase was kept elsewhere, restore the outcrop.toml that names it.",
                )
            make_private_directory(own.parent)
            write_atomic(own, secrets.token_urlsafe(32).encode() + b"\n", private=True)
    elif config.profile != DEV_PROFILE and path.resolve().is_relative_to(data_directory.resolve()):
        raise UserError(f"The passphrase file {path} lies inside the data directory.", "Keep it elsewhere.")
    passphrase = read_secret_file(path)
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise UserError(
            f"The passphrase in {path} is shorter than {PASSPHRASE_BYTES_MIN} bytes.",
            "Make one with: openssl rand -base64 32",
        )
    return passphrase


def read_secret_file(path: Path) -> Secret:
    """The content of ``path`` without a line end; ``UserError`` when others may read or change it, or it is empty."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(SECRET_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeyStoreUnavailable(
            f"{path} cannot be read ({error.strerror}).", "Name a file with the secret."
        ) from None
    # A group may read it: that is how orchestrators mount secrets for a user that is not root.
    if mode & 0o027:
        raise UserError(f"{path} is open to others (mode {mode:04o}).", f"Run: chmod 600 {path}")
    if len(data) > SECRET_FILE_BYTES_MAX:
        raise UserError(f"{path} is longer than {SECRET_FILE_BYTES_MAX} bytes.", "Name a file with one secret.")
    secret = Secret(data.removesuffix(b"\n").removesuffix(b"\r"))
    if not secret:
        raise UserError(f"{path} is empty.", "Name a file with the secret.")
    return secret


def _make_passphrase(path: Path) -> None:
    """Make ``path`` with a random passphrase, unless another process was first."""
    make_private_directory(path.parent)
    own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    write_atomic(own, secrets.token_urlsafe(32).encode() + b"\n", private=True)
    try:
        os.link(own, path)  # unlike a rename, this never replaces
    except FileExistsError:
        pass
    finally:
        own.unlink()
    sync_directory(path.parent)
