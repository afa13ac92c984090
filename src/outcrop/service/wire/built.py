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
        "sts": ("GetCallerIdentity",),
        "iam": (),
        "kms": (),
        "cloudtrail": (),
    }
)
