"""KMS's operations on keys themselves: their life, rotation, description, tags and policy."""

from __future__ import annotations

from outcrop.service.operations.kms.asked import Asked
from outcrop.service.operations.kms.render import Page, key_metadata, page, rotation_entry, shown_state
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated import kms as shapes
from outcrop.service.wire.model import Shape
from outcrop.trust.keys import KeySpec, KeyUsage
from outcrop.trust.keys.lifecycle import DELETION_DAYS_MAX, ROTATION_DAYS
from outcrop.trust.keys.policies import POLICY_NAME, require_policy_name
from outcrop.trust.keys.records import USAGES
from outcrop.trust.keys.refusals import invalid, unsupported


def create_key(asked: Asked, request: shapes.CreateKeyRequest) -> shapes.CreateKeyResponse:
    spec = _spec(request)
    tags = _tags(request.tags or [])
    bypass = request.bypass_policy_lockout_safety_check or False
    policies = asked.keys.policies
    if request.policy is None:
        policy = policies.initial(asked.account)
    else:
        # The key has no ARN yet; a policy that names a resource other than * could not be meant for it.
        future = str(asked.keys.rows.key_arn(asked.account, "new"))
        policy = policies.accept(request.policy, asked.account, future, None if bypass else asked.requester)
    key = asked.keys.lifecycle.create(
        asked.account, policy, spec=spec, description=request.description or "", tags=tags
    )
    return shapes.CreateKeyResponse(key_metadata=key_metadata(key))


def describe_key(asked: Asked, request: shapes.DescribeKeyRequest) -> shapes.DescribeKeyResponse:
    key = asked.key(request.key_id, alias=True, tokens=request.grant_tokens)
    return shapes.DescribeKeyResponse(key_metadata=key_metadata(key))


def list_keys(asked: Asked, request: shapes.ListKeysRequest) -> shapes.ListKeysResponse:
    every = asked.keys.rows.list_keys(asked.account)
    shown = page(every, lambda key: key.key_id, request.limit, request.marker)
    entries = [shapes.KeyListEntry(key_id=key.key_id, key_arn=str(key.arn)) for key in shown.entries]
    return shapes.ListKeysResponse(keys=entries, next_marker=shown.marker, truncated=shown.truncated)


def enable_key(asked: Asked, request: shapes.EnableKeyRequest) -> Shape:
    asked.keys.lifecycle.enable(asked.key(request.key_id).key_id)
    return Shape()


def disable_key(asked: Asked, request: shapes.DisableKeyRequest) -> Shape:
    asked.keys.lifecycle.disable(asked.key(request.key_id).key_id)
    return Shape()


def update_key_description(asked: Asked, request: shapes.UpdateKeyDescriptionRequest) -> Shape:
    key = asked.key(request.key_id)
    asked.keys.lifecycle.describe_as(key.key_id, request.description)
    return Shape()


def schedule_key_deletion(
    asked: Asked, request: shapes.ScheduleKeyDeletionRequest
) -> shapes.ScheduleKeyDeletionResponse:
    days = DELETION_DAYS_MAX if request.pending_window_in_days is None else request.pending_window_in_days
    key = asked.key(request.key_id)
    key = asked.keys.lifecycle.schedule_deletion(key.key_id, days)
    return shapes.ScheduleKeyDeletionResponse(
        key_id=str(key.arn), deletion_date=key.deletion_at, key_state=shown_state(key), pending_window_in_days=days
    )


def cancel_key_deletion(asked: Asked, request: shapes.CancelKeyDeletionRequest) -> shapes.CancelKeyDeletionResponse:
    key = asked.key(request.key_id)
    asked.keys.lifecycle.cancel_deletion(key.key_id)
    return shapes.CancelKeyDeletionResponse(key_id=str(key.arn))


def enable_key_rotation(asked: Asked, request: shapes.EnableKeyRotationRequest) -> Shape:
    days = ROTATION_DAYS if request.rotation_period_in_days is None else request.rotation_period_in_days
    key = asked.key(request.key_id)
    asked.keys.lifecycle.set_rotation(key.key_id, days)
    return Shape()


def disable_key_rotation(asked: Asked, request: shapes.DisableKeyRotationRequest) -> Shape:
    key = asked.key(request.key_id)
    asked.keys.lifecycle.set_rotation(key.key_id, None)
    return Shape()


def get_key_rotation_status(
    asked: Asked, request: shapes.GetKeyRotationStatusRequest
) -> shapes.GetKeyRotationStatusResponse:
    key = asked.key(request.key_id)
    return shapes.GetKeyRotationStatusResponse(
        key_rotation_enabled=key.rotation_days is not None,
        key_id=key.key_id,
        rotation_period_in_days=key.rotation_days,
        next_rotation_date=key.rotation_next,
    )


