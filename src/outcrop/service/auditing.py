"""From a call in the pipeline to its one event in the audit trail.

``begin`` refuses what could not be recorded, before anything is done. ``finish`` records what became of the call:
done, denied, throttled, unauthenticated, unknown. A call whose event cannot be recorded is not answered as done. A
role or key of another account that was used is recorded for its owner as well, under one ``sharedEventID``.

A stream's event is written when the stream begins, since nothing that it may still do changes who asked for what. No
second record follows with its usage: CloudTrail's records of Bedrock have none, and usage belongs to invocation
logging. Prompts and replies are never here: parameters pass ``wire.redact``, and of the Anthropic and OpenAI surfaces,
which are no structures of a service model, only the model's name is taken.

Not covered: a change is committed before its event, so a kill between the two leaves a change that was not answered
and has none; requests that never became a call (a broken TLS handshake, no HTTP); someone without any key may write
events as fast as requests are taken, which fills the disk in time: the limits on connections bound that, not this.
"""

from __future__ import annotations

import getpass
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from outcrop.base.arn import AccountId, Arn, Scope
from outcrop.base.clock import Clock, SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import AuditUnavailable, UserError
from outcrop.service.http import Reply
from outcrop.service.trusted import Trust
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated import sts
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.redact import Json, redacted, request_parameters
from outcrop.trust.audit import Happened, Identity, Issuer, Resource, Trail, TrailConfig, cloudtrail_event
from outcrop.trust.audit.classes import ISSUES_CREDENTIALS, event_class, is_durable, is_read_only
from outcrop.trust.audit.digests import Delivery, Destination
from outcrop.trust.audit.event import service_event
from outcrop.trust.audit.index import EventIndex
from outcrop.trust.audit.keeper import AuditKeeper
from outcrop.trust.audit.spool import Spool
from outcrop.trust.identity import Principal

if TYPE_CHECKING:  # the pipeline asks this module, so at run time the arrow goes one way only
    from outcrop.service.pipeline import Call

AUDIT_FOLDER = "audit"
OPERATOR_COMMAND = "OperatorCommand"
ARGUMENT_CHARACTERS_MAX = 256
PAGE_SECRET = "audit pages"  # noqa: S105 - its name

SOURCES: Mapping[str, str] = {
    "anthropic": "bedrock-mantle",
    "bedrock-agent": "bedrock",
    "bedrock-agent-runtime": "bedrock",
    "bedrock-runtime": "bedrock",
    "openai": "bedrock-mantle",
    "sagemaker-runtime": "sagemaker",
}
"""Event sources that differ from the service's own name, without ``.amazonaws.com``."""
UNROUTED = "unrouted.outcrop"
"""The source of calls that no operation answers; a name of ours, AWS records none of those."""

RESOURCE_TYPES: Mapping[tuple[str, str], str] = {
    ("bedrock", "foundation-model"): "AWS::Bedrock::FoundationModel",
    ("bedrock", "guardrail"): "AWS::Bedrock::Guardrail",
    ("bedrock", "imported-model"): "AWS::Bedrock::ImportedModel",
    ("bedrock", "inference-profile"): "AWS::Bedrock::InferenceProfile",
    ("iam", "policy"): "AWS::IAM::Policy",
    ("iam", "role"): "AWS::IAM::Role",
    ("iam", "user"): "AWS::IAM::User",
    ("kms", "alias"): "AWS::KMS::Alias",
    ("kms", "key"): "AWS::KMS::Key",
}

_SECRET_MEMBER = re.compile(r"secret|token|password|plaintext|apikeyvalue|privatekey", re.IGNORECASE)
_QUOTED_VALUE = re.compile(r"alue '.*?' at", re.DOTALL)
_CLAIMED_KEY = re.compile(rb"Credential=([A-Z0-9]{16,32})/")
_UNAVAILABLE = "The service cannot record what it does now. Try again later."


