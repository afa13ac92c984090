"""STS's operations, by the names of its service model: temporary credentials, and who one is.

Not covered: SAML, federated users (GetFederationToken), root sessions of member accounts (AssumeRoot), MFA devices and
contexts provided by other identity providers; those operations and members are refused, never passed over. AWS lets
sessions of GetSessionToken without MFA call neither IAM nor most of STS: here their user's policies alone decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from outcrop.base.arn import Arn
from outcrop.base.errors import AuthenticationError, NotFound
from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.sts import grants, parameters
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated import sts as shapes
from outcrop.trust.identity import IssuedSession, Session, web_identity
from outcrop.trust.identity.records import Role
from outcrop.trust.identity.sessions import TOKEN_LENGTH_MAX
from outcrop.trust.policy import ContextValue

ASSUME = "sts:AssumeRole"
ASSUME_WEB = "sts:AssumeRoleWithWebIdentity"
TAG = "sts:TagSession"
SET_SOURCE = "sts:SetSourceIdentity"
USER_DEFAULT_S = 43_200
ROOT_MAX_S = 3600

_SOURCE_IDENTITY = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


async def assume_role(context: Context, caller: Caller, request: shapes.AssumeRoleRequest) -> shapes.AssumeRoleResponse:
    """A session of a role, where its trust policy and the caller's own permissions let the caller have one."""
    who = caller.principal
    if who.kind == "root":
        raise AwsError("AccessDeniedException", "Roles may not be assumed by root accounts.", "sts")
    if request.provided_contexts:
        raise parameters.invalid("ProvidedContexts are not supported here.")
    parameters.refuse_mfa(request.serial_number, request.token_code)
    role = grants.find_role(context, request.role_arn)
    asked, tags, transitive = parameters.session_tags(who.session, request.tags, request.transitive_tag_keys)
    inherited = "" if who.session is None else who.session.source_identity
    source_identity = inherited or request.source_identity or ""
    asker = grants.Asker.of(context, caller, Arn.parse(request.role_arn).account)
    if request.source_identity not in (None, source_identity):
        raise grants.denied(asker, SET_SOURCE, request.role_arn)  # once set it stays for the whole chain
    keys = _session_keys(request.role_session_name, asked, request.transitive_tag_keys or (), source_identity)
    if request.external_id is not None:
        keys["sts:ExternalId"] = request.external_id
    actions = (ASSUME, *([TAG] if tags else []), *([SET_SOURCE] if source_identity else []))
    grants.must_allow(asker, actions, request.role_arn, role, keys)
    assert role is not None  # must_allow refuses without a role
    made = _issue_role(
        context,
        role,
        _Wanted(
            name=request.role_session_name,
            duration_s=parameters.role_duration_s(request.duration_seconds, role, chained=parameters.is_chained(who)),
            policies=parameters.session_policies(context, role.account, request.policy, request.policy_arns),
            tags=tags,
            transitive=transitive,
            source_identity=source_identity,
            chained=parameters.is_chained(who),
            length_min=request.minimum_session_token_size or 0,
        ),
    )
    return shapes.AssumeRoleResponse(
        credentials=_credentials(made.issued),
        assumed_role_user=made.user,
        packed_policy_size=made.packed_percent,
        source_identity=source_identity or None,
        session_token_size=len(made.issued.session_token),
        session_token_utilization=_utilization(made.issued),
    )


async def assume_role_with_web_identity(
    context: Context, caller: Caller, request: shapes.AssumeRoleWithWebIdentityRequest
) -> shapes.AssumeRoleWithWebIdentityResponse:
    """A session of a role for whom a registered OpenID Connect provider vouches; the token is the only proof."""
    if request.provider_id is not None:
        raise parameters.invalid("ProviderId is for OAuth 2.0 access tokens, which are not supported here.")
    role = grants.find_role(context, request.role_arn)
    account = Arn.parse(request.role_arn).account
    found = _web_identity(context, account, request.web_identity_token)
    asker = grants.Asker.of_web_identity(context, caller, account, found.provider_arn, found.keys)
    tags = [shapes.Tag(key=key, value=value) for key, value in found.tags.items()]
    asked, tags_kept, transitive = parameters.session_tags(None, tags, found.transitive_tag_keys)
    keys = _session_keys(request.role_session_name, asked, found.transitive_tag_keys, found.source_identity)
    actions = (ASSUME_WEB, *([TAG] if tags_kept else []), *([SET_SOURCE] if found.source_identity else []))
    grants.must_allow(asker, actions, request.role_arn, role, keys)
    assert role is not None  # must_allow refuses without a role
    made = _issue_role(
        context,
        role,
        _Wanted(
            name=request.role_session_name,
            duration_s=parameters.role_duration_s(request.duration_seconds, role, chained=False),
            policies=parameters.session_policies(context, role.account, request.policy, request.policy_arns),
            tags=tags_kept,
            transitive=transitive,
            source_identity=found.source_identity,
            federated_provider=found.provider_arn,
            length_min=request.minimum_session_token_size or 0,
        ),
    )
    return shapes.AssumeRoleWithWebIdentityResponse(
        credentials=_credentials(made.issued),
        subject_from_web_identity_token=found.subject,
        assumed_role_user=made.user,
        packed_policy_size=made.packed_percent,
        provider=found.provider_arn,
        audience=found.audience,
        source_identity=found.source_identity or None,
        session_token_size=len(made.issued.session_token),
        session_token_utilization=_utilization(made.issued),
    )


