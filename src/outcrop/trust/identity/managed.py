"""Managed policies with their versions, and where they are attached.

AWS's own managed policies of the names that platforms refer to are data beside this module (``aws_managed.json``): the
names are AWS's public ones, the documents were written for Outcrop from their public descriptions and cover the
services that stand here. Not covered: any other AWS managed policy; it is not found, and attaches to nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from outcrop.base.arn import AccountId, Arn
from outcrop.base.errors import NotFound, StillInUse, UserError
from outcrop.base.tables import Row, Transaction, Value
from outcrop.trust.crypto import sha256_hex
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.documents import checked
from outcrop.trust.identity.part import Part, Reader
from outcrop.trust.identity.records import ManagedPolicy, PolicyVersion
from outcrop.trust.identity.tags import Tags, put_tags, remove_tags, tags_of, tags_of_many
from outcrop.trust.policy import PolicyRole

AWS_MANAGED_AT = "2026-01-01T00:00:00.000+00:00"
_AWS_MANAGED = Path(__file__).with_name("aws_managed.json")
_COUNTS = """SELECT policy_arn AS arn, count(*) AS attached, 0 AS bounds FROM attachments
    JOIN entities ON entities.id = entity WHERE account = :account GROUP BY policy_arn
    UNION ALL SELECT boundary, 0, count(*) FROM entities
    WHERE account = :account AND boundary IS NOT NULL GROUP BY boundary"""


@dataclass(frozen=True, slots=True)
class AwsManaged:
    """One policy of ``aws_managed.json``."""

    name: str
    path: str
    description: str
    document: str


@dataclass(frozen=True, slots=True)
class Holder:
    """An entity that a policy is attached to, or whose boundary it is."""

    kind: Literal["user", "group", "role"]
    name: str
    id: str
    path: str
    as_boundary: bool


class Policies(Part):
    """The managed policies of every account, and AWS's."""

    def create(
        self, account: str, name: str, document: str, *, path: str = "/", description: str = "", tags: Tags = ()
    ) -> ManagedPolicy:
        """Make a policy with its first version, ``v1``."""
        with self._change("policy.create") as transaction:
            columns: dict[str, Value] = {"description": description, "versions_made": 1, "updated_at": self._now()}
            _checked_document(document, name, entities.partition_of(transaction, account))
            row = entities.insert(transaction, account, "policy", name, path=path, now=self._now(), columns=columns)
            _insert_version(transaction, row["id"], 1, document, default=True, now=self._now())
            put_tags(transaction, row["id"], tags)
        return self.get(account, str(entities.arn_of(row)))

    def get(self, account: str, arn: str) -> ManagedPolicy:
        """The policy of this ARN as ``account`` sees it, or ``NotFound``."""
        counts = self._counts(account).get(arn, (0, 0))
        ours = aws_managed(self._database, account, arn)
        if ours is not None:
            return _aws_record(Arn.parse(arn), ours, counts)
        row = find_policy(self._database, account, arn)
        return _record(row, self._default(row["id"]), counts, tags_of(self._database, row["id"]))

    def all(self, account: str, scope: Literal["All", "AWS", "Local"] = "All") -> list[ManagedPolicy]:
        """The policies that ``account`` may attach, by name: its own, AWS's or both."""
        counts = self._counts(account)
        found = []
        if scope != "AWS":
            defaults = {
                row["policy"]: row["version"]
                for row in self._database.query(
                    "SELECT policy, version FROM policy_versions JOIN entities ON entities.id = policy "
                    "WHERE account = :account AND is_default = 1",
                    {"account": account},
                )
            }
            tags = tags_of_many(
                self._database,
                "resource IN (SELECT id FROM entities WHERE account = :account AND kind = 'policy')",
                {"account": account},
            )
            for row in entities.listed(self._database, account, "policy"):
                count = counts.get(str(entities.arn_of(row)), (0, 0))
                found.append(_record(row, defaults[row["id"]], count, tags.get(row["id"], {})))
        if scope != "Local":
            partition = entities.partition_of(self._database, account)
            for policy in aws_policies().values():
                arn = Arn(partition, "iam", "", "aws", f"policy{policy.path}{policy.name}")
                found.append(_aws_record(arn, policy, counts.get(str(arn), (0, 0))))
        return sorted(found, key=lambda policy: (policy.name.lower(), str(policy.arn)))

    def delete(self, account: str, arn: str) -> None:
        """Delete a policy that is attached nowhere and has one version left, or ``StillInUse``."""
        with self._change("policy.delete") as transaction:
            row = _own(transaction, account, arn)
            if _holders(transaction, account, arn):
                raise StillInUse("Cannot delete a policy attached to entities.")
            if len(_versions(transaction, row["id"])) > 1:
                raise StillInUse(
                    "This policy has more than one version. Before you delete a policy, you must delete the policy's "
                    "versions. The default version is deleted with the policy."
                )
            transaction.execute("DELETE FROM policy_versions WHERE policy = :id", {"id": row["id"]})
            entities.delete(transaction, row["id"])

    def create_version(self, account: str, arn: str, document: str, *, set_default: bool = False) -> PolicyVersion:
        """Add a version; five at most, and a number is never used again."""
        with self._change("policy.create_version") as transaction:
            row = _own(transaction, account, arn)
            _checked_document(document, row["name"], row["partition"])
            if len(_versions(transaction, row["id"])) >= limits.POLICY_VERSIONS:
                entities.within(limits.POLICY_VERSIONS + 1, limits.POLICY_VERSIONS, "VersionsPerPolicy")
            number = row["versions_made"] + 1
            _insert_version(transaction, row["id"], number, document, default=False, now=self._now())
            transaction.execute(
                "UPDATE entities SET versions_made = :number, updated_at = :now WHERE id = :id",
                {"number": number, "now": self._now(), "id": row["id"]},
            )
            if set_default:
                _set_default(transaction, row["id"], number)
        return self.version(account, arn, f"v{number}")

    def versions(self, account: str, arn: str) -> Sequence[PolicyVersion]:
        """The versions of a policy, newest first."""
        ours = aws_managed(self._database, account, arn)
        if ours is not None:
            return [PolicyVersion("v1", ours.document, True, AWS_MANAGED_AT)]
        return _versions(self._database, find_policy(self._database, account, arn)["id"])

    def version(self, account: str, arn: str, version_id: str) -> PolicyVersion:
        """One version, or ``NotFound``."""
        return _one_version(self.versions(account, arn), arn, version_id)

    def set_default_version(self, account: str, arn: str, version_id: str) -> None:
        """Let ``version_id`` be the one that counts, with the next request."""
        with self._change("policy.set_default") as transaction:
            row = _own(transaction, account, arn)
            _one_version(_versions(transaction, row["id"]), arn, version_id)
            _set_default(transaction, row["id"], int(version_id[1:]))

    def delete_version(self, account: str, arn: str, version_id: str) -> None:
        """Delete a version that is not the default, or ``StillInUse``."""
        with self._change("policy.delete_version") as transaction:
            row = _own(transaction, account, arn)
            if _one_version(_versions(transaction, row["id"]), arn, version_id).is_default:
                raise StillInUse("Cannot delete the default version of a policy.")
            transaction.execute(
                "DELETE FROM policy_versions WHERE policy = :id AND version = :version",
                {"id": row["id"], "version": int(version_id[1:])},
            )

    def holders(self, account: str, arn: str) -> Sequence[Holder]:
        """Users, groups and roles of ``account`` that the policy is attached to or is the boundary of."""
        if aws_managed(self._database, account, arn) is None:
            find_policy(self._database, account, arn)
        return _holders(self._database, account, arn)

    def tag(self, account: str, arn: str, tags: Tags) -> None:
        """Add or replace tags."""
        with self._change("policy.tag") as transaction:
            put_tags(transaction, _own(transaction, account, arn)["id"], tags)

    def untag(self, account: str, arn: str, keys: Sequence[str]) -> None:
        """Take tags away."""
        with self._change("policy.untag") as transaction:
            remove_tags(transaction, _own(transaction, account, arn)["id"], keys)

    def _counts(self, account: str) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for row in self._database.query(_COUNTS, {"account": account}):
            attached, bounds = found.get(row["arn"], (0, 0))
            found[row["arn"]] = (attached + row["attached"], bounds + row["bounds"])
        return found

    def _default(self, identifier: str) -> int:
        rows = self._database.query(
            "SELECT version FROM policy_versions WHERE policy = :id AND is_default = 1", {"id": identifier}
        )
        return int(rows[0]["version"])


