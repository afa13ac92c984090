"""The operations that this release answers: the one list that the generator, the server and the coverage page share.

Adding a name here and running ``python tools/generate_wire.py`` makes the operation's types; every other
operation of these services routes as well, and is answered 501.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BUILT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bedrock-runtime": (
            "Converse",
            "ConverseStream",
            "CountTokens",
            "InvokeModel",
            "InvokeModelWithResponseStream",
        ),
        "bedrock": (
            "GetFoundationModel",
            "GetInferenceProfile",
            "ListFoundationModels",
            "ListInferenceProfiles",
        ),
        "bedrock-agent": (),
        "bedrock-agent-runtime": (),
        "sagemaker-runtime": (
            "InvokeEndpoint",
            "InvokeEndpointWithResponseStream",
        ),
        "sts": (
            "AssumeRole",
            "AssumeRoleWithWebIdentity",
            "GetAccessKeyInfo",
            "GetCallerIdentity",
            "GetSessionToken",
        ),
        "iam": (),
        "kms": (
            "CancelKeyDeletion",
            "CreateAlias",
            "CreateGrant",
            "CreateKey",
            "Decrypt",
            "DeleteAlias",
            "DescribeKey",
            "DisableKey",
            "DisableKeyRotation",
            "EnableKey",
            "EnableKeyRotation",
            "Encrypt",
            "GenerateDataKey",
            "GenerateDataKeyWithoutPlaintext",
            "GenerateMac",
            "GenerateRandom",
            "GetKeyPolicy",
            "GetKeyRotationStatus",
            "ListAliases",
            "ListGrants",
            "ListKeyPolicies",
            "ListKeyRotations",
            "ListKeys",
            "ListResourceTags",
            "ListRetirableGrants",
            "PutKeyPolicy",
            "ReEncrypt",
            "RetireGrant",
            "RevokeGrant",
            "RotateKeyOnDemand",
            "ScheduleKeyDeletion",
            "TagResource",
            "UntagResource",
            "UpdateAlias",
            "UpdateKeyDescription",
            "VerifyMac",
        ),
        "cloudtrail": ("DescribeTrails", "GetTrailStatus", "ListPublicKeys", "LookupEvents"),
    }
)
