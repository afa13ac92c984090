"""The life of a key: made, disabled and enabled, rotated, scheduled for deletion, destroyed.

Whatever concerns the key store is first written down and then done, see ``unfinished``.

Not covered: the clock. A clock that jumps a month ahead makes keys due for deletion a month early; whoever runs
``reap`` answers for the time it is given. And copies: what a backup of the key store still holds can still be opened.
"""

from __future__ import annotations

import logging
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from outcrop.base.errors import KeyRefused, UserError
from outcrop.base.faultpoints import point
from outcrop.base.tables import Transaction
from outcrop.trust.crypto.keystores import KeyStore
from outcrop.trust.keys.records import USAGES, Key, KeyManager, KeySpec, RotationKind
from outcrop.trust.keys.refusals import invalid, no_key, unsupported, wrong_state
from outcrop.trust.keys.rows import ALIAS_PREFIX, KeyRows, stamp
from outcrop.trust.keys.states import KeyState, require_edge, unusable
from outcrop.trust.keys.unfinished import Unfinished

DELETION_DAYS_MIN, DELETION_DAYS_MAX = 7, 30  # KMS API reference, ScheduleKeyDeletion
ROTATION_DAYS_MIN, ROTATION_DAYS_MAX, ROTATION_DAYS = 90, 2560, 365  # EnableKeyRotation
ON_DEMAND_ROTATIONS_MAX = 25  # RotateKeyOnDemand: of one key, ever
DESCRIPTION_CHARS_MAX = 8192
TAGS_MAX = 50
DEFAULT_ALIAS = "alias/aws/bedrock"
DEFAULT_DESCRIPTION = "Default key that protects what this account keeps here when no other key is named"

log = logging.getLogger("outcrop.trust")

