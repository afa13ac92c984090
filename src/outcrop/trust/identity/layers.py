"""Every policy that bears on a principal, compiled and kept: ``layers_of`` is asked once for each request.

Documents are compiled once per text; the layers of a principal are kept until anything about identities changes, by
any process. What cannot be found or read is named in ``Layers.unreadable``, which makes every decision a denial: a user
or role that is gone, a session policy that is not there, a document that an older or newer Outcrop stored.

Not covered: resource policies, which their owners add, and service-linked roles.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from outcrop.base.errors import NotFound, UserError
from outcrop.base.tables import Database, Row
from outcrop.trust.identity import entities
from outcrop.trust.identity.changes import Changes
from outcrop.trust.identity.controls import RCP, RCP_FULL_AWS_ACCESS, ROLES, SCP, control_documents, levels_of
from outcrop.trust.identity.credentials import Principal
from outcrop.trust.identity.managed import default_document
from outcrop.trust.identity.records import ControlKind
from outcrop.trust.identity.tags import tags_of
from outcrop.trust.policy import Layers, Policy, PolicyRefused, PolicyRole, Requester, RequesterKind, compile_policy

COMPILED_MAX = 8192
PRINCIPALS_MAX = 4096

_Levels = tuple[tuple[Policy, ...], ...]


class LayerCache:
    """The layers of every principal that asked lately; any thread may use it."""

    def __init__(self, database: Database, changes: Changes) -> None:
        self._database = database
        self._changes = changes
        self._compiled: dict[tuple[PolicyRole, str, str, str], Policy | str] = {}
        self._kept: tuple[int, dict[object, Layers]] = (-1, {})
        self._tags: tuple[int, dict[str, dict[str, str]]] = (-1, {})

    def layers_of(self, principal: Principal, resource_account: str = "") -> Layers:
        """The layers of ``principal``; resource control policies are those of ``resource_account`` (its own)."""
        count = self._changes.count()
        kept_at, kept = self._kept
        if kept_at != count or len(kept) > PRINCIPALS_MAX:
            kept = {}
            self._kept = (count, kept)
        key = _key(principal, resource_account)
        found = kept.get(key)
        if found is None:
            # The policies are read after the count: a change in between shows with the next count.
            found = kept[key] = self._read(principal, resource_account or principal.account)
        return found

    def principal_tags(self, principal: Principal) -> dict[str, str]:
        """The values of ``aws:PrincipalTag/…``: the user's or role's tags, those of the session above them."""
        if principal.kind in ("root", "anonymous"):
            return {}
        count = self._changes.count()
        kept_at, kept = self._tags
        if kept_at != count or len(kept) > PRINCIPALS_MAX:
            kept = {}
            self._tags = (count, kept)
        identifier = _entity_id(principal)
        tags = kept.get(identifier)
        if tags is None:
            tags = kept[identifier] = tags_of(self._database, identifier)
        if principal.session is None or not principal.session.tags:
            return tags
        named = {key.casefold() for key in principal.session.tags}
        return {key: value for key, value in tags.items() if key.casefold() not in named} | dict(principal.session.tags)

    def _read(self, principal: Principal, resource_account: str) -> Layers:
        if principal.kind == "anonymous":
            return Layers(rcps=self._levels(RCP, resource_account, []))
        unreadable: list[str] = []
        identity: list[Policy] = []
        boundary: Policy | None = None
        if principal.kind != "root":
            row = entities.by_id(self._database, _entity_id(principal))
            if row is None or row["account"] != principal.account or row["kind"] != principal.kind:
                unreadable.append(f"{principal.kind} {_entity_id(principal)}, which is gone")
            else:
                identity = list(self._identity(row, unreadable))
                boundary = self._boundary(row, unreadable)
                if _revoked(principal, row):
                    unreadable.append(f"a session of {row['name']} from before {row['revoked_before']}")
        return Layers(
            identity=tuple(identity),
            boundary=boundary,
            session=self._session(principal, unreadable),
            scps=self._levels(SCP, principal.account, unreadable),
            rcps=self._levels(RCP, resource_account, unreadable),
            unreadable=tuple(unreadable),
        )

    def _identity(self, row: Row, unreadable: list[str]) -> Iterator[Policy]:
        holders = [row["id"]]
        if row["kind"] == "user":
            memberships = self._database.query(
                "SELECT group_id FROM memberships WHERE user_id = :id ORDER BY group_id", {"id": row["id"]}
            )
            holders += [membership["group_id"] for membership in memberships]
        partition = row["partition"]
        for holder in holders:
            for inline in self._database.query(
                "SELECT name, document FROM inline_policies WHERE entity = :id ORDER BY name", {"id": holder}
            ):
                yield from self._one(inline["document"], PolicyRole.IDENTITY, inline["name"], partition, unreadable)
            for attached in self._database.query(
                "SELECT policy_arn FROM attachments WHERE entity = :id ORDER BY policy_arn", {"id": holder}
            ):
                yield from self._managed(attached["policy_arn"], row, PolicyRole.IDENTITY, unreadable)

    def _boundary(self, row: Row, unreadable: list[str]) -> Policy | None:
        if row["boundary"] is None:
            return None
        return next(self._managed(row["boundary"], row, PolicyRole.BOUNDARY, unreadable), None)

    def _session(self, principal: Principal, unreadable: list[str]) -> tuple[Policy, ...] | None:
        session = principal.session
        if session is None or not (session.policies or session.policy_arns):
            return None
        partition = principal.arn.partition
        found: list[Policy] = []
        for number, text in enumerate(session.policies, 1):
            found += self._one(text, PolicyRole.SESSION, f"session policy {number}", partition, unreadable)
        for arn in session.policy_arns:
            document = self._document(arn, principal.account, unreadable)
            if document is not None:
                found += self._one(document, PolicyRole.SESSION, arn, partition, unreadable)
        return tuple(found)

    def _managed(self, arn: str, row: Row, role: PolicyRole, unreadable: list[str]) -> Iterator[Policy]:
        document = self._document(arn, row["account"], unreadable)
        if document is not None:
            yield from self._one(document, role, arn, row["partition"], unreadable)

    def _document(self, arn: str, account: str, unreadable: list[str]) -> str | None:
        try:
            return default_document(self._database, account, arn)
        except (NotFound, UserError):
            unreadable.append(arn)
            return None

    def _levels(self, kind: ControlKind, account: str, unreadable: list[str]) -> _Levels:
        levels = []
        for target in levels_of(self._database, account):
            policies: list[Policy] = []
            if kind == RCP:
                policies += self._one(RCP_FULL_AWS_ACCESS, PolicyRole.RCP, "RCPFullAWSAccess", "aws", unreadable)
            for policy in control_documents(self._database, target):
                if policy.kind == kind:
                    policies += self._one(policy.document, ROLES[kind], policy.name, "aws", unreadable)
            levels.append(tuple(policies))
        return tuple(levels)

    def _one(
        self, document: str, role: PolicyRole, name: str, partition: str, unreadable: list[str]
    ) -> Iterator[Policy]:
        """The policy, compiled once; nothing and a name among ``unreadable`` when it is not understood."""
        key = (role, document, name, partition)
        found = self._compiled.get(key)
        if found is None:
            if len(self._compiled) >= COMPILED_MAX:
                self._compiled = {}
            try:
                found = compile_policy(document, role, name, partition)
            except PolicyRefused:
                found = name
            self._compiled[key] = found
        if isinstance(found, str):
            unreadable.append(found)
        else:
            yield found


def requester_of(principal: Principal) -> Requester:
    """``principal`` as the decision knows it."""
    if principal.kind == "anonymous":
        return Requester(RequesterKind.ANONYMOUS)
    if principal.kind == "role":
        role_arn = "" if principal.session is None else principal.session.role_arn
        return Requester(RequesterKind.SESSION, principal.account, str(principal.arn), role_arn)
    kind = RequesterKind.ROOT if principal.kind == "root" else RequesterKind.USER
    return Requester(kind, principal.account, str(principal.arn))


def _entity_id(principal: Principal) -> str:
    """The id of the user or role itself: a session's is ``ROLEID:NAME``."""
    return principal.user_id.partition(":")[0]


def _revoked(principal: Principal, row: Row) -> bool:
    session = principal.session
    if session is None or not session.role_arn or row["revoked_before"] is None:
        return False
    return session.issued_at < datetime.fromisoformat(row["revoked_before"])


def _key(principal: Principal, resource_account: str) -> object:
    session = principal.session
    if session is None:
        return (principal.kind, principal.account, principal.user_id, resource_account)
    return (
        principal.kind,
        principal.account,
        principal.user_id,
        resource_account,
        session.policies,
        session.policy_arns,
        session.issued_at,
    )
