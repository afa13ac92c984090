"""What users, groups and roles hold: inline policies, attached managed policies, and a permissions boundary."""

from __future__ import annotations

from typing import Literal

from outcrop.base.errors import NotFound, StillInUse, UserError
from outcrop.base.tables import Transaction
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.documents import checked
from outcrop.trust.identity.managed import aws_managed, find_policy
from outcrop.trust.identity.names import entity_name
from outcrop.trust.identity.part import Part, Reader
from outcrop.trust.policy import PolicyRole, size

HolderKind = Literal["user", "group", "role"]


class Holdings(Part):
    """The policies of every user, group and role."""

    def put_inline(self, account: str, kind: HolderKind, name: str, policy: str, document: str) -> None:
        """Write an inline policy or replace it; all of one holder count together against its quota."""
        with self._change("inline.put") as transaction:
            entity_name("policy", policy)
            row = entities.find(transaction, account, kind, name)
            quota = (f"PolicySizePer{kind.title()}", limits.INLINE_CHARACTERS[kind])
            checked(document, PolicyRole.IDENTITY, policy, quota, row["partition"])
            held = _inline(transaction, row["id"])
            total = size(document) + sum(size(text) for other, text in held.items() if other != policy)
            entities.within(total, quota[1], quota[0])
            transaction.execute(
                "INSERT INTO inline_policies (entity, name, document) VALUES (:id, :name, :document) "
                "ON CONFLICT (entity, name) DO UPDATE SET document = excluded.document",
                {"id": row["id"], "name": policy, "document": document},
            )

    def inline(self, account: str, kind: HolderKind, name: str) -> dict[str, str]:
        """The inline policies of a holder: documents by name, in order of name."""
        return _inline(self._database, entities.find(self._database, account, kind, name)["id"])

    def get_inline(self, account: str, kind: HolderKind, name: str, policy: str) -> str:
        """The document of one inline policy, or ``NotFound``."""
        document = self.inline(account, kind, name).get(policy)
        if document is None:
            raise _no_inline(kind, policy)
        return document

    def delete_inline(self, account: str, kind: HolderKind, name: str, policy: str) -> None:
        """Delete one inline policy, or ``NotFound``."""
        with self._change("inline.delete") as transaction:
            row = entities.find(transaction, account, kind, name)
            deleted = transaction.execute(
                "DELETE FROM inline_policies WHERE entity = :id AND name = :name", {"id": row["id"], "name": policy}
            )
            if not deleted:
                raise _no_inline(kind, policy)

    def attach(self, account: str, kind: HolderKind, name: str, arn: str) -> None:
        """Attach a managed policy of the account's own or of AWS's; attached already is no mistake."""
        with self._change("attachment.attach") as transaction:
            row = entities.find(transaction, account, kind, name)
            attachable(transaction, account, arn)
            held = _attached(transaction, row["id"])
            if arn not in held:
                entities.within(len(held) + 1, limits.ATTACHED_POLICIES, f"PoliciesPer{kind.title()}")
                transaction.execute(
                    "INSERT INTO attachments (entity, policy_arn) VALUES (:id, :arn)", {"id": row["id"], "arn": arn}
                )

    def detach(self, account: str, kind: HolderKind, name: str, arn: str) -> None:
        """Detach a managed policy, or ``NotFound``."""
        with self._change("attachment.detach") as transaction:
            row = entities.find(transaction, account, kind, name)
            if not transaction.execute(
                "DELETE FROM attachments WHERE entity = :id AND policy_arn = :arn", {"id": row["id"], "arn": arn}
            ):
                raise NotFound(f"Policy {arn} was not found.")

    def attached(self, account: str, kind: HolderKind, name: str) -> list[str]:
        """The ARNs of the attached managed policies, in order."""
        return _attached(self._database, entities.find(self._database, account, kind, name)["id"])

    def put_boundary(self, account: str, kind: Literal["user", "role"], name: str, arn: str) -> None:
        """Let the managed policy ``arn`` bound what a user or role may do at most."""
        with self._change("boundary.put") as transaction:
            row = entities.find(transaction, account, kind, name)
            attachable(transaction, account, arn)
            transaction.execute("UPDATE entities SET boundary = :arn WHERE id = :id", {"arn": arn, "id": row["id"]})

    def delete_boundary(self, account: str, kind: Literal["user", "role"], name: str) -> None:
        """Remove the boundary; without one this is no mistake."""
        with self._change("boundary.delete") as transaction:
            row = entities.find(transaction, account, kind, name)
            transaction.execute("UPDATE entities SET boundary = NULL WHERE id = :id", {"id": row["id"]})


def attachable(reader: Reader, account: str, arn: str) -> None:
    """Raise ``NotFound`` unless ``account`` may attach the managed policy ``arn``."""
    ours = aws_managed(reader, account, arn)
    if ours is None:
        try:
            find_policy(reader, account, arn)
        except NotFound:
            raise NotFound(f"Policy {arn} does not exist or is not attachable.") from None
        except UserError:
            raise UserError(f"ARN {arn} is not valid.") from None


def checked_boundary(reader: Reader, account: str, arn: str | None) -> str | None:
    """``arn`` if a new entity of ``account`` may have it as its boundary; none at all is well, too."""
    if arn is not None:
        attachable(reader, account, arn)
    return arn


def must_hold_nothing(transaction: Transaction, identifier: str) -> None:
    """Raise ``StillInUse`` while an entity has policies, in IAM's words and order."""
    if _attached(transaction, identifier):
        raise StillInUse("Cannot delete entity, must detach all policies first.")
    if _inline(transaction, identifier):
        raise StillInUse("Cannot delete entity, must delete policies first.")


def release(transaction: Transaction, identifier: str) -> None:
    """Take all policies from an entity."""
    transaction.execute("DELETE FROM attachments WHERE entity = :id", {"id": identifier})
    transaction.execute("DELETE FROM inline_policies WHERE entity = :id", {"id": identifier})


def _inline(reader: Reader, identifier: str) -> dict[str, str]:
    rows = reader.query(
        "SELECT name, document FROM inline_policies WHERE entity = :id ORDER BY name", {"id": identifier}
    )
    return {row["name"]: row["document"] for row in rows}


def _attached(reader: Reader, identifier: str) -> list[str]:
    rows = reader.query("SELECT policy_arn FROM attachments WHERE entity = :id ORDER BY policy_arn", {"id": identifier})
    return [row["policy_arn"] for row in rows]


def _no_inline(kind: str, policy: str) -> NotFound:
    return NotFound(f"The {kind} policy with name {policy} cannot be found.")
