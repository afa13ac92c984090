"""IAM's operations on what users, groups and roles hold: inline and attached policies, permissions boundaries.

The operations for the three kinds of holders are the same but for their names, so they are made here by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.render import page
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape
from outcrop.trust.identity.holdings import HolderKind

Operation = Callable[[Asked, Any], Shape]

_GOT: Mapping[HolderKind, type[Shape]] = MappingProxyType(
    {
        "user": shapes.GetUserPolicyResponse,
        "group": shapes.GetGroupPolicyResponse,
        "role": shapes.GetRolePolicyResponse,
    }
)
_INLINE: Mapping[HolderKind, type[Shape]] = MappingProxyType(
    {
        "user": shapes.ListUserPoliciesResponse,
        "group": shapes.ListGroupPoliciesResponse,
        "role": shapes.ListRolePoliciesResponse,
    }
)
_ATTACHED: Mapping[HolderKind, type[Shape]] = MappingProxyType(
    {
        "user": shapes.ListAttachedUserPoliciesResponse,
        "group": shapes.ListAttachedGroupPoliciesResponse,
        "role": shapes.ListAttachedRolePoliciesResponse,
    }
)


def put_inline(kind: HolderKind) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        name = _named(request, kind)
        asked.identity.holdings.put_inline(asked.account, kind, name, request.policy_name, request.policy_document)
        return Shape()

    return act


def get_inline(kind: HolderKind) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        name = _named(request, kind)
        document = asked.identity.holdings.get_inline(asked.account, kind, name, request.policy_name)
        members = {f"{kind}_name": name, "policy_name": request.policy_name}
        return _GOT[kind](**members, policy_document=render.encoded(document))

    return act


def list_inline(kind: HolderKind) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        every = [*asked.identity.holdings.inline(asked.account, kind, _named(request, kind))]
        shown = page(every, str, request.max_items, request.marker)
        return _INLINE[kind](policy_names=shown.entries, is_truncated=shown.truncated, marker=shown.marker)

    return act


def delete_inline(kind: HolderKind) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        asked.identity.holdings.delete_inline(asked.account, kind, _named(request, kind), request.policy_name)
        return Shape()

    return act


def attach(kind: HolderKind) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        asked.identity.holdings.attach(asked.account, kind, _named(request, kind), request.policy_arn)
        return Shape()

    return act


def detach(kind: HolderKind) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        asked.identity.holdings.detach(asked.account, kind, _named(request, kind), request.policy_arn)
        return Shape()

    return act


def list_attached(kind: HolderKind) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        every = asked.identity.holdings.attached(asked.account, kind, _named(request, kind))
        below = [arn for arn in every if _path(arn).startswith(request.path_prefix or "/")]
        shown = render.numbered(below, request.max_items, request.marker)
        return _ATTACHED[kind](
            attached_policies=render.attached(shown.entries), is_truncated=shown.truncated, marker=shown.marker
        )

    return act


def put_boundary(kind: Literal["user", "role"]) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        name = _named(request, kind)
        asked.identity.holdings.put_boundary(asked.account, kind, name, request.permissions_boundary)
        return Shape()

    return act


def delete_boundary(kind: Literal["user", "role"]) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        asked.identity.holdings.delete_boundary(asked.account, kind, _named(request, kind))
        return Shape()

    return act


def _named(request: Any, kind: HolderKind) -> str:
    name: str = getattr(request, f"{kind}_name")
    return name


def _path(arn: str) -> str:
    """The path of a managed policy: what stands between ``policy`` and its name."""
    return arn.split(":", 5)[5].removeprefix("policy").rpartition("/")[0] + "/"
