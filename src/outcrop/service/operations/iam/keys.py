"""IAM's operations on access keys and service-specific credentials (API keys)."""

from __future__ import annotations

from outcrop.base.errors import NotFound
from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.errors import validation
from outcrop.service.operations.iam.render import page
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape

NEVER = "N/A"
"""What IAM writes for the service and Region of a key that was never used."""


def create_access_key(asked: Asked, request: shapes.CreateAccessKeyRequest) -> shapes.CreateAccessKeyResponse:
    issued = asked.identity.keys.create(asked.account, asked.owner(request.user_name))
    record = issued.record
    key = shapes.AccessKey(
        user_name=record.user_name or "root",
        access_key_id=record.access_key_id,
        status=render.status(record.active),
        secret_access_key=issued.secret_access_key,
        create_date=render.moment(record.created_at),
    )
    return shapes.CreateAccessKeyResponse(access_key=key)


def list_access_keys(asked: Asked, request: shapes.ListAccessKeysRequest) -> shapes.ListAccessKeysResponse:
    owner = asked.owner(request.user_name)
    every = [
        record for record in asked.identity.keys.all(asked.account, owner) if owner is not None or not record.user_name
    ]
    shown = page(every, lambda key: f"{key.created_at} {key.access_key_id}", request.max_items, request.marker)
    keys = [
        shapes.AccessKeyMetadata(
            user_name=record.user_name or None,
            access_key_id=record.access_key_id,
            status=render.status(record.active),
            create_date=render.moment(record.created_at),
        )
        for record in shown.entries
    ]
    return shapes.ListAccessKeysResponse(access_key_metadata=keys, is_truncated=shown.truncated, marker=shown.marker)


def update_access_key(asked: Asked, request: shapes.UpdateAccessKeyRequest) -> Shape:
    active = render.is_active(request.status)
    record = asked.identity.keys.of(asked.account, asked.owner(request.user_name), request.access_key_id)
    asked.identity.keys.set_active(record.access_key_id, active)
    return Shape()


def delete_access_key(asked: Asked, request: shapes.DeleteAccessKeyRequest) -> Shape:
    record = asked.identity.keys.of(asked.account, asked.owner(request.user_name), request.access_key_id)
    asked.identity.keys.delete(record.access_key_id)
    return Shape()


def get_access_key_last_used(
    asked: Asked, request: shapes.GetAccessKeyLastUsedRequest
) -> shapes.GetAccessKeyLastUsedResponse:
    """When a key of the caller's own account was last used; other accounts' keys are not told of."""
    try:
        record = asked.identity.keys.get(request.access_key_id)
    except NotFound:
        record = None
    if record is None or record.account != asked.account:
        text = f"User: {asked.caller.principal.arn} is not authorized to perform: iam:GetAccessKeyLastUsed"
        raise AwsError("AccessDeniedException", f"{text} on resource: access key {request.access_key_id}", "iam")
    use = asked.identity.uses.get(record.access_key_id)
    last = shapes.AccessKeyLastUsed(
        service_name=NEVER if use is None else use.service,
        region=NEVER if use is None else use.region,
        last_used_date=None if use is None else render.moment(use.used_at),
    )
    return shapes.GetAccessKeyLastUsedResponse(user_name=record.user_name or None, access_key_last_used=last)


def create_service_specific_credential(
    asked: Asked, request: shapes.CreateServiceSpecificCredentialRequest
) -> shapes.CreateServiceSpecificCredentialResponse:
    issued = asked.identity.service_credentials.create(
        asked.account, request.user_name, request.service_name, request.credential_age_days
    )
    shown = render.credential(issued, asked.context.clock.now())
    return shapes.CreateServiceSpecificCredentialResponse(service_specific_credential=shown)


def list_service_specific_credentials(
    asked: Asked, request: shapes.ListServiceSpecificCredentialsRequest
) -> shapes.ListServiceSpecificCredentialsResponse:
    """One user's credentials; those of all users take the permission on all users."""
    if request.all_users and request.user_name is not None:
        raise validation("AllUsers and UserName cannot be given together.")
    if request.all_users:
        partition = asked.caller.principal.arn.partition
        asked.require("iam:ListServiceSpecificCredentials", f"arn:{partition}:iam::{asked.account}:user/*")
    user = None if request.all_users else asked.user(request.user_name)
    every = asked.identity.service_credentials.all(asked.account, user, request.service_name)
    shown = page(every, lambda each: f"{each.created_at} {each.id}", request.max_items, request.marker)
    now = asked.context.clock.now()
    return shapes.ListServiceSpecificCredentialsResponse(
        service_specific_credentials=[render.credential_entry(record, now) for record in shown.entries],
        is_truncated=shown.truncated,
        marker=shown.marker,
    )


def update_service_specific_credential(asked: Asked, request: shapes.UpdateServiceSpecificCredentialRequest) -> Shape:
    active = render.is_active(request.status)
    user = asked.user(request.user_name)
    identifier = request.service_specific_credential_id
    asked.identity.service_credentials.set_active(asked.account, user, identifier, active)
    return Shape()


def reset_service_specific_credential(
    asked: Asked, request: shapes.ResetServiceSpecificCredentialRequest
) -> shapes.ResetServiceSpecificCredentialResponse:
    user = asked.user(request.user_name)
    identifier = request.service_specific_credential_id
    issued = asked.identity.service_credentials.reset(asked.account, user, identifier)
    shown = render.credential(issued, asked.context.clock.now())
    return shapes.ResetServiceSpecificCredentialResponse(service_specific_credential=shown)


def delete_service_specific_credential(asked: Asked, request: shapes.DeleteServiceSpecificCredentialRequest) -> Shape:
    user = asked.user(request.user_name)
    asked.identity.service_credentials.delete(asked.account, user, request.service_specific_credential_id)
    return Shape()