def open_audit(data: Path, deployment: Deployment, trust: Trust, clock: Clock) -> AuditKeeper:
    """The trail of the data directory ``data``, open for writing: one process at a time has it.

    Where the profile is ``strict`` or ``airgap``, calls that only read stop as well when the trail's disk is full.
    """
    strict = trust.settings.profile in ("strict", "airgap")
    config = TrailConfig(deployment.account, deployment.region, reads_when_full=not strict)
    trail = Trail(data / AUDIT_FOLDER, trust.sealer, config, clock)
    try:
        page_key = trust.secrets.get(PAGE_SECRET)[0].reveal()
        index = EventIndex(trust.database, trail.log_directory, trail.public_keys.log, page_key, clock)
        destination = Destination(deployment.account, deployment.region, deployment.partition)
        return AuditKeeper(trail, index, Delivery(trail, destination, clock), clock)
    except BaseException:
        trail.close()
        raise


def record_command(data: Path, command: str, given: Mapping[str, str]) -> None:
    """Leave an event of an operator's command, for the service to take in; ``AuditUnavailable`` where that fails.

    It tells what was asked for, by which user of this machine, and not what came of it.
    """
    deployment = Deployment.load(data)
    facts: dict[str, str | int] = {"command": command, "user": getpass.getuser(), "uid": os.getuid()}
    facts |= {f"argument.{name}": value[:ARGUMENT_CHARACTERS_MAX] for name, value in given.items()}
    event = service_event(OPERATOR_COMMAND, facts, SystemClock().now(), deployment.account, deployment.region)
    Spool(data / AUDIT_FOLDER).put(event)


