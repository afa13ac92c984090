"""IAM's operations, by the names of its service model.

Each is an ordinary function that reads and writes the database, so it runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from outcrop.base.errors import UserError
from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.iam import groups, roles, users
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.errors import told
from outcrop.service.wire.model import Shape


def in_a_thread(operation: Callable[[Asked, Any], Shape]) -> Handler:
    """``operation`` as a handler, the store's refusals told as IAM's exceptions."""

    async def handler(context: Context, caller: Caller, request: Any) -> Shape:
        try:
            return await asyncio.to_thread(operation, Asked(context, caller), request)
        except UserError as refused:
            answer = told(refused)
            if answer is None:
                raise
            raise answer from refused

    return handler


_OPERATIONS: dict[str, Callable[[Asked, Any], Shape]] = {
    "AddUserToGroup": groups.add_user_to_group,
    "CreateGroup": groups.create_group,
    "CreateRole": roles.create_role,
    "CreateUser": users.create_user,
    "DeleteGroup": groups.delete_group,
    "DeleteRole": roles.delete_role,
    "DeleteUser": users.delete_user,
    "GetGroup": groups.get_group,
    "GetLoginProfile": users.get_login_profile,
    "GetRole": roles.get_role,
    "GetUser": users.get_user,
    "ListGroups": groups.list_groups,
    "ListGroupsForUser": users.list_groups_for_user,
    "ListInstanceProfilesForRole": roles.list_instance_profiles_for_role,
    "ListMFADevices": users.list_mfa_devices,
    "ListRoles": roles.list_roles,
    "ListSSHPublicKeys": users.list_ssh_public_keys,
    "ListSigningCertificates": users.list_signing_certificates,
    "ListUsers": users.list_users,
    "ListVirtualMFADevices": users.list_virtual_mfa_devices,
    "RemoveUserFromGroup": groups.remove_user_from_group,
    "UpdateAssumeRolePolicy": roles.update_assume_role_policy,
    "UpdateGroup": groups.update_group,
    "UpdateRole": roles.update_role,
    "UpdateRoleDescription": roles.update_role_description,
    "UpdateUser": users.update_user,
}

HANDLERS: dict[str, Handler] = {name: in_a_thread(operation) for name, operation in _OPERATIONS.items()}