def rotate_key_on_demand(asked: Asked, request: shapes.RotateKeyOnDemandRequest) -> shapes.RotateKeyOnDemandResponse:
    key = asked.key(request.key_id)
    asked.keys.lifecycle.rotate(key.key_id)
    return shapes.RotateKeyOnDemandResponse(key_id=key.key_id)


def list_key_rotations(asked: Asked, request: shapes.ListKeyRotationsRequest) -> shapes.ListKeyRotationsResponse:
    key = asked.key(request.key_id)
    if key.spec is not KeySpec.SYMMETRIC:
        raise unsupported(f"{key.arn} is of the kind {key.spec}, which is not rotated.")
    with_material = request.include_key_material == "ALL_KEY_MATERIAL"
    every = [entry for entry in asked.keys.rows.rotations(key.key_id) if with_material or entry.kind is not None]
    shown = page(every, lambda entry: f"{entry.version:010}", request.limit, request.marker)
    entries = [rotation_entry(entry, key, with_material=with_material) for entry in shown.entries]
    return shapes.ListKeyRotationsResponse(rotations=entries, next_marker=shown.marker, truncated=shown.truncated)


def get_key_policy(asked: Asked, request: shapes.GetKeyPolicyRequest) -> shapes.GetKeyPolicyResponse:
    key = asked.key(request.key_id)
    require_policy_name(request.policy_name or POLICY_NAME)
    return shapes.GetKeyPolicyResponse(policy=key.policy, policy_name=POLICY_NAME)


def put_key_policy(asked: Asked, request: shapes.PutKeyPolicyRequest) -> Shape:
    bypass = request.bypass_policy_lockout_safety_check or False
    key = asked.key(request.key_id)
    require_policy_name(request.policy_name or POLICY_NAME)
    asked.keys.policies.put(key, request.policy, None if bypass else asked.requester)
    return Shape()


def list_key_policies(asked: Asked, request: shapes.ListKeyPoliciesRequest) -> shapes.ListKeyPoliciesResponse:
    asked.key(request.key_id)
    shown: Page[str] = page([POLICY_NAME], str, request.limit, request.marker)
    return shapes.ListKeyPoliciesResponse(policy_names=shown.entries, next_marker=shown.marker, truncated=False)


def tag_resource(asked: Asked, request: shapes.TagResourceRequest) -> Shape:
    tags = _tags(request.tags)
    key = asked.key(request.key_id)
    asked.keys.lifecycle.tag(key.key_id, tags)
    return Shape()


def untag_resource(asked: Asked, request: shapes.UntagResourceRequest) -> Shape:
    key = asked.key(request.key_id)
    asked.keys.lifecycle.untag(key.key_id, request.tag_keys)
    return Shape()


def list_resource_tags(asked: Asked, request: shapes.ListResourceTagsRequest) -> shapes.ListResourceTagsResponse:
    key = asked.key(request.key_id)
    every = list(asked.keys.rows.tags(key.key_id).items())
    shown = page(every, lambda tag: tag[0], request.limit, request.marker)
    tags = [shapes.Tag(tag_key=name, tag_value=value) for name, value in shown.entries]
    return shapes.ListResourceTagsResponse(tags=tags, next_marker=shown.marker, truncated=shown.truncated)


def _spec(request: shapes.CreateKeyRequest) -> KeySpec:
    """The kind of key that is asked for, if it is one that is built."""
    if request.multi_region:
        raise unsupported("Multi-Region keys are not supported: a deployment is one Region.", "Leave MultiRegion out.")
    if request.origin not in (None, "AWS_KMS") or request.custom_key_store_id or request.xks_key_id:
        raise unsupported(
            "Imported key material, custom and external key stores are not supported.",
            "Leave Origin, CustomKeyStoreId and XksKeyId out.",
        )
    named, older = request.key_spec, request.customer_master_key_spec
    if named is not None and older is not None and named != older:
        raise invalid("KeySpec and CustomerMasterKeySpec cannot name different specs.")
    asked_for = named or older or KeySpec.SYMMETRIC.value
    if asked_for not in [each.value for each in KeySpec]:
        raise unsupported(
            f"Keys of the spec {asked_for} are not supported.", f"Use {' or '.join(each.value for each in KeySpec)}."
        )
    spec = KeySpec(asked_for)
    usage = request.key_usage or (KeyUsage.ENCRYPT.value if spec is KeySpec.SYMMETRIC else None)
    if usage != USAGES[spec].value:
        raise invalid(f"KeyUsage {usage} is not compatible with KeySpec {spec}: use {USAGES[spec]}.")
    return spec


def _tags(given: list[shapes.Tag]) -> dict[str, str]:
    tags = {tag.tag_key: tag.tag_value for tag in given}
    if len(tags) != len(given):
        raise AwsError("TagException", "Duplicate tag keys", "kms")
    return tags
