"""The identity store: accounts and their organisation, principals, policies and credentials, in one database.

Each part keeps one kind of thing (``users``, ``roles``, ``policies``...); this is where they come together, and the
port through which the verifier finds credentials and the policy decision its layers. What another process changes holds
for the next request here. Secrets are sealed or hashed: the database alone signs for nobody.

Not covered: whoever has both the database and the sealer's key, and the memory of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from outcrop.base.arn import Arn, account_id
from outcrop.base.clock import Clock
from outcrop.base.errors import NotFound, UserError
from outcrop.base.tables import Database
from outcrop.trust.crypto.sealer import Sealer
from outcrop.trust.identity import entities
from outcrop.trust.identity.changes import Changes
from outcrop.trust.identity.controls import Controls
from outcrop.trust.identity.credentials import Credential, Principal
from outcrop.trust.identity.holdings import Holdings
from outcrop.trust.identity.keys import AccessKeys
from outcrop.trust.identity.layers import LayerCache
from outcrop.trust.identity.legacy import LEGACY_FILE, read_legacy, remove_legacy
from outcrop.trust.identity.managed import Policies
from outcrop.trust.identity.oidc_providers import OidcProviders
from outcrop.trust.identity.organisation import Organisations
from outcrop.trust.identity.part import Part
from outcrop.trust.identity.records import Group, IssuedKey, KeyRecord, ManagedPolicy, Role, User
from outcrop.trust.identity.roles import Roles
from outcrop.trust.identity.service_credentials import ServiceCredentials
from outcrop.trust.identity.sessions import Subject
from outcrop.trust.identity.users import Groups, Users
from outcrop.trust.identity.uses import LastUses
from outcrop.trust.policy import Layers

SUBJECTS_MAX = 4096


class IdentityStore(Part):
    """The identities of one deployment; any thread may use it. The database stays its giver's to close.

    A ``CredentialSource`` and a ``SubjectSource``. An old ``identity.db`` beside the database's file is taken in.
    """

    def __init__(self, database: Database, clock: Clock, sealer: Sealer) -> None:
        super().__init__(database, clock)
        self._changes = Changes(database)
        self.organisation = Organisations(database, clock)
        self.controls = Controls(database, clock)
        self.users = Users(database, clock)
        self.groups = Groups(database, clock)
        self.roles = Roles(database, clock)
        self.policies = Policies(database, clock)
        self.holdings = Holdings(database, clock)
        self.keys = AccessKeys(database, clock, sealer, self._changes)
        self.service_credentials = ServiceCredentials(database, clock, self._changes)
        self.oidc = OidcProviders(database, clock)
        self.uses = LastUses(database, clock)
        self._layers = LayerCache(database, self._changes)
        self._subjects: tuple[int, dict[str, Subject | None]] = (-1, {})
        self._org_paths: tuple[int, dict[str, str]] = (-1, {})
        if database.path is not None and database.path.name != LEGACY_FILE:
            self.import_legacy(database.path.with_name(LEGACY_FILE))

    def ensure_account(self, partition: str, account: str) -> IssuedKey | None:
        """Make the account with its root and a root key if it is new; the key is returned this once, else ``None``.

        The first account made is the organisation's management account.
        """
        identifier = account_id(account)
        with self._change("account.ensure") as transaction:
            if transaction.query("SELECT 1 FROM accounts WHERE account = :account", {"account": identifier}):
                return None
            self.organisation.insert_account(transaction, identifier, partition)
            root = entities.by_id(transaction, identifier)
            assert root is not None
            return self.keys.issue(transaction, root)

    def import_legacy(self, path: Path) -> bool:
        """Take in the accounts and root keys of an old ``identity.db``, then remove it; whether there was one."""
        if not path.exists():
            return False
        accounts, keys = read_legacy(path)
        with self._change("legacy.import") as transaction:
            for account, partition, _ in accounts:
                identifier = account_id(account)
                if not transaction.query("SELECT 1 FROM accounts WHERE account = :account", {"account": identifier}):
                    self.organisation.insert_account(transaction, identifier, partition)
            for key_id, secret, active, created_at, account in keys:
                root = entities.by_id(transaction, account)
                assert root is not None
                self.keys.insert(transaction, root, key_id, secret, active=bool(active), created_at=created_at)
        remove_legacy(path)
        return True

    def create_key(self, account: str) -> IssuedKey:
        """A further key for the account's root; ``QuotaReached`` when it has two already."""
        return self.keys.create(account)

    def list_keys(self, account: str | None = None) -> list[KeyRecord]:
        """All keys, or those of one account, oldest first."""
        return self.keys.all(account)

    def get_key(self, access_key_id: str) -> KeyRecord:
        """The key of this id, or ``NotFound``."""
        return self.keys.get(access_key_id)

    def set_key_active(self, access_key_id: str, active: bool) -> KeyRecord:
        """Enable or disable a key; a disabled key proves nothing until it is enabled again."""
        return self.keys.set_active(access_key_id, active)

    def delete_key(self, access_key_id: str) -> KeyRecord:
        """Delete a key for good, and return what it was."""
        return self.keys.delete(access_key_id)

    def lookup(self, access_key_id: str) -> Credential | None:
        """The active key of this id: the ``CredentialSource`` of the verifier."""
        return self.keys.lookup(access_key_id)

    def lookup_api_key(self, text: str) -> Principal | None:
        """The user of the long-term API key ``text``, as proven by it."""
        return self.service_credentials.lookup_api_key(text)

    def session_subject(self, arn: str) -> Subject | None:
        """The role, user or root of an ``iam`` ARN as it is now; ``None`` when there is none, or its account sleeps."""
        count = self._changes.count()
        known_at, known = self._subjects
        if known_at != count or len(known) > SUBJECTS_MAX:
            known = {}
            self._subjects = (count, known)
        if arn not in known:
            known[arn] = self._subject(arn)
        return known[arn]

    def layers_of(self, principal: Principal, resource_account: str = "") -> Layers:
        """Every policy that bears on ``principal``, compiled; see ``layers.LayerCache``."""
        return self._layers.layers_of(principal, resource_account)

    def layers(self, principal: Principal) -> Layers:
        """The same for a resource of the principal's own account."""
        return self._layers.layers_of(principal)

    def principal_tags(self, principal: Principal) -> dict[str, str]:
        """The tags that a principal's requests carry."""
        return self._layers.principal_tags(principal)

    def organisation_path(self, account: str) -> str:
        """``o-…/r-…/ou-…/`` down to the account's parent; empty outside the organisation."""
        count = self._changes.count()
        known_at, known = self._org_paths
        if known_at != count:
            known = {}
            self._org_paths = (count, known)
        if account not in known:
            try:
                known[account] = self.organisation.organisation_path(account)
            except NotFound:
                known[account] = ""
        return known[account]

    def entity(self, account: str, kind: str, name: str) -> User | Group | Role | ManagedPolicy | None:
        """The ``user``, ``group`` or ``role`` of a name, or the ``policy`` of an ARN; ``None`` where there is none."""
        find: Mapping[str, Callable[[str, str], User | Group | Role | ManagedPolicy]] = {
            "user": self.users.get,
            "group": self.groups.get,
            "role": self.roles.get,
            "policy": self.policies.get,
        }
        get = find.get(kind)
        try:
            return None if get is None else get(account, name)
        except UserError:
            return None

    def _subject(self, arn: str) -> Subject | None:
        try:
            parsed = Arn.parse(arn)
        except UserError:
            return None
        kind, _, rest = parsed.resource.partition("/")
        rows = self._database.query(
            f"{entities.SELECT} WHERE entities.account = :account AND kind = :kind AND name_folded = :name "
            "AND status = 'ACTIVE'",
            {"account": parsed.account, "kind": kind, "name": (rest.rpartition("/")[2] or kind).lower()},
        )
        if not rows or kind not in ("role", "user", "root") or str(entities.arn_of(rows[0])) != arn:
            return None
        revoked = rows[0]["revoked_before"]
        return Subject(rows[0]["id"], None if revoked is None else datetime.fromisoformat(revoked))
