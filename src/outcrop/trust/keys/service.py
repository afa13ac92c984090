"""Keys as the house uses them: one object that holds the parts, each with its own rules.

``rows`` finds keys, ``lifecycle`` changes them, ``ciphers`` uses them, ``aliases``, ``grants`` and ``policies`` say
what they are called and who may use them. Nothing here knows who is calling: the service decides that first.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from outcrop.base.clock import Clock
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores import KeyStore
from outcrop.trust.keys.aliases import Aliases
from outcrop.trust.keys.ciphers import Ciphers
from outcrop.trust.keys.grants import Grants
from outcrop.trust.keys.lifecycle import Lifecycle, Reaped
from outcrop.trust.keys.policies import KeyPolicies
from outcrop.trust.keys.records import Context, Key
from outcrop.trust.keys.rows import KeyRows
from outcrop.trust.keys.states import GONE
from outcrop.trust.policy import Policy, Requester


class KeyService:
    """The KMS keys of every account of one deployment, over its database and its key store."""

    def __init__(self, database: Database, store: KeyStore, clock: Clock, partition: str, region: str) -> None:
        """Finishes what a crash of an earlier process cut short."""
        self._on_withdrawal: list[Callable[[str], None]] = []
        self.rows = KeyRows(database, clock, partition, region)
        self.lifecycle = Lifecycle(self.rows, store, self._withdrawn)
        self.ciphers = Ciphers(self.rows, store)
        self.aliases = Aliases(self.rows)
        self.grants = Grants(self.rows)
        self.policies = KeyPolicies(self.rows, self.grants)
        self.store = store
        self.lifecycle.finish()

    def find(self, named: str, account: str, *, alias: bool = True) -> Key:
        """The key that a request of ``account`` calls ``named``; see ``KeyRows.find``."""
        return self.rows.find(named, account, alias=alias)

    def default_key(self, account: str) -> Key:
        """The key for what an account names no key for, ``alias/aws/bedrock``; made at its first use."""
        return self.lifecycle.default_key(account, self.policies.of_default_key(account))

    def resource_policy(
        self, key_arn: str, requester: Requester | None = None, action: str = "", context: Context | None = None
    ) -> Policy | None:
        """The policy that bears on a request for the key of this ARN; ``None`` where there is no such key.

        With ``requester`` and ``action`` (``kms:Name``), a grant that fits them is part of it. Use it with
        ``Layers.resource_required``. Raises ``PolicyRefused`` for a stored policy that cannot be read.
        """
        key = self._of_arn(key_arn)
        if key is None:
            return None
        return self.policies.bearing_on(key, requester, action, context)

    def grants_allow(self, key_arn: str, requester: Requester, action: str, context: Context | None = None) -> bool:
        """Whether a grant on the key lets ``requester`` do ``action`` (``kms:Name``) with this encryption context."""
        key = self._of_arn(key_arn)
        operation = action.removeprefix("kms:")
        return key is not None and self.grants.allowing(key, requester, operation, context) is not None

    def reap(self, now: datetime) -> list[Reaped]:
        """Destroy and rotate what is due at ``now``; for the service to call now and then."""
        return self.lifecycle.reap(now)

    def on_withdrawal(self, listener: Callable[[str], None]) -> None:
        """Have ``listener`` called with the id of each key that this process disables or schedules for deletion."""
        self._on_withdrawal.append(listener)

    def _withdrawn(self, key_id: str) -> None:
        for listener in self._on_withdrawal:
            listener(key_id)

    def _of_arn(self, arn: str) -> Key | None:
        key = self.rows.peek(arn.rpartition("/")[2])
        return key if key is not None and str(key.arn) == arn and key.state not in GONE else None
