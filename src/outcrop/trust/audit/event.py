"""One call as CloudTrail records it.

Source of the members and their meaning: AWS CloudTrail User Guide, "CloudTrail record contents" (event version 1.11)
and "CloudTrail userIdentity element" (read 2026). Members that are not there for a call are left out, as AWS does.

Never in a record: prompts, documents, replies, secrets. Parameters come here already redacted by the service; what is
too large is left out here and replaced by its size, never cut into something that reads as the whole.

Not covered: insight and network-activity events, ``eventContext`` (tags and condition keys), ``addendum``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

EVENT_VERSION = "1.11"
PARAMETERS_BYTES_MAX = 16_384
TEXT_CHARACTERS_MAX = 1024
SERVICE_SOURCE = "audit.outcrop"
"""The event source of what the trail says of itself; a name of ours, since AWS has no such service."""

Value: TypeAlias = "str | int | float | bool | Sequence[Value] | Mapping[str, Value] | None"
Plain = Mapping[str, Value]
EventClass = Literal["Management", "Data"]
IdentityType = Literal["Root", "IAMUser", "AssumedRole", "AWSService", "WebIdentityUser", "AWSAccount", "Unknown"]


def iso_time(moment: datetime, precision: str = "seconds") -> str:
    """A moment as CloudTrail writes it: UTC, ending in ``Z``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


@dataclass(frozen=True, slots=True)
class Issuer:
    """The role behind a session, and the session itself."""

    role_arn: str
    role_id: str
    account: str
    issued_at: datetime
    source_identity: str = ""
    federated_provider: str = ""
    mfa: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """Who called. ``Unknown`` is a caller who was not established: nothing but the claimed key id is known then.

    An anonymous caller of an operation that takes no signature is ``AWSAccount`` with ``principal_id`` ``ANONYMOUS``,
    as AWS records them.
    """

    type: IdentityType
    account: str = ""
    arn: str = ""
    principal_id: str = ""
    access_key_id: str = ""
    user_name: str = ""
    invoked_by: str = ""
    identity_provider: str = ""
    session: Issuer | None = None

    def element(self) -> dict[str, object]:
        """The ``userIdentity`` element."""
        found: dict[str, object] = {"type": self.type}
        names = {
            "principalId": self.principal_id,
            "arn": self.arn,
            "accountId": self.account,
            "accessKeyId": self.access_key_id,
            "userName": self.user_name,
            "invokedBy": self.invoked_by,
            "identityProvider": self.identity_provider,
        }
        found.update({name: value for name, value in names.items() if value})
        if self.session is not None:
            found["sessionContext"] = _session_context(self.session)
        return found


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that a call was about: its ARN, its type (``AWS::Bedrock::FoundationModel``) and its account."""

    arn: str
    type: str
    account: str = ""


@dataclass(frozen=True, slots=True)
class Happened:
    """One call, done or refused, as far as it is known. Everything plain, nothing secret."""

    time: datetime
    identity: Identity
    source: str
    name: str
    region: str
    account: str
    """Whose event it is: the account that the call was made to, which is who may look it up."""
    request_id: str
    event_class: EventClass
    read_only: bool
    source_ip: str = ""
    user_agent: str = ""
    error_code: str = ""
    error_message: str = ""
    parameters: Plain | None = None
    response: Plain | None = None
    additional: Plain | None = None
    resources: Sequence[Resource] = ()
    tls: Mapping[str, str] = field(default_factory=dict)
    shared_event_id: str = ""
    event_type: str = "AwsApiCall"


def cloudtrail_event(call: Happened) -> dict[str, object]:
    """The record of ``call``, with an event id of its own."""
    event: dict[str, object] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": call.identity.element(),
        "eventTime": iso_time(call.time),
        "eventSource": call.source,
        "eventName": call.name,
        "awsRegion": call.region,
        "sourceIPAddress": call.source_ip or call.identity.invoked_by or "unknown",
        "userAgent": _short(call.user_agent) or "unknown",
    }
    if call.error_code:
        event["errorCode"] = call.error_code
        if call.error_message:
            event["errorMessage"] = _short(call.error_message)
    event["requestParameters"] = _bounded(call.parameters)
    event["responseElements"] = _bounded(call.response)
    if call.additional:
        event["additionalEventData"] = _bounded(call.additional)
    event["requestID"] = call.request_id
    event["eventID"] = str(uuid.uuid4())
    event["readOnly"] = call.read_only
    if call.resources:
        event["resources"] = [_resource(one) for one in call.resources]
    event["eventType"] = call.event_type
    event["managementEvent"] = call.event_class == "Management"
    event["recipientAccountId"] = call.account
    if call.shared_event_id:
        event["sharedEventID"] = call.shared_event_id
    event["eventCategory"] = call.event_class
    if call.tls:
        event["tlsDetails"] = dict(call.tls)
    return event


def service_event(
    name: str, facts: Mapping[str, str | int], now: datetime, account: str, region: str
) -> dict[str, object]:
    """What the trail records of itself: that it began, ended, was repaired, found the disk full or the clock behind."""
    return {
        "eventVersion": EVENT_VERSION,
        "userIdentity": Identity("AWSService", account=account, invoked_by=SERVICE_SOURCE).element(),
        "eventTime": iso_time(now),
        "eventSource": SERVICE_SOURCE,
        "eventName": name,
        "awsRegion": region,
        "sourceIPAddress": SERVICE_SOURCE,
        "userAgent": SERVICE_SOURCE,
        "requestParameters": None,
        "responseElements": None,
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsServiceEvent",
        "managementEvent": True,
        "recipientAccountId": account,
        "serviceEventDetails": dict(facts) or None,
        "eventCategory": "Management",
    }


def _session_context(session: Issuer) -> dict[str, object]:
    found: dict[str, object] = {}
    if session.role_arn:
        found["sessionIssuer"] = {
            "type": "Role",
            "principalId": session.role_id,
            "arn": session.role_arn,
            "accountId": session.account,
            "userName": session.role_arn.rpartition("/")[2],
        }
    if session.federated_provider:
        found["webIdFederationData"] = {"federatedProvider": session.federated_provider, "attributes": {}}
    found["attributes"] = {
        "creationDate": iso_time(session.issued_at),
        "mfaAuthenticated": "true" if session.mfa else "false",
    }
    if session.source_identity:
        found["sourceIdentity"] = session.source_identity
    return found


def _resource(one: Resource) -> dict[str, str]:
    found = {"accountId": one.account, "type": one.type, "ARN": one.arn}
    return {name: value for name, value in found.items() if value}


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[: TEXT_CHARACTERS_MAX - 3] + "..."


def _bounded(plain: Plain | None) -> Plain | None:
    """``plain`` itself, or a word on its size where it is too large or cannot be written."""
    if not plain:
        return None
    try:
        size = len(msgspec.json.encode(plain))
    except (TypeError, ValueError, RecursionError):
        return {"omitted": True, "reason": "cannot be written as JSON"}
    if size > PARAMETERS_BYTES_MAX:
        return {"omitted": True, "originalSize": size, "reason": f"more than {PARAMETERS_BYTES_MAX} bytes"}
    return plain
