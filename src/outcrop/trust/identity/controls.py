"""Service and resource control policies: ceilings that an organisation sets for its accounts, roots included.

``FullAWSAccess`` is attached to every new target and may be taken off once another SCP is there, as in Organizations;
``RCPFullAWSAccess`` is attached everywhere and stays, so an RCP can only deny. Not covered: other kinds of
organisation policies (tags, backups, declarative ones).
"""

from __future__ import annotations

from collections.abc import Sequence

from outcrop.base.errors import AlreadyExists, NotFound, StillInUse, UserError
from outcrop.base.tables import Transaction
from outcrop.trust.crypto import random_lower_id
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.documents import checked
from outcrop.trust.identity.names import entity_name
from outcrop.trust.identity.organisation import FULL_AWS_ACCESS, no_target, path_to
from outcrop.trust.identity.part import Part, Reader
from outcrop.trust.identity.records import ControlKind, ControlPolicy
from outcrop.trust.policy import PolicyRole

SCP: ControlKind = "SERVICE_CONTROL_POLICY"
RCP: ControlKind = "RESOURCE_CONTROL_POLICY"
ROLES = {SCP: PolicyRole.SCP, RCP: PolicyRole.RCP}
RCP_FULL_AWS_ACCESS = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}'
)


class Controls(Part):
    """The organisation's service and resource control policies."""

    def put(self, kind: ControlKind, name: str, document: str, description: str = "") -> ControlPolicy:
        """Write a control policy, or another document for the one of this name and kind."""
        entity_name("policy", name)
        if name in ("FullAWSAccess", "RCPFullAWSAccess"):
            raise UserError(f"{name} is managed by AWS and cannot be changed.")
        checked(document, ROLES[kind], name, ("PolicySize", limits.CONTROL_POLICY_CHARACTERS))
        with self._change("control.put") as transaction:
            held = [policy for policy in _all(transaction) if policy.kind == kind]
            same = [policy.id for policy in held if policy.name == name]
            if same:
                transaction.execute(
                    "UPDATE control_policies SET document = :document, description = :description WHERE id = :id",
                    {"document": document, "description": description, "id": same[0]},
                )
                return _one(transaction, kind, same[0])
            entities.within(len(held) + 1, limits.CONTROL_POLICIES, "OrganizationPolicies")
            identifier = random_lower_id("p-", 8)
            transaction.execute(
                "INSERT INTO control_policies (id, kind, name, description, document, created_at) "
                "VALUES (:id, :kind, :name, :description, :document, :now)",
                {
                    "id": identifier,
                    "kind": kind,
                    "name": name,
                    "description": description,
                    "document": document,
                    "now": self._now(),
                },
            )
            return _one(transaction, kind, identifier)

    def get(self, kind: ControlKind, policy: str) -> ControlPolicy:
        """The control policy of this id or name, or ``NotFound``."""
        return _one(self._database, kind, policy)

    def all(self, kind: ControlKind) -> Sequence[ControlPolicy]:
        """The control policies of one kind by name."""
        return [policy for policy in _all(self._database) if policy.kind == kind]

    def attach(self, kind: ControlKind, policy: str, target: str) -> None:
        """Attach a control policy to the root (``root`` or its id), a unit or an account."""
        with self._change("control.attach") as transaction:
            found = _one(transaction, kind, policy)
            place = _target(transaction, target)
            if place in found.targets:
                raise AlreadyExists(f"{found.name} is attached to {place} already.")
            held = [other for other in _all(transaction) if other.kind == kind and place in other.targets]
            entities.within(len(held) + 1, limits.CONTROL_POLICIES_PER_TARGET, "PoliciesPerTarget")
            transaction.execute(
                "INSERT INTO control_attachments (policy, target) VALUES (:policy, :target)",
                {"policy": found.id, "target": place},
            )

    def detach(self, kind: ControlKind, policy: str, target: str) -> None:
        """Detach a control policy; the last SCP of a target stays, since none at all would allow nothing."""
        with self._change("control.detach") as transaction:
            found = _one(transaction, kind, policy)
            place = _target(transaction, target)
            if place not in found.targets:
                raise NotFound(f"{found.name} is not attached to {place}.")
            held = [other for other in _all(transaction) if other.kind == kind and place in other.targets]
            if kind == SCP and len(held) == 1:
                raise StillInUse(f"{found.name} is the last SCP of {place}.", "Attach another one first.")
            transaction.execute(
                "DELETE FROM control_attachments WHERE policy = :policy AND target = :target",
                {"policy": found.id, "target": place},
            )

    def delete(self, kind: ControlKind, policy: str) -> None:
        """Delete a control policy that is attached nowhere, or ``StillInUse``."""
        with self._change("control.delete") as transaction:
            found = _one(transaction, kind, policy)
            if found.aws_managed:
                raise UserError(f"{found.name} is managed by AWS and cannot be deleted.")
            if found.targets:
                raise StillInUse(f"{found.name} is attached to {', '.join(found.targets)}.", "Detach it first.")
            transaction.execute("DELETE FROM control_policies WHERE id = :id", {"id": found.id})


def levels_of(reader: Reader, account: str) -> list[str]:
    """The targets that bear on an account, from the root down; none outside the organisation or for its management."""
    rows = reader.query(
        "SELECT parent, management_account FROM accounts, organisation WHERE account = :account", {"account": account}
    )
    if not rows or not rows[0]["parent"] or rows[0]["management_account"] == account:
        return []
    return [*path_to(reader, rows[0]["parent"]), account]


def control_documents(reader: Reader, target: str) -> list[ControlPolicy]:
    """The control policies attached to one target."""
    return [policy for policy in _all(reader) if target in policy.targets]


def _all(reader: Reader) -> list[ControlPolicy]:
    targets: dict[str, list[str]] = {}
    for row in reader.query("SELECT policy, target FROM control_attachments ORDER BY target"):
        targets.setdefault(row["policy"], []).append(row["target"])
    return [
        ControlPolicy(
            row["id"],
            row["kind"],
            row["name"],
            row["description"],
            row["document"],
            tuple(targets.get(row["id"], ())),
            row["id"] == FULL_AWS_ACCESS,
        )
        for row in reader.query("SELECT * FROM control_policies ORDER BY name, id")
    ]


def _one(reader: Reader, kind: ControlKind, policy: str) -> ControlPolicy:
    for found in _all(reader):
        if found.kind == kind and policy in (found.id, found.name):
            return found
    raise NotFound(f"There is no {kind.replace('_', ' ').lower()} {policy}.")


def _target(transaction: Transaction, target: str) -> str:
    if target == "root":
        rows = transaction.query("SELECT root FROM organisation")
        if rows:
            return str(rows[0]["root"])
    parents = transaction.query("SELECT parent FROM accounts WHERE account = :account", {"account": target})
    if parents and parents[0]["parent"]:
        return target
    if parents:
        raise no_target(target)
    return path_to(transaction, target)[-1]
