"""IAM's operations on managed policies and their versions."""

from __future__ import annotations

from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.errors import invalid_input
from outcrop.service.operations.iam.render import page
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape
from outcrop.trust.identity.managed import Holder
from outcrop.trust.identity.records import ManagedPolicy


def create_policy(asked: Asked, request: shapes.CreatePolicyRequest) -> shapes.CreatePolicyResponse:
    made = asked.identity.policies.create(
        asked.account,
        request.policy_name,
        request.policy_document,
        path=request.path or "/",
        description=request.description or "",
        tags=render.tags_given(request.tags),
    )
    return shapes.CreatePolicyResponse(policy=render.policy(made))


def get_policy(asked: Asked, request: shapes.GetPolicyRequest) -> shapes.GetPolicyResponse:
    return shapes.GetPolicyResponse(
        policy=render.policy(asked.identity.policies.get(asked.account, request.policy_arn))
    )


def list_policies(asked: Asked, request: shapes.ListPoliciesRequest) -> shapes.ListPoliciesResponse:
    used_as = request.policy_usage_filter
    every = [
        policy
        for policy in asked.identity.policies.all(asked.account, request.scope or "All")
        if policy.path.startswith(request.path_prefix or "/")
        and (not request.only_attached or policy.attachments or policy.boundary_uses)
        and (used_as != "PermissionsPolicy" or policy.attachments)
        and (used_as != "PermissionsBoundary" or policy.boundary_uses)
    ]
    shown = page(every, _place, request.max_items, request.marker)
    policies = [render.policy(policy, whole=False) for policy in shown.entries]
    return shapes.ListPoliciesResponse(policies=policies, is_truncated=shown.truncated, marker=shown.marker)


def delete_policy(asked: Asked, request: shapes.DeletePolicyRequest) -> Shape:
    asked.identity.policies.delete(asked.account, request.policy_arn)
    return Shape()


def create_policy_version(
    asked: Asked, request: shapes.CreatePolicyVersionRequest
) -> shapes.CreatePolicyVersionResponse:
    made = asked.identity.policies.create_version(
        asked.account, request.policy_arn, request.policy_document, set_default=bool(request.set_as_default)
    )
    return shapes.CreatePolicyVersionResponse(policy_version=render.version(made, whole=False))


def get_policy_version(asked: Asked, request: shapes.GetPolicyVersionRequest) -> shapes.GetPolicyVersionResponse:
    found = asked.identity.policies.version(asked.account, request.policy_arn, request.version_id)
    return shapes.GetPolicyVersionResponse(policy_version=render.version(found))


def list_policy_versions(asked: Asked, request: shapes.ListPolicyVersionsRequest) -> shapes.ListPolicyVersionsResponse:
    every = asked.identity.policies.versions(asked.account, request.policy_arn)
    shown = render.numbered(every, request.max_items, request.marker)
    versions = [render.version(version, whole=False) for version in shown.entries]
    return shapes.ListPolicyVersionsResponse(versions=versions, is_truncated=shown.truncated, marker=shown.marker)


def set_default_policy_version(asked: Asked, request: shapes.SetDefaultPolicyVersionRequest) -> Shape:
    asked.identity.policies.set_default_version(asked.account, request.policy_arn, request.version_id)
    return Shape()


def delete_policy_version(asked: Asked, request: shapes.DeletePolicyVersionRequest) -> Shape:
    asked.identity.policies.delete_version(asked.account, request.policy_arn, request.version_id)
    return Shape()


def list_entities_for_policy(
    asked: Asked, request: shapes.ListEntitiesForPolicyRequest
) -> shapes.ListEntitiesForPolicyResponse:
    if request.entity_filter in ("LocalManagedPolicy", "AWSManagedPolicy"):
        raise invalid_input("EntityFilter must be User, Role or Group.")
    used_as = request.policy_usage_filter
    every = [
        holder
        for holder in asked.identity.policies.holders(asked.account, request.policy_arn)
        if holder.path.startswith(request.path_prefix or "/")
        and request.entity_filter in (None, holder.kind.title())
        and (used_as is None or holder.as_boundary == (used_as == "PermissionsBoundary"))
    ]
    # One that a policy is attached to and bounds as well is told once.
    once = {(holder.kind, holder.id): holder for holder in every}
    shown = page(
        [*once.values()], lambda holder: f"{holder.kind}/{holder.name.lower()}", request.max_items, request.marker
    )
    return shapes.ListEntitiesForPolicyResponse(
        policy_groups=[
            shapes.PolicyGroup(group_name=each.name, group_id=each.id) for each in _of(shown.entries, "group")
        ],
        policy_users=[shapes.PolicyUser(user_name=each.name, user_id=each.id) for each in _of(shown.entries, "user")],
        policy_roles=[shapes.PolicyRole(role_name=each.name, role_id=each.id) for each in _of(shown.entries, "role")],
        is_truncated=shown.truncated,
        marker=shown.marker,
    )


def _of(holders: list[Holder], kind: str) -> list[Holder]:
    return [holder for holder in holders if holder.kind == kind]


def _place(policy: ManagedPolicy) -> str:
    """Its place in lists: by name, AWS's after the account's own of the same name."""
    return f"{policy.name.lower()} {'aws' if policy.aws_managed else ''}"
