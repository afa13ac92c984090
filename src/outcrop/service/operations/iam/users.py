"""IAM's operations on users.

``GetLoginProfile`` and the lists of MFA devices, SSH keys and certificates are here because deployment tools ask for
them before they delete a user: there are no passwords, devices, SSH keys or certificates here, and they say so.
"""

from __future__ import annotations

from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.errors import no_such_entity
from outcrop.service.operations.iam.render import page
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape


def create_user(asked: Asked, request: shapes.CreateUserRequest) -> shapes.CreateUserResponse:
    made = asked.identity.users.create(
        asked.account,
        request.user_name,
        request.path or "/",
        request.permissions_boundary,
        render.tags_given(request.tags),
    )
    return shapes.CreateUserResponse(user=render.user(made))


def get_user(asked: Asked, request: shapes.GetUserRequest) -> shapes.GetUserResponse:
    name = asked.owner(request.user_name)
    if name is not None:
        return shapes.GetUserResponse(user=render.user(asked.identity.users.get(asked.account, name)))
    account = asked.identity.organisation.account(asked.account)
    root = shapes.User(
        path="/",
        user_name="root",
        user_id=asked.account,
        arn=str(asked.caller.principal.arn),
        create_date=render.moment(account.created_at),
    )
    return shapes.GetUserResponse(user=root)


def list_users(asked: Asked, request: shapes.ListUsersRequest) -> shapes.ListUsersResponse:
    every = asked.identity.users.all(asked.account, request.path_prefix or "/")
    shown = page(every, lambda user: user.name.lower(), request.max_items, request.marker)
    users = [render.user(user, whole=False) for user in shown.entries]
    return shapes.ListUsersResponse(users=users, is_truncated=shown.truncated, marker=shown.marker)


def update_user(asked: Asked, request: shapes.UpdateUserRequest) -> Shape:
    asked.identity.users.update(asked.account, request.user_name, request.new_user_name, request.new_path)
    return Shape()


def delete_user(asked: Asked, request: shapes.DeleteUserRequest) -> Shape:
    asked.identity.users.delete(asked.account, request.user_name)
    return Shape()


def list_groups_for_user(asked: Asked, request: shapes.ListGroupsForUserRequest) -> shapes.ListGroupsForUserResponse:
    every = asked.identity.groups.of_user(asked.account, request.user_name)
    shown = page(every, lambda group: group.name.lower(), request.max_items, request.marker)
    groups = [render.group(group) for group in shown.entries]
    return shapes.ListGroupsForUserResponse(groups=groups, is_truncated=shown.truncated, marker=shown.marker)


def get_login_profile(asked: Asked, request: shapes.GetLoginProfileRequest) -> shapes.GetLoginProfileResponse:
    name = asked.user(request.user_name)
    asked.identity.users.get(asked.account, name)
    raise no_such_entity(f"Login Profile for User {name} cannot be found.")


def list_mfa_devices(asked: Asked, request: shapes.ListMFADevicesRequest) -> shapes.ListMFADevicesResponse:
    _must_exist(asked, request.user_name)
    return shapes.ListMFADevicesResponse(mfa_devices=[], is_truncated=False)


def list_virtual_mfa_devices(
    asked: Asked, request: shapes.ListVirtualMFADevicesRequest
) -> shapes.ListVirtualMFADevicesResponse:
    return shapes.ListVirtualMFADevicesResponse(virtual_mfa_devices=[], is_truncated=False)


def list_ssh_public_keys(asked: Asked, request: shapes.ListSSHPublicKeysRequest) -> shapes.ListSSHPublicKeysResponse:
    _must_exist(asked, request.user_name)
    return shapes.ListSSHPublicKeysResponse(ssh_public_keys=[], is_truncated=False)


def list_signing_certificates(
    asked: Asked, request: shapes.ListSigningCertificatesRequest
) -> shapes.ListSigningCertificatesResponse:
    _must_exist(asked, request.user_name)
    return shapes.ListSigningCertificatesResponse(certificates=[], is_truncated=False)


def _must_exist(asked: Asked, given: str | None) -> None:
    name = asked.owner(given)
    if name is not None:
        asked.identity.users.get(asked.account, name)
