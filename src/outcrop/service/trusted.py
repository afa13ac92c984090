"""The trust rooms as one deployment uses them: put together here, reached by operations as ``context.trust``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outcrop.base.clock import Clock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import KeyStoreUnavailable, UserError
from outcrop.base.tables import Database
from outcrop.service.secrets import DeploymentSecrets
from outcrop.service.settings import DATABASE_FILE, SETTINGS_FILE, Settings
from outcrop.trust.crypto.keystores import EnvelopeSealer, KeyStore, open_key_store
from outcrop.trust.crypto.keystores.config import KEYS_FILE, KEYSTORE_DIRECTORY
from outcrop.trust.crypto.sealer import Sealer
from outcrop.trust.identity import IdentityStore
from outcrop.trust.identity.legacy import LEGACY_FILE
from outcrop.trust.identity.sessions import SessionKeys, Sessions
from outcrop.trust.keys import KeyService, Vault

SESSION_SECRET = "sessions"  # noqa: S105 - its name
PROFILE_SECRET = "profile"  # noqa: S105 - no secret, kept where nobody edits it by hand


@dataclass(frozen=True, slots=True)
class Trust:
    """Who may do what, and with which keys."""

    settings: Settings
    database: Database
    key_store: KeyStore
    secrets: DeploymentSecrets
    sealer: Sealer
    identity: IdentityStore
    sessions: Sessions
    keys: KeyService
    vault: Vault

    @classmethod
    def open(cls, data: Path, deployment: Deployment, clock: Clock, *, new_profile: bool = False) -> Trust:
        """The trust rooms of the data directory ``data``; several processes may have them open at once.

        ``new_profile`` accepts a profile other than the one held to so far.
        """
        settings = Settings.load(data)
        require_keys(settings, data)
        key_store = open_key_store(settings.key_store, data)
        try:
            database = Database(settings.database(data))
        except BaseException:
            key_store.close()
            raise
        secrets = DeploymentSecrets(database, key_store, clock)
        hold_profile(secrets, settings, data, new_profile=new_profile)
        sealer = EnvelopeSealer(key_store, clock=clock)
        identity = IdentityStore(database, clock, sealer)
        identity.import_legacy(data / LEGACY_FILE)  # with PostgreSQL it does not lie beside the database
        keys = KeyService(database, key_store, clock, deployment.partition, deployment.region)
        return cls(
            settings,
            database,
            key_store,
            secrets,
            sealer,
            identity,
            Sessions(SessionKeys(*secrets.get(SESSION_SECRET)), identity, clock),
            keys,
            Vault(keys, clock),
        )

    def close(self) -> None:
        """Let go of the database and the key store."""
        self.database.close()
        self.key_store.close()


def hold_profile(secrets: DeploymentSecrets, settings: Settings, data: Path, *, new_profile: bool) -> None:
    """``UserError`` where the settings name another profile than the deployment was held to: a lost or restored
    ``outcrop.toml`` must not quietly make a strict deployment a lax one."""
    held = secrets.get(PROFILE_SECRET, settings.profile.encode())[0].reveal_text()
    if held == settings.profile:
        return
    if not new_profile:
        raise UserError(
            f"{data} is held to the profile {held}, and {SETTINGS_FILE} there says {settings.profile}, or is missing.",
            f"Put the file back, or accept the change with: outcrop up --profile {settings.profile}",
        )
    secrets.replace(PROFILE_SECRET, settings.profile.encode())


def require_keys(settings: Settings, data: Path) -> None:
    """``KeyStoreUnavailable`` where what was sealed is there and its key store is not: a new one would open nothing,
    and could be taken for the old one in the next backup. The key store is always made before the rest."""
    path = data / KEYSTORE_DIRECTORY / KEYS_FILE
    sealed = (data / DATABASE_FILE).exists() or (data / "audit" / "keys.json").exists()
    if settings.key_store.kind == "passphrase" and sealed and not path.exists():
        raise KeyStoreUnavailable(
            f"{path} is missing, and what {data} holds was sealed under it.",
            f"Put the directory {KEYSTORE_DIRECTORY} back from its backup.",
        )