class Auditor:
    """Writes one trail. ``scope`` is the deployment: its account stands for callers that were not established."""

    def __init__(self, trail: Trail, scope: Scope, clock: Clock) -> None:
        self._trail = trail
        self._scope = scope
        self._clock = clock

    def begin(self, call: Call) -> None:
        """Refuse with 503 what could not be recorded; to be asked after the call is decided and before it acts."""
        try:
            self._trail.admit(mutating=self.changes(call))
        except AuditUnavailable:
            raise AwsError("ServiceUnavailableException", _UNAVAILABLE) from None

    def changes(self, call: Call) -> bool:
        """Whether the operation may change something, by the audit trail's table."""
        return not is_read_only(*_operation(call))

    def counts_once(self, call: Call) -> bool:
        """Whether a signature should serve for one call only: it changes something, or gives credentials out."""
        service, operation = _operation(call)
        return self.changes(call) or (service == "sts" and operation in ISSUES_CREDENTIALS)

    async def finish(self, call: Call, error: AwsError | None) -> None:
        """Record the call's outcome; 503 as an ``AwsError`` where that fails: then the reply must not go out."""
        try:
            # Somebody unknown must not make the disk work for each request; those events are batched.
            who = call.principal
            known = who is not None and (who.kind != "anonymous" or error is None)
            owners = _other_owners(call) if error is None else ()
            shared = str(uuid.uuid4()) if owners else ""
            missed: AuditUnavailable | None = None
            for owner in owners:
                try:
                    self._trail.submit(self._event(call, None, shared, owner))  # on the disk with the one that follows
                except AuditUnavailable as full:
                    missed = full
            event = self._event(call, error, shared)
            await self._trail.record(event, durable=known and is_durable(*_operation(call)))
            if missed is not None:
                raise missed
        except AuditUnavailable:
            if isinstance(call.reply, Reply) and not isinstance(call.reply.body, bytes):
                await call.reply.body.aclose()
            raise AwsError("ServiceUnavailableException", _UNAVAILABLE) from None

    def note(self, call: Call, error: AwsError) -> None:
        """Record, without waiting, a call that was refused early or whose client went away.

        There is nobody to refuse to any more, so a trail that takes nothing is no error here; it has said so itself.
        """
        try:
            self._trail.submit(self._event(call, error))
        except AuditUnavailable:
            return

    def tell_delivery(self, account: str, what: str, facts: Mapping[str, str | int]) -> None:
        """Record what became of an account's invocation log: that it stopped, goes on, or lost records."""
        event = cloudtrail_event(
            Happened(
                time=self._clock.now(),
                identity=Identity("AWSService", account=account, invoked_by="bedrock.amazonaws.com"),
                source="bedrock.amazonaws.com",
                name=what,
                region=self._scope.region,
                account=account,
                request_id="",
                event_class="Management",
                read_only=False,
                additional=dict(facts),
                event_type="AwsServiceEvent",
            )
        )
        try:
            self._trail.submit(event)
        except AuditUnavailable:
            return  # said in the operator's log already

    def _event(
        self, call: Call, error: AwsError | None, shared: str = "", owner: AccountId | None = None
    ) -> dict[str, object]:
        """The record for the caller's account; with ``owner`` the one for another account whose resource was used."""
        service, operation = _operation(call)
        account = owner or self._account(call, error)
        parameters = _parameters(call, service, operation)
        return cloudtrail_event(
            Happened(
                time=self._clock.now(),
                identity=_identity(call) if owner is None else _stranger(call),
                source=f"{SOURCES.get(service, service)}.amazonaws.com" if service else UNROUTED,
                name=operation or "UnknownOperation",
                region=self._scope.region,
                account=account,
                request_id=call.request_id,
                event_class=event_class(service, operation),
                read_only=is_read_only(service, operation),
                source_ip=call.request.peer,
                user_agent=(call.request.header(b"user-agent") or b"").decode("latin-1"),
                error_code=error.code if error is not None else "",
                error_message=_message(error, service, operation) if error is not None else "",
                parameters=parameters,
                response=_response(call, service, operation) if error is None else None,
                additional=_additional(call, service),
                resources=_resources(parameters),
                tls=_tls(call),
                shared_event_id=shared,
            )
        )

    def _account(self, call: Call, error: AwsError | None) -> AccountId:
        """Whose event it is: the caller's; of somebody anonymous who was given a role, the role's owner's.

        What was refused to somebody unknown is the deployment's: else anybody could write into any account's trail.
        """
        who = call.principal
        if who is not None and who.account:
            return who.account
        role = _arn(getattr(call.input, "role_arn", None)) if who is not None and error is None else None
        return AccountId(role.account) if role is not None and role.account else self._scope.account


def _other_owners(call: Call) -> Sequence[AccountId]:
    """The accounts, beside the caller's, whose role was taken or whose key was used: their trails show it, too."""
    who, (service, operation) = call.principal, _operation(call)
    if who is None or not who.account:
        return ()
    named: list[object] = []
    if (service, operation) == ("sts", "AssumeRole"):
        named = [getattr(call.input, "role_arn", None)]
    elif service == "kms":
        members = ("key_id", "source_key_id", "destination_key_id", "target_key_id")
        named = [getattr(side, member, None) for side in (call.input, call.output) for member in members]
    arns = [arn for text in named if (arn := _arn(text)) is not None]
    return sorted({AccountId(arn.account) for arn in arns if arn.account not in ("", who.account)})


def _arn(text: object) -> Arn | None:
    if not isinstance(text, str) or not text.startswith("arn:"):
        return None
    try:
        return Arn.parse(text)
    except UserError:
        return None


def _operation(call: Call) -> tuple[str, str]:
    """Service and operation by their names in the service models; empty where no operation was found."""
    if call.endpoint is None:
        return "", ""
    service, _, operation = call.endpoint.name.partition(":")
    return service, operation


def _message(error: AwsError, service: str, operation: str) -> str:
    """The error's text without values that the caller sent: complaints quote them, and one may be a prompt."""
    if not is_durable(service, operation) and error.status == 400:
        return ""
    return _QUOTED_VALUE.sub("alue '...' at", error.message)


