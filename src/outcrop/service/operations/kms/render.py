"""KMS's records as its service model spells them, and lists cut into pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from outcrop.base.errors import check
from outcrop.service.wire.generated import kms as shapes
from outcrop.trust.keys import Alias, Grant, Key, KeyRefused, KeyState, KeyUsage, Rotation, material_id
from outcrop.trust.keys.states import GONE

T = TypeVar("T")

PAGE = 100
"""How many entries a page has when the request does not say; what KMS does is documented for each list."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. ``marker`` asks for the next; ``None`` on the last page."""

    entries: list[T]
    marker: str | None

    @property
    def truncated(self) -> bool:
        return self.marker is not None


def page(entries: Sequence[T], name: Callable[[T], str], limit: int | None, marker: str | None) -> Page[T]:
    """The page of ``entries``, in the order of their ``name``, after the entry that ``marker`` names."""
    after = "" if marker is None else _named_by(marker)
    rest = sorted((entry for entry in entries if name(entry) > after), key=name)
    size = limit or PAGE
    more = len(rest) > size
    return Page(rest[:size], _marker(name(rest[size - 1])) if more else None)


def key_metadata(key: Key) -> shapes.KeyMetadata:
    """A key as CreateKey and DescribeKey show it."""
    encrypts = key.usage is KeyUsage.ENCRYPT
    return shapes.KeyMetadata(
        key_id=key.key_id,
        aws_account_id=key.account,
        arn=str(key.arn),
        creation_date=key.created_at,
        enabled=key.state is KeyState.ENABLED,
        description=key.description,
        key_usage=key.usage.value,
        key_state=shown_state(key),
        deletion_date=key.deletion_at,
        origin="AWS_KMS",
        key_manager=key.manager.value,
        customer_master_key_spec=key.spec.value,
        key_spec=key.spec.value,
        encryption_algorithms=["SYMMETRIC_DEFAULT"] if encrypts else None,
        mac_algorithms=None if encrypts else ["HMAC_SHA_256"],
        multi_region=False,
        current_key_material_id=material_id(key.key_id, key.version) if encrypts else None,
    )


def alias_entry(alias: Alias) -> shapes.AliasListEntry:
    return shapes.AliasListEntry(
        alias_name=alias.name,
        alias_arn=str(alias.arn),
        target_key_id=alias.key_id,
        creation_date=alias.created_at,
        last_updated_date=alias.updated_at,
    )


def grant_entry(grant: Grant, key_arn: str) -> shapes.GrantListEntry:
    constraints = None
    if grant.subset is not None or grant.equals is not None:
        constraints = shapes.GrantConstraints(
            encryption_context_subset=None if grant.subset is None else dict(grant.subset),
            encryption_context_equals=None if grant.equals is None else dict(grant.equals),
        )
    return shapes.GrantListEntry(
        key_id=key_arn,
        grant_id=grant.grant_id,
        name=grant.name or None,
        creation_date=grant.created_at,
        grantee_principal=grant.grantee,
        retiring_principal=grant.retiring or None,
        issuing_account=f"arn:{grant.issuer.split(':')[1]}:iam::{grant.issuer.split(':')[4]}:root",
        operations=cast("list[shapes.GrantOperation]", list(grant.operations)),
        constraints=constraints,
    )


def rotation_entry(rotation: Rotation, key: Key, *, with_material: bool) -> shapes.RotationsListEntry:
    return shapes.RotationsListEntry(
        key_id=key.key_id,
        key_material_id=material_id(key.key_id, rotation.version),
        key_material_state=("CURRENT" if rotation.version == key.version else "NON_CURRENT") if with_material else None,
        rotation_date=None if rotation.kind is None else rotation.created_at,
        rotation_type=None if rotation.kind is None else rotation.kind.value,
    )


def shown_state(key: Key) -> shapes.KeyState:
    """The state under its name in the API; a key that is being destroyed is not shown at all."""
    check(key.state not in GONE, "a key that is gone is not shown")
    return cast("shapes.KeyState", key.state.value)


def _marker(name: str) -> str:
    return base64.b64encode(name.encode()).decode()


def _named_by(marker: str) -> str:
    try:
        return base64.b64decode(marker, validate=True).decode()
    except (binascii.Error, ValueError):
        raise KeyRefused("InvalidMarkerException", "This marker was not given by an earlier page.") from None