async def get_session_token(
    context: Context, caller: Caller, request: shapes.GetSessionTokenRequest
) -> shapes.GetSessionTokenResponse:
    """A session of the user (or root) that asks with long-term credentials, with all that the user may do."""
    who = caller.principal
    if who.session is not None or who.kind not in ("user", "root"):
        raise AwsError("AccessDeniedException", "Cannot call GetSessionToken with session credentials", "sts")
    parameters.refuse_mfa(request.serial_number, request.token_code)
    duration_s = USER_DEFAULT_S if request.duration_seconds is None else request.duration_seconds
    now = context.clock.now()
    session = Session(
        role_arn="",
        name="",
        issued_at=now,
        expires_at=now + timedelta(seconds=min(duration_s, ROOT_MAX_S) if who.kind == "root" else duration_s),
        subject_id=who.user_id,
        mfa=False,
    )
    issued = context.trust.sessions.issue(
        account=who.account,
        arn=who.arn,
        user_id=who.user_id,
        kind=who.kind,
        session=session,
        length_min=request.minimum_session_token_size or 0,
    )
    return shapes.GetSessionTokenResponse(
        credentials=_credentials(issued),
        session_token_size=len(issued.session_token),
        session_token_utilization=_utilization(issued),
    )


async def get_caller_identity(
    context: Context, caller: Caller, request: shapes.GetCallerIdentityRequest
) -> shapes.GetCallerIdentityResponse:
    """The principal that signed the request."""
    who = caller.principal
    return shapes.GetCallerIdentityResponse(user_id=who.user_id, account=who.account, arn=str(who.arn))


async def get_access_key_info(
    context: Context, caller: Caller, request: shapes.GetAccessKeyInfoRequest
) -> shapes.GetAccessKeyInfoResponse:
    """The account of a long-term access key, where it is the caller's own: other accounts' keys are not told of.

    Temporary keys are known by their session token alone, so their account cannot be told from the id.
    """
    try:
        record = context.trust.identity.get_key(request.access_key_id)
    except NotFound:
        record = None
    if record is None or record.account != caller.principal.account:
        raise parameters.invalid(f"There is no access key {request.access_key_id} in this account.")
    return shapes.GetAccessKeyInfoResponse(account=record.account)


HANDLERS: dict[str, Handler] = {
    "AssumeRole": assume_role,
    "AssumeRoleWithWebIdentity": assume_role_with_web_identity,
    "GetAccessKeyInfo": get_access_key_info,
    "GetCallerIdentity": get_caller_identity,
    "GetSessionToken": get_session_token,
}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A role's session as it shall be."""

    name: str
    duration_s: int
    policies: tuple[tuple[str, ...], tuple[str, ...]]
    tags: dict[str, str]
    transitive: tuple[str, ...]
    source_identity: str
    federated_provider: str = ""
    chained: bool = False
    length_min: int = 0


@dataclass(frozen=True, slots=True)
class _Made:
    issued: IssuedSession
    user: shapes.AssumedRoleUser
    packed_percent: int | None


def _issue_role(context: Context, role: Role, wanted: _Wanted) -> _Made:
    now = context.clock.now()
    inline, named = wanted.policies
    session = Session(
        role_arn=str(role.arn),
        name=wanted.name,
        issued_at=now,
        expires_at=now + timedelta(seconds=wanted.duration_s),
        policies=inline,
        policy_arns=named,
        tags=wanted.tags,
        transitive_tag_keys=wanted.transitive,
        source_identity=wanted.source_identity,
        federated_provider=wanted.federated_provider,
        chained=wanted.chained,
        subject_id=role.id,
        mfa=False,
    )
    percent = parameters.must_fit(session)
    arn = Arn(role.arn.partition, "sts", "", role.account, f"assumed-role/{role.name}/{wanted.name}")
    user_id = f"{role.id}:{wanted.name}"
    issued = context.trust.sessions.issue(
        account=role.account, arn=arn, user_id=user_id, kind="role", session=session, length_min=wanted.length_min
    )
    return _Made(issued, shapes.AssumedRoleUser(assumed_role_id=user_id, arn=str(arn)), percent)


def _web_identity(context: Context, account: str, token: str) -> web_identity.WebIdentity:
    """Who the token speaks for, or the refusal that STS has for it."""
    try:
        issuer = web_identity.unverified_issuer(token)
        provider = context.trust.identity.oidc.of_issuer(account, web_identity.provider_url(issuer))
        if provider is None:
            text = f"No OpenIDConnect provider found in your account for {issuer}"
            raise AwsError("InvalidIdentityTokenException", text, "sts")
        found = web_identity.verify(token, provider, context.clock)
    except AuthenticationError as error:
        raise AwsError(error.code, error.what, "sts") from None
    if found.source_identity and _SOURCE_IDENTITY.fullmatch(found.source_identity) is None:
        raise AwsError("IDPRejectedClaimException", "The source identity of the token is not of its form.", "sts")
    return found


def _session_keys(
    name: str, tags: dict[str, str], transitive: list[str] | tuple[str, ...], source_identity: str
) -> dict[str, ContextValue]:
    keys: dict[str, ContextValue] = {"sts:RoleSessionName": name}
    if tags:
        keys["aws:TagKeys"] = tuple(tags)
        keys.update({f"aws:RequestTag/{key}": value for key, value in tags.items()})
    if transitive:
        keys["sts:TransitiveTagKeys"] = tuple(transitive)
    if source_identity:
        keys["sts:SourceIdentity"] = source_identity
    return keys


def _credentials(issued: IssuedSession) -> shapes.Credentials:
    return shapes.Credentials(
        access_key_id=issued.access_key_id,
        secret_access_key=issued.secret_access_key,
        session_token=issued.session_token,
        expiration=issued.expires_at,
    )


def _utilization(issued: IssuedSession) -> int:
    """How much of the longest session token there is this one takes, in percent."""
    return -(-len(issued.session_token) * 100 // TOKEN_LENGTH_MAX)
