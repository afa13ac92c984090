"""IAM's operations on the tags of users, roles, managed policies and OIDC providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape
from outcrop.trust.identity import IdentityStore
from outcrop.trust.identity.managed import Policies
from outcrop.trust.identity.oidc_providers import OidcProviders
from outcrop.trust.identity.roles import Roles
from outcrop.trust.identity.users import Users

Operation = Callable[[Asked, Any], Shape]
Tagged = Literal["user", "role", "policy", "provider"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is tagged: the member that names it, the part of the store that keeps it, the shape of its list."""

    member: str
    part: Callable[[IdentityStore], Users | Roles | Policies | OidcProviders]
    listed: type[Shape]


_KINDS: Mapping[Tagged, _Kind] = MappingProxyType(
    {
        "user": _Kind("user_name", lambda store: store.users, shapes.ListUserTagsResponse),
        "role": _Kind("role_name", lambda store: store.roles, shapes.ListRoleTagsResponse),
        "policy": _Kind("policy_arn", lambda store: store.policies, shapes.ListPolicyTagsResponse),
        "provider": _Kind(
            "open_id_connect_provider_arn", lambda store: store.oidc, shapes.ListOpenIDConnectProviderTagsResponse
        ),
    }
)


def tag(kind: Tagged) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        name = getattr(request, _KINDS[kind].member)
        _KINDS[kind].part(asked.identity).tag(asked.account, name, render.tags_given(request.tags))
        return Shape()

    return act


def untag(kind: Tagged) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        name = getattr(request, _KINDS[kind].member)
        _KINDS[kind].part(asked.identity).untag(asked.account, name, request.tag_keys)
        return Shape()

    return act


def list_tags(kind: Tagged) -> Operation:
    def act(asked: Asked, request: Any) -> Shape:
        name = getattr(request, _KINDS[kind].member)
        held = _KINDS[kind].part(asked.identity).get(asked.account, name).tags
        shown = render.numbered(render.tag_list(held), request.max_items, request.marker)
        return _KINDS[kind].listed(tags=shown.entries, is_truncated=shown.truncated, marker=shown.marker)

    return act