@cache
def aws_policies() -> Mapping[str, AwsManaged]:
    """AWS's managed policies that are known here, by path and name (``/AdministratorAccess``)."""
    found = {}
    for name, facts in json.loads(_AWS_MANAGED.read_bytes()).items():
        document = json.dumps(facts["document"], indent=2)
        found[facts["path"] + name] = AwsManaged(name, facts["path"], facts["description"], document)
    return found


def aws_managed(reader: Reader, account: str, arn: str) -> AwsManaged | None:
    """AWS's managed policy of this ARN as ``account`` writes it; ``None`` when it is not one known here.

    Each policy has one spelling: conditions on ``iam:PolicyARN`` compare the text that the request has.
    """
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2:5] != ["iam", "", "aws"] or not parts[5].startswith("policy/"):
        return None
    found = aws_policies().get(parts[5].removeprefix("policy"))
    return found if found is not None and parts[1] == entities.partition_of(reader, account) else None


def find_policy(reader: Reader, account: str, arn: str) -> Row:
    """The row of a policy of ``account``'s own, or ``NotFound``; another account's is not there for it.

    The name must be written as it was given, though it is unique in any case: see ``aws_managed``.
    """
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "iam" or not parts[5].startswith("policy/"):
        raise UserError(f"ARN {arn} is not valid.")
    try:
        row = entities.find(reader, account, "policy", parts[5].rpartition("/")[2])
    except NotFound:
        row = None
    if row is None or str(entities.arn_of(row)) != arn:
        raise NotFound(f"Policy {arn} was not found.")
    return row


