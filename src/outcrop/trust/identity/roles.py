"""Roles: who may assume them (the trust policy), for how long, and from when on older sessions are worth nothing.

Not covered: roles that a service makes for itself (service-linked roles); a service role here is an ordinary one whose
trust policy names the service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from outcrop.base.errors import UserError
from outcrop.base.tables import Row, Value
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.documents import checked
from outcrop.trust.identity.holdings import checked_boundary, must_hold_nothing
from outcrop.trust.identity.part import Part
from outcrop.trust.identity.records import Role
from outcrop.trust.identity.tags import Tags, put_tags, remove_tags, tags_of, tags_of_many
from outcrop.trust.policy import PolicyRole

DESCRIPTION_MAX = 1000


class Roles(Part):
    """The roles of every account."""

    def create(
        self,
        account: str,
        name: str,
        trust_policy: str,
        *,
        path: str = "/",
        description: str = "",
        max_session_s: int = limits.SESSION_S_MIN,
        boundary: str | None = None,
        tags: Tags = (),
    ) -> Role:
        """Make a role that those whom ``trust_policy`` names may assume; it may do nothing yet."""
        with self._change("role.create") as transaction:
            columns: dict[str, Value] = {
                "trust_policy": _checked_trust(trust_policy, name, entities.partition_of(transaction, account)),
                "description": _checked_description(description),
                "max_session_s": _checked_session(max_session_s),
                "boundary": checked_boundary(transaction, account, boundary),
            }
            row = entities.insert(transaction, account, "role", name, path=path, now=self._now(), columns=columns)
            put_tags(transaction, row["id"], tags)
            return _role(row, tags_of(transaction, row["id"]))

    def get(self, account: str, name: str) -> Role:
        """The role of this name, or ``NotFound``."""
        row = entities.find(self._database, account, "role", name)
        return _role(row, tags_of(self._database, row["id"]))

    def all(self, account: str, path_prefix: str = "/") -> list[Role]:
        """The roles of an account by name."""
        tags = tags_of_many(
            self._database,
            "resource IN (SELECT id FROM entities WHERE account = :account AND kind = 'role')",
            {"account": account},
        )
        rows = entities.listed(self._database, account, "role", path_prefix)
        return [_role(row, tags.get(row["id"], {})) for row in rows]

    def update(self, account: str, name: str, description: str | None = None, max_session_s: int | None = None) -> Role:
        """Change what is given, leave the rest."""
        with self._change("role.update") as transaction:
            row = entities.find(transaction, account, "role", name)
            transaction.execute(
                "UPDATE entities SET description = :description, max_session_s = :seconds WHERE id = :id",
                {
                    "description": row["description"] if description is None else _checked_description(description),
                    "seconds": row["max_session_s"] if max_session_s is None else _checked_session(max_session_s),
                    "id": row["id"],
                },
            )
        return self.get(account, name)

    def set_trust_policy(self, account: str, name: str, trust_policy: str) -> None:
        """Change who may assume the role; sessions that there are go on."""
        with self._change("role.trust") as transaction:
            row = entities.find(transaction, account, "role", name)
            transaction.execute(
                "UPDATE entities SET trust_policy = :document WHERE id = :id",
                {"document": _checked_trust(trust_policy, name, row["partition"]), "id": row["id"]},
            )

    def revoke(self, account: str, name: str, before: datetime | None = None) -> Role:
        """Make every session of the role that was issued before ``before`` (now) worthless; never an earlier time.

        Sessions know their issue to the second, so those of the same second end as well.
        """
        at = (before or self._clock.now()).isoformat(timespec="milliseconds")
        with self._change("role.revoke") as transaction:
            row = entities.find(transaction, account, "role", name)
            transaction.execute(
                "UPDATE entities SET revoked_before = :at WHERE id = :id",
                {"at": max(at, row["revoked_before"] or ""), "id": row["id"]},
            )
        return self.get(account, name)

    def delete(self, account: str, name: str) -> None:
        """Delete a role without policies, or ``StillInUse``; its sessions are worth nothing from then on."""
        with self._change("role.delete") as transaction:
            row = entities.find(transaction, account, "role", name)
            must_hold_nothing(transaction, row["id"])
            entities.delete(transaction, row["id"])

    def tag(self, account: str, name: str, tags: Tags) -> None:
        """Add or replace tags."""
        with self._change("role.tag") as transaction:
            put_tags(transaction, entities.find(transaction, account, "role", name)["id"], tags)

    def untag(self, account: str, name: str, keys: Sequence[str]) -> None:
        """Take tags away."""
        with self._change("role.untag") as transaction:
            remove_tags(transaction, entities.find(transaction, account, "role", name)["id"], keys)


def _role(row: Row, tags: Mapping[str, str]) -> Role:
    return Role(
        *entities.common(row),
        trust_policy=row["trust_policy"],
        description=row["description"],
        max_session_s=row["max_session_s"],
        boundary=row["boundary"],
        tags=tags,
        revoked_before=row["revoked_before"],
    )


def _checked_trust(document: str, name: str, partition: str) -> str:
    quota = ("ACLSizePerRole", limits.TRUST_POLICY_CHARACTERS)
    return checked(document, PolicyRole.TRUST, name, quota, partition)


def _checked_description(text: str) -> str:
    if len(text) > DESCRIPTION_MAX:
        raise UserError(f"A description has at most {DESCRIPTION_MAX} characters; {len(text)} were given.")
    return text


def _checked_session(seconds: int) -> int:
    if not limits.SESSION_S_MIN <= seconds <= limits.SESSION_S_MAX:
        raise UserError(
            f"The role's maximum session duration cannot be {seconds} s.",
            f"Choose from {limits.SESSION_S_MIN} to {limits.SESSION_S_MAX} seconds.",
        )
    return seconds
