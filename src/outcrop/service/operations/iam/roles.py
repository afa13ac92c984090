"""IAM's operations on roles. There are no instance profiles here: their list for a role is empty."""

from __future__ import annotations

from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.render import page
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape
from outcrop.trust.identity import limits


def create_role(asked: Asked, request: shapes.CreateRoleRequest) -> shapes.CreateRoleResponse:
    made = asked.identity.roles.create(
        asked.account,
        request.role_name,
        request.assume_role_policy_document,
        path=request.path or "/",
        description=request.description or "",
        max_session_s=request.max_session_duration or limits.SESSION_S_MIN,
        boundary=request.permissions_boundary,
        tags=render.tags_given(request.tags),
    )
    return shapes.CreateRoleResponse(role=render.role(made))


def get_role(asked: Asked, request: shapes.GetRoleRequest) -> shapes.GetRoleResponse:
    found = asked.identity.roles.get(asked.account, request.role_name)
    return shapes.GetRoleResponse(role=render.role(found, asked.identity.uses.get(found.id)))


def list_roles(asked: Asked, request: shapes.ListRolesRequest) -> shapes.ListRolesResponse:
    every = asked.identity.roles.all(asked.account, request.path_prefix or "/")
    shown = page(every, lambda role: role.name.lower(), request.max_items, request.marker)
    roles = [render.role(role, whole=False) for role in shown.entries]
    return shapes.ListRolesResponse(roles=roles, is_truncated=shown.truncated, marker=shown.marker)


def update_role(asked: Asked, request: shapes.UpdateRoleRequest) -> shapes.UpdateRoleResponse:
    asked.identity.roles.update(asked.account, request.role_name, request.description, request.max_session_duration)
    return shapes.UpdateRoleResponse()


def update_role_description(
    asked: Asked, request: shapes.UpdateRoleDescriptionRequest
) -> shapes.UpdateRoleDescriptionResponse:
    role = asked.identity.roles.update(asked.account, request.role_name, request.description)
    return shapes.UpdateRoleDescriptionResponse(role=render.role(role, asked.identity.uses.get(role.id)))


def update_assume_role_policy(asked: Asked, request: shapes.UpdateAssumeRolePolicyRequest) -> Shape:
    asked.identity.roles.set_trust_policy(asked.account, request.role_name, request.policy_document)
    return Shape()


def delete_role(asked: Asked, request: shapes.DeleteRoleRequest) -> Shape:
    asked.identity.roles.delete(asked.account, request.role_name)
    return Shape()


def list_instance_profiles_for_role(
    asked: Asked, request: shapes.ListInstanceProfilesForRoleRequest
) -> shapes.ListInstanceProfilesForRoleResponse:
    asked.identity.roles.get(asked.account, request.role_name)
    return shapes.ListInstanceProfilesForRoleResponse(instance_profiles=[], is_truncated=False)