def default_document(reader: Reader, account: str, arn: str) -> str:
    """The text of the version that counts, of ``account``'s own policy or of AWS's; ``NotFound`` else."""
    ours = aws_managed(reader, account, arn)
    if ours is not None:
        return ours.document
    rows = reader.query(
        "SELECT document FROM policy_versions WHERE policy = :id AND is_default = 1",
        {"id": find_policy(reader, account, arn)["id"]},
    )
    return str(rows[0]["document"])


def _own(reader: Reader, account: str, arn: str) -> Row:
    """A policy that ``account`` may change."""
    if aws_managed(reader, account, arn) is not None:
        raise UserError(f"Policy {arn} is managed by AWS and cannot be changed.")
    return find_policy(reader, account, arn)


def _checked_document(document: str, name: str, partition: str) -> None:
    checked(document, PolicyRole.IDENTITY, name, ("PolicySize", limits.POLICY_CHARACTERS), partition)


def _insert_version(
    transaction: Transaction, policy: str, number: int, document: str, *, default: bool, now: str
) -> None:
    transaction.execute(
        "INSERT INTO policy_versions (policy, version, document, is_default, created_at) "
        "VALUES (:policy, :version, :document, :is_default, :now)",
        {"policy": policy, "version": number, "document": document, "is_default": int(default), "now": now},
    )


def _set_default(transaction: Transaction, policy: str, number: int) -> None:
    transaction.execute(
        "UPDATE policy_versions SET is_default = CASE WHEN version = :version THEN 1 ELSE 0 END WHERE policy = :policy",
        {"policy": policy, "version": number},
    )


def _versions(reader: Reader, policy: str) -> list[PolicyVersion]:
    rows = reader.query("SELECT * FROM policy_versions WHERE policy = :id ORDER BY version DESC", {"id": policy})
    return [
        PolicyVersion(f"v{row['version']}", row["document"], bool(row["is_default"]), row["created_at"]) for row in rows
    ]


def _one_version(versions: Sequence[PolicyVersion], arn: str, version_id: str) -> PolicyVersion:
    for version in versions:
        if version.version_id == version_id:
            return version
    raise NotFound(f"Policy {arn} version {version_id} does not exist or is not attachable.")


def _holders(reader: Reader, account: str, arn: str) -> list[Holder]:
    rows = reader.query(
        """SELECT kind, name, id, path, 0 AS bound FROM entities JOIN attachments ON entity = entities.id
        WHERE account = :account AND policy_arn = :arn
        UNION ALL SELECT kind, name, id, path, 1 FROM entities WHERE account = :account AND boundary = :arn""",
        {"account": account, "arn": arn},
    )
    holders = [Holder(row["kind"], row["name"], row["id"], row["path"], bool(row["bound"])) for row in rows]
    return sorted(holders, key=lambda holder: (holder.as_boundary, holder.kind, holder.name.lower()))


def _record(row: Row, version: int, counts: tuple[int, int], tags: Mapping[str, str]) -> ManagedPolicy:
    return ManagedPolicy(
        *entities.common(row),
        description=row["description"],
        default_version=f"v{version}",
        updated_at=row["updated_at"],
        attachments=counts[0],
        boundary_uses=counts[1],
        tags=tags,
    )


def _aws_record(arn: Arn, policy: AwsManaged, counts: tuple[int, int]) -> ManagedPolicy:
    return ManagedPolicy(
        "ANPA" + sha256_hex(policy.name.encode())[:17].upper(),
        AccountId("aws"),
        arn,
        "policy",
        policy.name,
        policy.path,
        AWS_MANAGED_AT,
        description=policy.description,
        updated_at=AWS_MANAGED_AT,
        attachments=counts[0],
        boundary_uses=counts[1],
        aws_managed=True,
    )
