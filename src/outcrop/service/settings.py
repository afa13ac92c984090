"""What an operator decides once for a data directory, in ``DIR/outcrop.toml``; every verb reads the same file.

    profile = "standard"                        # dev (the default), standard, strict or airgap
    database_url_file = "/etc/outcrop/database" # a file with a postgresql+pg8000:// URL; without it, SQLite in DIR

    [key_store]
    kind = "passphrase"                         # or pkcs11, transit
    passphrase_file = "/etc/outcrop/passphrase"

Secrets never stand in this file, only the names of files that hold them. An unknown key is an error, not ignored.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from outcrop.base.errors import UserError
from outcrop.base.files import make_private_directory, write_atomic
from outcrop.trust.crypto.keystores.config import KeyStoreConfig, read_secret_file

SETTINGS_FILE = "outcrop.toml"
DATABASE_FILE = "outcrop.db"

Profile = Literal["dev", "standard", "strict", "airgap"]
PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one data directory."""

    profile: Profile = "dev"
    database_url_file: Path | None = None
    key_store: KeyStoreConfig = field(default_factory=KeyStoreConfig)

    @classmethod
    def load(cls, data: Path) -> Settings:
        """Those of ``data``; the defaults where it has no file. ``UserError`` for what cannot be meant."""
        path = data / SETTINGS_FILE
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return cls()
        except (ValueError, OSError) as error:
            raise UserError(f"{path} cannot be read: {error}.", "Mend the file.") from None
        profile = document.pop("profile", "dev")
        if profile not in PROFILES:
            raise UserError(f"{path}: there is no profile {profile!r}.", f"Choose one of {', '.join(PROFILES)}.")
        url_file = document.pop("database_url_file", None)
        stores = document.pop("key_store", {})
        if document:
            raise UserError(
                f"{path}: unknown key {next(iter(document))!r}.", "See `outcrop up --help` for those known."
            )
        if not isinstance(url_file, str | None):
            raise UserError(f"{path}: database_url_file must be the name of a file.")
        return cls(profile, Path(url_file) if url_file else None, _key_store(path, profile, stores))

    def database(self, data: Path) -> Path | str:
        """Where the database is, as ``base.tables.Database`` takes it."""
        if self.database_url_file is None:
            return data / DATABASE_FILE
        return read_secret_file(self.database_url_file).reveal_text()


def choose_profile(data: Path, profile: Profile) -> None:
    """Write ``profile`` down for a new directory; ``UserError`` where an existing one has another."""
    path = data / SETTINGS_FILE
    if path.exists() or (data / DATABASE_FILE).exists():
        present = Settings.load(data).profile
        if present != profile:
            raise UserError(
                f"{data} is set up with the profile {present}, not {profile}.",
                f"Edit profile in {path}, then start again in the same words.",
            )
        return
    make_private_directory(data)
    write_atomic(path, f'profile = "{profile}"\n'.encode())


def _key_store(path: Path, profile: str, table: Any) -> KeyStoreConfig:
    known = {each.name: each for each in dataclasses.fields(KeyStoreConfig) if each.name != "profile"}
    if not isinstance(table, dict):
        raise UserError(f"{path}: key_store must be a table.")
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise UserError(f"{path}: unknown key {name!r} in key_store.", f"Known are {', '.join(known)}.")
        if not isinstance(value, str):
            raise UserError(f"{path}: {name} of key_store must be a text.")
        values[name] = Path(value) if name.endswith(("_file", "_library")) else value
    if values.get("kind", "passphrase") not in ("passphrase", "pkcs11", "transit"):
        raise UserError(
            f"{path}: there is no kind of key store {values['kind']!r}.", "Use passphrase, pkcs11, transit."
        )
    return KeyStoreConfig(**values, profile=profile)
