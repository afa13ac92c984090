"""IAM's operations on groups and who is in them."""

from __future__ import annotations

from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.render import page
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape


def create_group(asked: Asked, request: shapes.CreateGroupRequest) -> shapes.CreateGroupResponse:
    made = asked.identity.groups.create(asked.account, request.group_name, request.path or "/")
    return shapes.CreateGroupResponse(group=render.group(made))


def get_group(asked: Asked, request: shapes.GetGroupRequest) -> shapes.GetGroupResponse:
    group = asked.identity.groups.get(asked.account, request.group_name)
    every = asked.identity.groups.members(asked.account, request.group_name)
    shown = page(every, lambda user: user.name.lower(), request.max_items, request.marker)
    return shapes.GetGroupResponse(
        group=render.group(group),
        users=[render.user(user, whole=False) for user in shown.entries],
        is_truncated=shown.truncated,
        marker=shown.marker,
    )


def list_groups(asked: Asked, request: shapes.ListGroupsRequest) -> shapes.ListGroupsResponse:
    every = asked.identity.groups.all(asked.account, request.path_prefix or "/")
    shown = page(every, lambda group: group.name.lower(), request.max_items, request.marker)
    groups = [render.group(group) for group in shown.entries]
    return shapes.ListGroupsResponse(groups=groups, is_truncated=shown.truncated, marker=shown.marker)


def update_group(asked: Asked, request: shapes.UpdateGroupRequest) -> Shape:
    asked.identity.groups.update(asked.account, request.group_name, request.new_group_name, request.new_path)
    return Shape()


def delete_group(asked: Asked, request: shapes.DeleteGroupRequest) -> Shape:
    asked.identity.groups.delete(asked.account, request.group_name)
    return Shape()


def add_user_to_group(asked: Asked, request: shapes.AddUserToGroupRequest) -> Shape:
    asked.identity.groups.add_user(asked.account, request.group_name, request.user_name)
    return Shape()


def remove_user_from_group(asked: Asked, request: shapes.RemoveUserFromGroupRequest) -> Shape:
    asked.identity.groups.remove_user(asked.account, request.group_name, request.user_name)
    return Shape()
