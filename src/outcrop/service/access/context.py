"""The condition keys of a request: the global ones that are truly known, and those that the table takes from the input.

Source: IAM User Guide, "AWS global condition context keys"; KMS Developer Guide, "AWS KMS condition keys". A key whose
value is not known is absent, which policies can tell from every value. Nothing here believes a header that says where a
request came from.

Not covered: keys of networks (``aws:SourceVpc`` and its kin) and of calls that one service makes for another
(``aws:SourceArn``, ``aws:CalledVia``, ``kms:ViaService``): a request that arrives here is a direct one.
``aws:MultiFactorAuthAge`` stays absent, too. ``aws:RequestedRegion`` is the deployment's own for every service, also
for IAM, which at AWS is always asked in us-east-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from outcrop.service.access.base import Resource
from outcrop.service.access.members import member, tag_pairs, text, texts
from outcrop.service.access.table import Row
from outcrop.service.http import RawRequest
from outcrop.trust.identity import Principal
from outcrop.trust.policy import ContextValue

TYPES = {"root": "Account", "user": "User", "role": "AssumedRole", "anonymous": "Anonymous"}

Keys = dict[str, ContextValue]


def of_principal(principal: Principal, tags: Mapping[str, str], organisation_path: str) -> Keys:
    """What holds for every request of a principal; may be kept as long as tags and organisation stay."""
    session = principal.session
    arn = session.role_arn if session is not None and session.role_arn else str(principal.arn)
    keys: Keys = {"aws:PrincipalType": TYPES[principal.kind]}
    if principal.kind == "anonymous":
        return keys
    keys |= {
        "aws:PrincipalArn": arn,
        "aws:PrincipalAccount": principal.account,
        "aws:PrincipalIsAWSService": "false",
        "aws:ViaAWSService": "false",
        "aws:userid": principal.user_id,
    }
    if principal.kind == "user":
        keys["aws:username"] = principal.arn.resource.rpartition("/")[2]
    keys |= {f"aws:PrincipalTag/{key}": value for key, value in tags.items()}
    if organisation_path:
        keys["aws:PrincipalOrgID"] = organisation_path.partition("/")[0]
        keys["aws:PrincipalOrgPaths"] = [organisation_path]
    if session is not None:
        keys["aws:TokenIssueTime"] = _moment(session.issued_at)
        if session.mfa is not None:
            keys["aws:MultiFactorAuthPresent"] = text(session.mfa)
        if session.source_identity:
            keys["aws:SourceIdentity"] = session.source_identity
        if session.federated_provider:
            keys["aws:FederatedProvider"] = session.federated_provider
    if principal.bearer_type is not None:
        keys["bedrock:BearerTokenType"] = principal.bearer_type
    return keys


def of_request(request: RawRequest, now: datetime, region: str) -> Keys:
    """What the connection, the clock and the headers tell."""
    keys: Keys = {
        "aws:CurrentTime": _moment(now),
        "aws:EpochTime": str(int(now.timestamp())),
        "aws:SecureTransport": text(request.scheme == "https"),
        "aws:RequestedRegion": region,
    }
    if request.peer:
        address = _address(request.peer)
        if address:
            keys["aws:SourceIp"] = address
    for name, key in ((b"user-agent", "aws:UserAgent"), (b"referer", "aws:Referer")):
        value = request.header(name)
        if value is not None:
            keys[key] = value.decode("latin-1")
    return keys


def of_input(row: Row, value: Any, guardrail_arn: str) -> Keys:
    """The keys that the operation's row takes from its input. ``guardrail_arn`` ends before the guardrail's id."""
    keys: Keys = {}
    for key, path in row.keys:
        found = texts(member(value, path))
        if found is not None:
            keys[key] = found
    if row.tags:
        pairs = tag_pairs(member(value, row.tags))
        keys |= {f"aws:RequestTag/{key}": content for key, content in pairs.items()}
        keys["aws:TagKeys"] = list(pairs)
    if row.tag_keys:
        keys["aws:TagKeys"] = list(member(value, row.tag_keys) or ())
    if row.guardrail[0]:
        identifier, version = (member(value, path) for path in row.guardrail)
        if identifier is not None:
            arn = identifier if identifier.startswith("arn:") else guardrail_arn + identifier
            # A numbered version is part of the value, the draft is not (Bedrock User Guide, "Use guardrails with IAM").
            keys["bedrock:GuardrailIdentifier"] = f"{arn}:{version}" if (version or "").isdecimal() else arn
    return keys


def of_map(prefix: str, entries: Mapping[str, str]) -> Keys:
    """One key for each entry of a map, and their names: ``kms:EncryptionContext:NAME``, ``…ContextKeys``."""
    keys: Keys = {prefix + name: value for name, value in entries.items()}
    if entries:
        keys[prefix.removesuffix(":") + "Keys"] = list(entries)
    return keys


def of_resource(resource: Resource, action: str, principal: Principal, organisation_id: str) -> Keys:
    """What holds for one resource: its owner, its tags, and what only its kind has."""
    keys: Keys = {f"aws:ResourceTag/{key}": value for key, value in resource.tags.items()}
    if resource.account and resource.arn != "*":
        keys["aws:ResourceAccount"] = resource.account
        if organisation_id:
            keys["aws:ResourceOrgID"] = organisation_id
    if action.startswith("kms:"):
        keys["kms:CallerAccount"] = principal.account
    if action.startswith("iam:"):
        keys |= {f"iam:ResourceTag/{key}": value for key, value in resource.tags.items()}
    keys |= resource.keys
    return keys


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _address(peer: str) -> str:
    """``peer`` as a policy compares it: without a zone, IPv4 in its own form; empty where it is no address."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
