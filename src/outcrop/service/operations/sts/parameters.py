"""What an STS request asks a new session to be, checked: duration, session policies, tags.

Not covered: multi-factor devices, which this deployment does not know: a request that gives a code is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outcrop.base.errors import NotFound, UserError
from outcrop.service.operations.base import Context
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated import sts as shapes
from outcrop.trust.identity import Principal, Session, packed_percent
from outcrop.trust.identity.records import Role
from outcrop.trust.policy import PolicyRefused, PolicyRole, compile_policy

ROLE_DEFAULT_S = 3600
CHAINED_MAX_S = 3600
POLICY_CHARACTERS_MAX = 2048
POLICY_ARNS_MAX = 10
TAGS_MAX = 50


def invalid(message: str) -> AwsError:
    """The request breaks a rule of STS."""
    return AwsError("ValidationException", message, "sts")


def refuse_mfa(serial_number: str | None, token_code: str | None) -> None:
    """Refuse a code of a device: none is known here, and leaving it unread would pass for having checked it."""
    if serial_number is not None or token_code is not None:
        text = "MultiFactorAuthentication failed, unable to validate MFA code. No MFA devices are known here."
        raise AwsError("AccessDeniedException", text, "sts")


def role_duration_s(asked_s: int | None, role: Role, *, chained: bool) -> int:
    """How long a role's session lives, in seconds."""
    if chained and asked_s is not None and asked_s > CHAINED_MAX_S:
        raise invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
    if asked_s is not None and asked_s > role.max_session_s:
        raise invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    return ROLE_DEFAULT_S if asked_s is None else asked_s


def session_policies(
    context: Context, account: str, policy: str | None, arns: Sequence[shapes.PolicyDescriptorType] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The inline session policy, compiled once to see that it can be, and the ARNs of managed ones, each known."""
    if policy is not None:
        if len(policy) > POLICY_CHARACTERS_MAX:
            raise invalid(
                f"The session policy has {len(policy)} characters; at most {POLICY_CHARACTERS_MAX} are allowed."
            )
        _compiles(policy, "session policy", context.host.scope.partition)
    named = tuple(dict.fromkeys(each.arn for each in arns or () if each.arn))
    if len(named) > POLICY_ARNS_MAX:
        raise invalid(f"At most {POLICY_ARNS_MAX} policy ARNs can be passed; {len(named)} were given.")
    for arn in named:
        try:
            found = context.trust.identity.policies.get(account, arn)
            document = context.trust.identity.policies.version(account, arn, found.default_version).document
        except (NotFound, UserError):
            raise _malformed(f"Policy {arn} does not exist or is not attachable.") from None
        _compiles(document, arn, context.host.scope.partition)
    return (() if policy is None else (policy,)), named


def session_tags(
    caller: Session | None, tags: Sequence[shapes.Tag] | None, transitive: Sequence[str] | None
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """The tags asked for, all tags of the new session, and the keys that go on to the next.

    Transitive tags of the calling session come along and cannot be changed (IAM User Guide, "Pass session tags in AWS
    STS", "Chaining roles with session tags").
    """
    asked = {tag.key: tag.value for tag in tags or ()}
    keys = [tag.key.casefold() for tag in tags or ()]
    if len(keys) != len(set(keys)):
        raise invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(key.startswith("aws:") for key in keys):
        raise invalid("Tag keys that begin with aws: are reserved.")
    inherited = _inherited(caller)
    if not {key.casefold() for key in inherited}.isdisjoint(keys):
        raise invalid(
            "One of the specified tag keys can't be set because it conflicts with a transitive tag key from the "
            "calling session."
        )
    wanted = tuple(dict.fromkeys(transitive or ()))
    if not {key.casefold() for key in wanted} <= set(keys):
        raise invalid("The specified transitive tag key must be included in the requested tags.")
    whole = {**inherited, **asked}
    if len(whole) > TAGS_MAX:
        raise invalid(f"A session has at most {TAGS_MAX} tags; with those that come along it would have {len(whole)}.")
    spelled = {key.casefold(): key for key in asked}
    return asked, whole, (*inherited, *(spelled[key.casefold()] for key in wanted))


def must_fit(session: Session) -> int | None:
    """The packed size in percent, ``None`` where nothing was passed; refuse what does not fit."""
    percent = packed_percent(session)
    if percent > 100:
        text = f"Packed size of session tags and policies consumes {percent}% of allotted space."
        raise AwsError("PackedPolicyTooLargeException", text, "sts")
    return percent or None


def is_chained(who: Principal) -> bool:
    """Whether the caller is itself the session of a role."""
    return who.session is not None and who.session.role_arn != ""


def _inherited(caller: Session | None) -> Mapping[str, str]:
    if caller is None:
        return {}
    return {key: caller.tags[key] for key in caller.transitive_tag_keys}


def _compiles(document: str, name: str, partition: str) -> None:
    try:
        compile_policy(document, PolicyRole.SESSION, name, partition)
    except PolicyRefused as error:
        raise _malformed(error.what) from None


def _malformed(message: str) -> AwsError:
    return AwsError("MalformedPolicyDocumentException", message, "sts")
