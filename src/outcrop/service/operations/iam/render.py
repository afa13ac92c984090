"""IAM's records as its service model spells them, and lists cut into pages.

Policy documents go out percent-encoded (RFC 3986), as IAM sends them. Lists leave out what IAM's lists leave out: the
tags and the boundary of each entry, and a role's last use.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import quote

from outcrop.service.operations.iam.errors import validation
from outcrop.service.wire.generated import iam as shapes
from outcrop.trust.identity.records import (
    Group,
    IssuedServiceCredential,
    LastUse,
    ManagedPolicy,
    PolicyVersion,
    Role,
    ServiceCredential,
    User,
)

T = TypeVar("T")

PAGE = 100
"""How many entries a page has when the request does not say (IAM API Reference, ``MaxItems``)."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. ``marker`` asks for the next; ``None`` on the last page."""

    entries: list[T]
    marker: str | None

    @property
    def truncated(self) -> bool:
        return self.marker is not None


def page(entries: Sequence[T], name: Callable[[T], str], max_items: int | None, marker: str | None) -> Page[T]:
    """The page of ``entries``, in the order of their ``name``, after the entry that ``marker`` names."""
    after = "" if marker is None else _named_by(marker)
    rest = sorted((entry for entry in entries if name(entry) > after), key=name)
    size = max_items or PAGE
    more = len(rest) > size
    return Page(rest[:size], base64.b64encode(name(rest[size - 1]).encode()).decode() if more else None)


def numbered(entries: Sequence[T], max_items: int | None, marker: str | None) -> Page[T]:
    """The same for entries without a short name of their own: by their place in the list."""
    shown = page([*enumerate(entries)], lambda entry: f"{entry[0]:06}", max_items, marker)
    return Page([entry for _, entry in shown.entries], shown.marker)


def moment(text: str) -> datetime:
    """A time of the store to the second, as IAM shows times."""
    return datetime.fromisoformat(text).replace(microsecond=0)


def encoded(document: str) -> str:
    """A policy document as replies carry it."""
    return quote(document, safe="")


def tag_list(tags: Mapping[str, str]) -> list[shapes.Tag]:
    return [shapes.Tag(key=key, value=value) for key, value in tags.items()]


def tags_given(tags: Sequence[shapes.Tag] | None) -> list[tuple[str, str]]:
    return [(tag.key, tag.value) for tag in tags or ()]


def boundary(arn: str | None) -> shapes.AttachedPermissionsBoundary | None:
    if arn is None:
        return None
    return shapes.AttachedPermissionsBoundary(
        permissions_boundary_type="PermissionsBoundaryPolicy", permissions_boundary_arn=arn
    )


def status(active: bool) -> shapes.StatusType:
    return "Active" if active else "Inactive"


def is_active(asked: shapes.StatusType) -> bool:
    """The status that a request wants; only the end of its life makes a credential ``Expired``."""
    if asked == "Expired":
        raise validation("Status must be Active or Inactive: a credential expires at its end.")
    return asked == "Active"


def user(record: User, *, whole: bool = True) -> shapes.User:
    """A user; ``whole`` is what GetUser shows, else what lists do."""
    return shapes.User(
        path=record.path,
        user_name=record.name,
        user_id=record.id,
        arn=str(record.arn),
        create_date=moment(record.created_at),
        permissions_boundary=boundary(record.boundary) if whole else None,
        tags=(tag_list(record.tags) or None) if whole else None,
    )


def group(record: Group) -> shapes.Group:
    return shapes.Group(
        path=record.path,
        group_name=record.name,
        group_id=record.id,
        arn=str(record.arn),
        create_date=moment(record.created_at),
    )


def role(record: Role, last_use: LastUse | None = None, *, whole: bool = True) -> shapes.Role:
    """A role; ``whole`` is what GetRole shows, else what lists do."""
    return shapes.Role(
        path=record.path,
        role_name=record.name,
        role_id=record.id,
        arn=str(record.arn),
        create_date=moment(record.created_at),
        assume_role_policy_document=encoded(record.trust_policy),
        description=record.description or None,
        max_session_duration=record.max_session_s,
        permissions_boundary=boundary(record.boundary) if whole else None,
        tags=(tag_list(record.tags) or None) if whole else None,
        role_last_used=role_last_used(last_use) if whole else None,
    )


def role_last_used(use: LastUse | None) -> shapes.RoleLastUsed:
    if use is None:
        return shapes.RoleLastUsed()
    return shapes.RoleLastUsed(last_used_date=moment(use.used_at), region=use.region)


def policy(record: ManagedPolicy, *, whole: bool = True) -> shapes.Policy:
    """A managed policy; ``whole`` is what GetPolicy shows, else what lists do."""
    return shapes.Policy(
        policy_name=record.name,
        policy_id=record.id,
        arn=str(record.arn),
        path=record.path,
        default_version_id=record.default_version,
        attachment_count=record.attachments,
        permissions_boundary_usage_count=record.boundary_uses,
        is_attachable=True,
        description=(record.description or None) if whole else None,
        create_date=moment(record.created_at),
        update_date=moment(record.updated_at),
        tags=tag_list(record.tags) if whole else None,
    )


def version(record: PolicyVersion, *, whole: bool = True) -> shapes.PolicyVersion:
    """A version of a managed policy; ``whole`` with its document."""
    return shapes.PolicyVersion(
        document=encoded(record.document) if whole else None,
        version_id=record.version_id,
        is_default_version=record.is_default,
        create_date=moment(record.created_at),
    )


def attached(arns: Sequence[str]) -> list[shapes.AttachedPolicy]:
    """Attached managed policies as lists show them."""
    return [shapes.AttachedPolicy(policy_name=arn.rpartition("/")[2], policy_arn=arn) for arn in arns]


def details(inline: Mapping[str, str]) -> list[shapes.PolicyDetail]:
    """Inline policies with their documents."""
    return [shapes.PolicyDetail(policy_name=name, policy_document=encoded(text)) for name, text in inline.items()]


def credential(issued: IssuedServiceCredential, now: datetime) -> shapes.ServiceSpecificCredential:
    """A service-specific credential with its key, at the one time it is shown."""
    record = issued.record
    return shapes.ServiceSpecificCredential(
        create_date=moment(record.created_at),
        service_name=record.service,
        service_specific_credential_id=record.id,
        user_name=record.user_name,
        status=credential_status(record, now),
        expiration_date=None if record.expires_at is None else moment(record.expires_at),
        service_credential_alias=record.alias,
        service_credential_secret=issued.api_key,
    )


def credential_entry(record: ServiceCredential, now: datetime) -> shapes.ServiceSpecificCredentialMetadata:
    return shapes.ServiceSpecificCredentialMetadata(
        user_name=record.user_name,
        status=credential_status(record, now),
        create_date=moment(record.created_at),
        service_specific_credential_id=record.id,
        service_name=record.service,
        service_credential_alias=record.alias,
        expiration_date=None if record.expires_at is None else moment(record.expires_at),
    )


def credential_status(record: ServiceCredential, now: datetime) -> shapes.StatusType:
    """``Expired`` once its end has passed, whatever it was switched to."""
    if record.expires_at is not None and datetime.fromisoformat(record.expires_at) <= now:
        return "Expired"
    return status(record.active)


def _named_by(marker: str) -> str:
    try:
        return base64.b64decode(marker, validate=True).decode()
    except (binascii.Error, ValueError):
        raise validation("Invalid Marker.") from None