def _identity(call: Call) -> Identity:
    who = call.principal
    if who is None:
        claimed = _CLAIMED_KEY.search(call.request.header(b"authorization") or b"")
        return Identity("Unknown", access_key_id=claimed[1].decode() if claimed else "")
    if who.kind == "anonymous":
        return _web_identity(call.output) or Identity("AWSAccount", principal_id="ANONYMOUS")
    known = {
        "account": str(who.account),
        "arn": str(who.arn),
        "principal_id": who.user_id,
        "access_key_id": who.access_key_id,
    }
    if who.kind == "role":
        return Identity("AssumedRole", **known, session=_issuer(who))
    if who.kind == "root":
        return Identity("Root", **known, session=_issuer(who))
    return Identity("IAMUser", **known, user_name=who.arn.resource.rpartition("/")[2], session=_issuer(who))


def _stranger(call: Call) -> Identity:
    """The caller as another account's trail shows it: its account and id, as in CloudTrail's shared events."""
    who = call.principal
    assert who is not None
    return Identity("AWSAccount", account=who.account, principal_id=who.user_id)


def _web_identity(output: object) -> Identity | None:
    """Whom a verified token of an identity provider speaks for; of a refused one nothing is believed."""
    if not isinstance(output, sts.AssumeRoleWithWebIdentityResponse):
        return None
    subject = output.subject_from_web_identity_token or ""
    principal_id = f"{output.provider}:{output.audience}:{subject}"
    return Identity(
        "WebIdentityUser", principal_id=principal_id, user_name=subject, identity_provider=output.provider or ""
    )


def _issuer(who: Principal) -> Issuer | None:
    session = who.session
    if session is None:
        return None
    return Issuer(
        role_arn=session.role_arn,
        role_id=who.user_id.partition(":")[0] if session.role_arn else "",
        account=str(who.account),
        issued_at=session.issued_at,
        source_identity=session.source_identity,
        federated_provider=session.federated_provider,
        mfa=bool(session.mfa),
    )


def _parameters(call: Call, service: str, operation: str) -> dict[str, Json] | None:
    known = OPERATIONS.get((service, operation))
    if known is not None:
        return request_parameters(known, call.input) if isinstance(call.input, msgspec.Struct) else None
    model = getattr(call.input, "model", None)
    return {"model": model} if isinstance(model, str) else None


def _response(call: Call, service: str, operation: str) -> Mapping[str, Json] | None:
    """What was changed or given out. Only of calls that change something, and of those that issue credentials."""
    issues = service == "sts" and operation in ISSUES_CREDENTIALS
    if not isinstance(call.output, msgspec.Struct) or (is_read_only(service, operation) and not issues):
        return None
    return _without_secrets(redacted(call.output))


def _without_secrets(found: Mapping[str, Json]) -> dict[str, Json]:
    """Models mark most secrets as sensitive, session tokens not: whatever is named like one is left out."""
    return {name: _plain(value) for name, value in found.items() if not _SECRET_MEMBER.search(name)}


def _plain(value: Json) -> Json:
    if isinstance(value, dict):
        return _without_secrets(value)
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _additional(call: Call, service: str) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if call.principal is not None and call.principal.auth == "bearer":
        found["callWithBearerToken"] = True
    if not service:
        found["method"] = call.request.method[:16]
        found["path"] = call.request.raw_path[:256].decode("latin-1")
    return found


def _resources(parameters: Mapping[str, Json] | None) -> Sequence[Resource]:
    found = []
    for value in (parameters or {}).values():
        arn = _arn(value)
        if arn is not None:
            kind = RESOURCE_TYPES.get((arn.service, arn.resource_type), "")
            found.append(Resource(str(value), kind, arn.account))
    return found


def _tls(call: Call) -> dict[str, str]:
    """Only what is known here: the connection's own version and cipher stay with the server."""
    host = call.request.header(b"host")
    if call.request.scheme != "https" or host is None:
        return {}
    return {"clientProvidedHostHeader": host.decode("latin-1")}
