"""Which calls are management and which data events, which only read, and which wait for the disk.

The categories are CloudTrail's own, so that what parses its records finds what it expects. Sources: Amazon Bedrock User
Guide, "Monitor Amazon Bedrock API calls using CloudTrail" (InvokeModel and Converse with their streams are management
events; agents, knowledge bases, flows, prompts, guardrails and asynchronous invocations are data events); AWS KMS
Developer Guide, "Logging AWS KMS API calls" (cryptographic operations are read-only management events). Both read 2026.

Durability is ours: a management call is answered when its event is on the disk. Invocations, management or data, are
batched: they change nothing, are many, and a kill loses at most the last 5 ms and one commit's time of them. Unlike at
AWS, data events are always recorded; LookupEvents shows management events only, as there.

Not covered: operations of services that are not served; by default a call is a management event that changes something.
"""

from __future__ import annotations

from outcrop.trust.audit.event import EventClass

DATA_EVENTS: dict[str, frozenset[str]] = {
    "bedrock-agent-runtime": frozenset({"*"}),
    "bedrock-runtime": frozenset(
        {
            "ApplyGuardrail",
            "GetAsyncInvoke",
            "InvokeModelWithBidirectionalStream",
            "ListAsyncInvokes",
            "StartAsyncInvoke",
        }
    ),
    "sagemaker-runtime": frozenset({"*"}),
}

INVOCATIONS: dict[str, frozenset[str]] = {
    "bedrock-agent-runtime": frozenset({"*"}),
    "bedrock-runtime": frozenset(
        {
            "ApplyGuardrail",
            "Converse",
            "ConverseStream",
            "CountTokens",
            "InvokeModel",
            "InvokeModelWithBidirectionalStream",
            "InvokeModelWithResponseStream",
        }
    ),
    "sagemaker-runtime": frozenset({"*"}),
    "anthropic": frozenset({"*"}),
    "openai": frozenset({"*"}),
}
"""They only read, and their events are batched."""

READ_PREFIXES = ("BatchGet", "Count", "Describe", "Get", "List", "Lookup", "Retrieve", "Search", "Simulate")

READ_ONLY: dict[str, frozenset[str]] = {
    "kms": frozenset(
        {
            "Decrypt",
            "DeriveSharedSecret",
            "Encrypt",
            "GenerateDataKey",
            "GenerateDataKeyPair",
            "GenerateDataKeyPairWithoutPlaintext",
            "GenerateDataKeyWithoutPlaintext",
            "GenerateMac",
            "GenerateRandom",
            "ReEncrypt",
            "Sign",
            "Verify",
            "VerifyMac",
        }
    ),
    "sts": frozenset({"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "DecodeAuthorizationMessage"}),
}

ISSUES_CREDENTIALS = frozenset(
    {"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "GetFederationToken", "GetSessionToken"}
)
"""Of STS: read-only by CloudTrail's word, and yet what they gave out is recorded (key ids and times, no secret)."""


def event_class(service: str, operation: str) -> EventClass:
    """The event category of an operation of a service (names of the service models)."""
    return "Data" if _holds(DATA_EVENTS, service, operation) else "Management"


def is_read_only(service: str, operation: str) -> bool:
    """Whether a call changes nothing, so that it may go on while the trail's disk is full."""
    return (
        _holds(INVOCATIONS, service, operation)
        or _holds(READ_ONLY, service, operation)
        or operation.startswith(READ_PREFIXES)
    )


def is_durable(service: str, operation: str) -> bool:
    """Whether a call's event is on the disk before the call is answered."""
    return not _holds(INVOCATIONS, service, operation)


def _holds(table: dict[str, frozenset[str]], service: str, operation: str) -> bool:
    names = table.get(service, frozenset())
    return "*" in names or operation in names
