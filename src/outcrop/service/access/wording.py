"""A denial in AWS's words (IAM User Guide, "Troubleshoot access denied error messages").

The caller learns who was refused what, and the kind of policy that stood in the way, as at AWS; never a policy's name,
a statement or a condition: those are in ``denials``, for administrators.
"""

from __future__ import annotations

from outcrop.trust.policy import Decision, Effect, PolicyRole, Reason, Request

_KIND = {
    PolicyRole.IDENTITY: "an identity-based policy",
    PolicyRole.RESOURCE: "a resource-based policy",
    PolicyRole.TRUST: "the role trust policy",
    PolicyRole.BOUNDARY: "a permissions boundary",
    PolicyRole.SESSION: "a session policy",
    PolicyRole.SCP: "a service control policy",
    PolicyRole.RCP: "a resource control policy",
}
_WITHOUT = {
    Reason.IDENTITY: "identity-based policy",
    Reason.RESOURCE: "resource-based policy",
    Reason.BOUNDARY: "permissions boundary",
    Reason.SESSION: "session policy",
    Reason.SCP: "service control policy",
    Reason.RCP: "resource control policy",
}
_DENYING_FIRST = (
    PolicyRole.RCP,
    PolicyRole.SCP,
    PolicyRole.RESOURCE,
    PolicyRole.TRUST,
    PolicyRole.IDENTITY,
    PolicyRole.BOUNDARY,
    PolicyRole.SESSION,
)
"""Which kind is named where several deny: the order in which AWS looks at them."""


def denied(request: Request, decision: Decision) -> str:
    """Why ``request`` was denied, as its caller is told."""
    who = request.requester.arn or "anonymous"
    head = f"User: {who} is not authorized to perform: {request.action} on resource: {request.resource}"
    if decision.reason is Reason.EXPLICIT_DENY:
        roles = {each.role for each in decision.matched if each.effect is Effect.DENY}
        return f"{head} with an explicit deny in {_KIND[next(role for role in _DENYING_FIRST if role in roles)]}"
    if decision.reason in _WITHOUT:
        return f"{head} because no {_WITHOUT[decision.reason]} allows the {request.action} action"
    return head
