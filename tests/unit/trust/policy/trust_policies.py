"""Short ways to write policies, requesters and requests in tests."""

from __future__ import annotations

from outcrop.trust.policy import (
    Decision,
    Layers,
    Policy,
    PolicyRole,
    Request,
    Requester,
    RequesterKind,
    compile_policy,
    decide,
)

OWN = "111122223333"
OTHER = "444455556666"
MODEL = "arn:aws:bedrock:us-east-1::foundation-model/outcrop.small-v1:0"
JOB = f"arn:aws:bedrock:us-east-1:{OWN}:model-customization-job/j1"
INVOKE = "bedrock:InvokeModel"

USER = Requester(RequesterKind.USER, OWN, f"arn:aws:iam::{OWN}:user/bob")
ROOT = Requester(RequesterKind.ROOT, OWN, f"arn:aws:iam::{OWN}:root")
ROLE_ARN = f"arn:aws:iam::{OWN}:role/app/worker"
SESSION_ARN = f"arn:aws:sts::{OWN}:assumed-role/worker/s1"
SESSION = Requester(RequesterKind.SESSION, OWN, SESSION_ARN, role_arn=ROLE_ARN)
FEDERATED = Requester(RequesterKind.FEDERATED, OWN, f"arn:aws:sts::{OWN}:federated-user/bob", role_arn=USER.arn)
SERVICE = Requester(RequesterKind.SERVICE, name="bedrock.amazonaws.com")
PROVIDER = f"arn:aws:iam::{OWN}:oidc-provider/idp.example.com"
WEB = Requester(RequesterKind.WEB_IDENTITY, name=PROVIDER)
ANONYMOUS = Requester(RequesterKind.ANONYMOUS)


def allow(action="*", resource="*", **elements) -> dict:
    """An Allow statement; ``None`` for an element leaves it out, keywords add others."""
    return _statement("Allow", action, resource, elements)


def deny(action="*", resource="*", **elements) -> dict:
    return _statement("Deny", action, resource, elements)


def _statement(effect, action, resource, elements) -> dict:
    written = {"Effect": effect, "Action": action, "Resource": resource, **elements}
    return {name: value for name, value in written.items() if value is not None}


def document(*statements, version="2012-10-17") -> dict:
    return {"Version": version, "Statement": list(statements)}


def policy(*statements, role=PolicyRole.IDENTITY, name="p", version="2012-10-17") -> Policy:
    return compile_policy(document(*statements, version=version), role, name)


def resource_policy(*statements, role=PolicyRole.RESOURCE) -> Policy:
    return policy(*statements, role=role, name="resource")


def scp(*statements) -> Policy:
    return policy(*statements, role=PolicyRole.SCP, name="scp")


def request(requester=USER, action=INVOKE, resource=MODEL, account=OWN, **context) -> Request:
    """A request; a keyword ``aws__Key`` is the condition key ``aws:Key``."""
    return Request(requester, action, resource, account, {key.replace("__", ":"): v for key, v in context.items()})


def ask(layers: Layers, **asked) -> Decision:
    return decide(request(**asked), layers)


def identity_allows(*statements, version="2012-10-17", context=None, **asked) -> bool:
    """What an identity policy of these statements alone says of one request."""
    wanted = request(**asked)
    if context is not None:
        wanted = Request(wanted.requester, wanted.action, wanted.resource, wanted.resource_account, context)
    return decide(wanted, Layers(identity=(policy(*statements, version=version),))).allowed