_LOOKS_SECRET = re.compile(r"\b(?:AKIA|ASIA|ABSK)[A-Z0-9]{12}|bedrock-api-key-|-----BEGIN ", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reaped:
    """Something that was due, and was done: ``action`` is ``rotated`` or ``destroyed``."""

    key_id: str
    arn: str
    action: str


class Lifecycle:
    """Changes of keys. Each is durable when it returns."""

    def __init__(self, rows: KeyRows, store: KeyStore, withdrawn: Callable[[str], None]) -> None:
        """``withdrawn`` is told the id of each key that may be used no more, as soon as that is durable."""
        self._rows = rows
        self._unfinished = Unfinished(rows, store)
        self._withdrawn = withdrawn

    def create(
        self,
        account: str,
        policy: str,
        *,
        spec: KeySpec = KeySpec.SYMMETRIC,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Key:
        """A new key of the customer's, enabled. ``policy`` was accepted by ``KeyPolicies`` before."""
        _check_description(description)
        _check_tags(tags or {})
        key_id = self._insert(account, policy, KeyManager.CUSTOMER, description=description, spec=spec, tags=tags)
        return self._finished(key_id)

    def default_key(self, account: str, policy: str) -> Key:
        """The key that the service keeps for an account under ``alias/aws/bedrock``, made the first time."""
        aliases = self._rows.aliases(account)
        known = next((alias.key_id for alias in aliases if alias.name == DEFAULT_ALIAS), None)
        if known is None:
            known = self._insert(account, policy, KeyManager.AWS, description=DEFAULT_DESCRIPTION, alias=DEFAULT_ALIAS)
        key = self._rows.peek(known)
        return key if key is not None and key.state is not KeyState.CREATING else self._finished(known)

    def describe_as(self, key_id: str, description: str) -> None:
        """Set the description."""
        _check_description(description)
        with self._rows.database.transaction() as transaction:
            self._mutable(transaction, key_id)
            self._rows.update(transaction, key_id, description=description)

    def enable(self, key_id: str) -> None:
        """Make a disabled key usable again; nothing to do for an enabled one."""
        self._move(key_id, KeyState.ENABLED)

    def disable(self, key_id: str) -> None:
        """Stop every use of the key; what it protects stays as it is."""
        self._move(key_id, KeyState.DISABLED)
        self._withdrawn(key_id)

    def schedule_deletion(self, key_id: str, days: int = DELETION_DAYS_MAX) -> Key:
        """Stop every use of the key, and have ``reap`` destroy it ``days`` from now."""
        if not DELETION_DAYS_MIN <= days <= DELETION_DAYS_MAX:
            raise invalid(f"PendingWindowInDays is {DELETION_DAYS_MIN} to {DELETION_DAYS_MAX}, not {days}.")
        with self._rows.database.transaction() as transaction:
            key = self._mutable(transaction, key_id, any_state=True)
            require_edge(str(key.arn), key.state, KeyState.PENDING_DELETION)
            point("kms.schedule.begun")
            self._rows.update(
                transaction,
                key_id,
                state=KeyState.PENDING_DELETION.value,
                deletion_at=stamp(self._rows.now() + timedelta(days=days)),
                deletion_days=days,
            )
            point("kms.schedule.written")
        point("kms.schedule.committed")
        self._withdrawn(key_id)
        return self._known(key_id)

    def cancel_deletion(self, key_id: str) -> None:
        """Keep a key that was to be deleted; it is disabled afterwards."""
        with self._rows.database.transaction() as transaction:
            key = self._mutable(transaction, key_id, any_state=True)
            if key.state is not KeyState.PENDING_DELETION:
                raise wrong_state(str(key.arn), "is not pending deletion")
            require_edge(str(key.arn), key.state, KeyState.DISABLED)
            self._rows.update(transaction, key_id, state=KeyState.DISABLED.value, deletion_at=None, deletion_days=None)
            point("kms.cancel.written")

    def set_rotation(self, key_id: str, days: int | None) -> None:
        """Rotate every ``days`` from now on, or (``None``) no more."""
        if days is not None and not ROTATION_DAYS_MIN <= days <= ROTATION_DAYS_MAX:
            raise invalid(f"RotationPeriodInDays is {ROTATION_DAYS_MIN} to {ROTATION_DAYS_MAX}, not {days}.")
        with self._rows.database.transaction() as transaction:
            key = self._mutable(transaction, key_id, any_state=True)
            _require_rotatable(key)
            due = None if days is None else stamp(self._rows.now() + timedelta(days=days))
            self._rows.update(transaction, key_id, rotation_days=days, rotation_next=due)

    def rotate(self, key_id: str, kind: RotationKind = RotationKind.ON_DEMAND) -> Key:
        """Encrypt under a new version from now on; what older ones encrypted still decrypts."""
        with self._rows.database.transaction() as transaction:
            key = self._rows.read(transaction, key_id)
            if kind is RotationKind.ON_DEMAND:
                _require_customers(key)
                self._check_rotations(transaction, key)
            _require_rotatable(key)
            if key.rotating:
                raise KeyRefused("ConflictException", f"A rotation of {key.arn} is under way.")
            self._rows.update(transaction, key_id, rotating=kind.value)
            point("kms.rotate.begun")
        point("kms.rotate.promised")
        return self._finished(key_id)

    def tag(self, key_id: str, tags: Mapping[str, str]) -> None:
        """Add tags, or give those there are new values."""
        _check_tags(tags)
        with self._rows.database.transaction() as transaction:
            self._mutable(transaction, key_id)
            held = {
                row["name"] for row in transaction.query("SELECT name FROM kms_tags WHERE key_id = :id", {"id": key_id})
            }
            if len(held | set(tags)) > TAGS_MAX:
                raise KeyRefused("LimitExceededException", f"A key has at most {TAGS_MAX} tags.")
            _insert_tags(transaction, key_id, tags)

    def untag(self, key_id: str, names: list[str]) -> None:
        """Remove tags; one that is not there is no error."""
        with self._rows.database.transaction() as transaction:
            self._mutable(transaction, key_id)
            for name in names:
                transaction.execute(
                    "DELETE FROM kms_tags WHERE key_id = :id AND name = :name", {"id": key_id, "name": name}
                )

    def finish(self) -> None:
        """Do what a crash left undone. For the start of a process."""
        self._unfinished.finish_all()

    def reap(self, now: datetime) -> list[Reaped]:
        """Do what is due at ``now``: destroy keys whose waiting time is over, rotate those whose year is over."""
        self._unfinished.finish_all()
        done = []
        for key in self._rows.in_states(KeyState.PENDING_DELETION):
            if key.deletion_at is not None and key.deletion_at <= now and self._done(key, self._destroy, now):
                done.append(Reaped(key.key_id, str(key.arn), "destroyed"))
        for key in self._rows.due_for_rotation(now):
            if self._done(key, self._rotate_yearly, now):
                done.append(Reaped(key.key_id, str(key.arn), "rotated"))
        return done

    def _insert(
        self,
        account: str,
        policy: str,
        manager: KeyManager,
        *,
        description: str,
        spec: KeySpec = KeySpec.SYMMETRIC,
        tags: Mapping[str, str] | None = None,
        alias: str = "",
    ) -> str:
        key_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
        now = self._rows.now()
        yearly = manager is KeyManager.AWS
        with self._rows.database.transaction() as transaction:
            if alias:
                taken = transaction.query(
                    "SELECT key_id FROM kms_aliases WHERE account = :account AND name = :name",
                    {"account": account, "name": alias},
                )
                if taken:
                    return str(taken[0]["key_id"])
            transaction.execute(
                "INSERT INTO kms_keys (key_id, account, manager, usage, spec, state, description, policy, created_at,"
                " version, rotating, rotation_days, rotation_next) VALUES (:key_id, :account, :manager, :usage, :spec,"
                " :state, :description, :policy, :now, 0, '', :days, :next)",
                {
                    "key_id": key_id,
                    "account": account,
                    "manager": manager.value,
                    "usage": USAGES[spec].value,
                    "spec": spec.value,
                    "state": KeyState.CREATING.value,
                    "description": description,
                    "policy": policy,
                    "now": stamp(now),
                    "days": ROTATION_DAYS if yearly else None,
                    "next": stamp(now + timedelta(days=ROTATION_DAYS)) if yearly else None,
                },
            )
            _insert_tags(transaction, key_id, tags or {})
            if alias:
                insert_alias(transaction, account, alias, key_id, now)
            point("kms.create.begun")
        point("kms.create.promised")
        return key_id

    def _finished(self, key_id: str) -> Key:
        self._unfinished.finish(key_id)
        return self._known(key_id)

    def _done(self, key: Key, what: Callable[[str, datetime], bool], now: datetime) -> bool:
        """Whether it was done now; what fails is logged and stays due, and the other keys do not wait for it."""
        try:
            return what(key.key_id, now)
        except UserError as error:
            log.error("what is due for key %s is not done: %s", key.arn, error)
            return False

    def _rotate_yearly(self, key_id: str, now: datetime) -> bool:
        self.rotate(key_id, RotationKind.AUTOMATIC)
        return True

    def _destroy(self, key_id: str, now: datetime) -> bool:
        """Destroy a key that is still due: from the first commit on nothing keeps it."""
        with self._rows.database.transaction() as transaction:
            key = self._rows.read(transaction, key_id)
            if key.state is not KeyState.PENDING_DELETION or key.deletion_at is None or key.deletion_at > now:
                return False
            require_edge(str(key.arn), key.state, KeyState.DESTROYING)
            self._rows.update(transaction, key_id, state=KeyState.DESTROYING.value)
        point("kms.delete.promised")
        self._withdrawn(key_id)
        self._unfinished.finish(key_id)
        return True

    def _check_rotations(self, transaction: Transaction, key: Key) -> None:
        count = transaction.query(
            "SELECT count(*) AS count FROM kms_versions WHERE key_id = :id AND kind = 'ON_DEMAND'", {"id": key.key_id}
        )[0]["count"]
        if count >= ON_DEMAND_ROTATIONS_MAX:
            raise KeyRefused(
                "LimitExceededException", f"{key.arn} was rotated on demand {count} times, the most there may be."
            )

    def _move(self, key_id: str, target: KeyState) -> None:
        with self._rows.database.transaction() as transaction:
            key = self._mutable(transaction, key_id)
            if key.state is not target:
                require_edge(str(key.arn), key.state, target)
                self._rows.update(transaction, key_id, state=target.value)
            point(f"kms.{'enable' if target is KeyState.ENABLED else 'disable'}.written")

    def _mutable(self, transaction: Transaction, key_id: str, *, any_state: bool = False) -> Key:
        """The key, if its owner may change it: not the service's own, and (mostly) not while it waits for its end."""
        key = self._rows.read(transaction, key_id)
        _require_customers(key)
        if not any_state and key.state not in (KeyState.ENABLED, KeyState.DISABLED):
            raise unusable(str(key.arn), key.state)
        return key

    def _known(self, key_id: str) -> Key:
        key = self._rows.peek(key_id)
        if key is None:
            raise no_key(key_id)
        return key


def insert_alias(transaction: Transaction, account: str, name: str, key_id: str, now: datetime) -> None:
    """A new row of the aliases; the caller has seen that the name is free."""
    transaction.execute(
        "INSERT INTO kms_aliases VALUES (:account, :name, :key_id, :now, :now)",
        {"account": account, "name": name, "key_id": key_id, "now": stamp(now)},
    )


def _insert_tags(transaction: Transaction, key_id: str, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        transaction.execute(
            "INSERT INTO kms_tags VALUES (:id, :name, :value) ON CONFLICT (key_id, name) DO UPDATE SET value = :value",
            {"id": key_id, "name": name, "value": value},
        )


def _require_customers(key: Key) -> None:
    if key.manager is KeyManager.AWS:
        raise KeyRefused(
            "AccessDeniedException",
            f"{key.arn} is the service's own key for this account: it can be read about and not changed.",
            f"Create a key and an alias other than {ALIAS_PREFIX}aws/….",
        )


def _require_rotatable(key: Key) -> None:
    if key.state is not KeyState.ENABLED:
        raise unusable(str(key.arn), key.state)
    if key.spec is not KeySpec.SYMMETRIC:
        raise unsupported(f"{key.arn} is of the kind {key.spec}, which is not rotated.")


def _check_description(description: str) -> None:
    if len(description) > DESCRIPTION_CHARS_MAX:
        raise invalid(f"A description has at most {DESCRIPTION_CHARS_MAX} characters.")


def _check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > TAGS_MAX:
        raise KeyRefused("LimitExceededException", f"A key has at most {TAGS_MAX} tags.")
    for name, value in tags.items():
        if not 1 <= len(name) <= 128 or len(value) > 256 or name.lower().startswith("aws:"):
            raise KeyRefused(
                "TagException", "A tag's key has 1 to 128 characters and does not begin with aws:, its value up to 256."
            )
        if _LOOKS_SECRET.search(name) or _LOOKS_SECRET.search(value):
            raise KeyRefused("TagException", "A tag is not a place for secrets, and this one looks like a credential.")
