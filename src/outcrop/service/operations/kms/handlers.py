"""KMS's operations, by the names of its service model.

Each is an ordinary function that reads and writes the database and the key store, so it runs in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.kms import manage, names, use
from outcrop.service.operations.kms.asked import Asked
from outcrop.service.operations.threads import in_control_thread
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.model import Shape
from outcrop.trust.keys import KeyRefused

SERVICE = "kms"


def in_a_thread(operation: Callable[[Asked, Any], Shape]) -> Handler:
    """``operation`` as a handler, its refusals told as KMS's exceptions."""

    async def handler(context: Context, caller: Caller, request: Any) -> Shape:
        asked = Asked(context, caller)
        pinned = asked.pinned(request) if operation in _BY_ALIAS else request
        try:
            return await in_control_thread(operation, asked, pinned)
        except KeyRefused as refused:
            raise AwsError(refused.code, str(refused), SERVICE) from refused

    return handler


_OPERATIONS: dict[str, Callable[[Asked, Any], Shape]] = {
    "CancelKeyDeletion": manage.cancel_key_deletion,
    "CreateAlias": names.create_alias,
    "CreateGrant": names.create_grant,
    "CreateKey": manage.create_key,
    "Decrypt": use.decrypt,
    "DeleteAlias": names.delete_alias,
    "DescribeKey": manage.describe_key,
    "DisableKey": manage.disable_key,
    "DisableKeyRotation": manage.disable_key_rotation,
    "EnableKey": manage.enable_key,
    "EnableKeyRotation": manage.enable_key_rotation,
    "Encrypt": use.encrypt,
    "GenerateDataKey": use.generate_data_key,
    "GenerateDataKeyWithoutPlaintext": use.generate_data_key_without_plaintext,
    "GenerateMac": use.generate_mac,
    "GenerateRandom": use.generate_random,
    "GetKeyPolicy": manage.get_key_policy,
    "GetKeyRotationStatus": manage.get_key_rotation_status,
    "ListAliases": names.list_aliases,
    "ListGrants": names.list_grants,
    "ListKeyPolicies": manage.list_key_policies,
    "ListKeyRotations": manage.list_key_rotations,
    "ListKeys": manage.list_keys,
    "ListResourceTags": manage.list_resource_tags,
    "ListRetirableGrants": names.list_retirable_grants,
    "PutKeyPolicy": manage.put_key_policy,
    "ReEncrypt": use.re_encrypt,
    "RetireGrant": names.retire_grant,
    "RevokeGrant": names.revoke_grant,
    "RotateKeyOnDemand": manage.rotate_key_on_demand,
    "ScheduleKeyDeletion": manage.schedule_key_deletion,
    "TagResource": manage.tag_resource,
    "UntagResource": manage.untag_resource,
    "UpdateAlias": names.update_alias,
    "UpdateKeyDescription": manage.update_key_description,
    "VerifyMac": use.verify_mac,
}

_BY_ALIAS = frozenset(
    {
        manage.describe_key,
        use.decrypt,
        use.encrypt,
        use.generate_data_key,
        use.generate_data_key_without_plaintext,
        use.generate_mac,
        use.re_encrypt,
        use.verify_mac,
    }
)
"""Operations in which an alias is a name for a key."""

HANDLERS: dict[str, Handler] = {name: in_a_thread(operation) for name, operation in _OPERATIONS.items()}
