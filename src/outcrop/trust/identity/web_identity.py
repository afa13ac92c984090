"""Web identities: who an OpenID Connect token speaks for, verified offline against a registered provider.

The issuer that a token names finds the provider of the account, whose key set (given by an administrator) must verify
it; its audience must be among the provider's client ids. Claims become condition keys under the issuer's name, as
``issuer.example.org/path:sub``. Source: IAM User Guide, "Available keys for AWS OIDC federation" and "Passing session
tags using AssumeRoleWithWebIdentity".

Not covered: revocation and replay of a token before its end, SAML, and providers without a key set (nothing is ever
fetched).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from outcrop.base.clock import Clock
from outcrop.base.errors import AuthenticationError, UserError
from outcrop.trust.crypto.jwt import TOKEN_CHARACTERS_MAX, Json, KeySet, OidcClaims, verify_oidc_token
from outcrop.trust.identity.names import tag_pairs
from outcrop.trust.identity.records import OidcProvider

TAGS_CLAIM = "https://aws.amazon.com/tags"
SOURCE_IDENTITY_CLAIM = "https://aws.amazon.com/source_identity"
_SCHEME = "https://"


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """Who a verified token speaks for, and what it passes on.

    ``keys`` are the condition keys that the provider's name qualifies, with their values.
    """

    provider_arn: str
    issuer: str
    subject: str
    audience: str
    keys: Mapping[str, str | tuple[str, ...]]
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: tuple[str, ...] = ()
    source_identity: str = ""


def unverified_issuer(token: str) -> str:
    """The issuer that ``token`` names, an https URL; proves nothing. ``AuthenticationError`` where none can be read."""
    parts = token.split(".")
    try:
        if len(token) > TOKEN_CHARACTERS_MAX or len(parts) != 3:
            raise ValueError("no compact JWS")
        issuer = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))["iss"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _invalid("The web identity token that was passed is not a JSON Web Token with an issuer.") from None
    if not isinstance(issuer, str) or not issuer.startswith(_SCHEME):
        raise _invalid("The issuer of the web identity token must be an https URL.")
    return issuer


def provider_url(issuer: str) -> str:
    """The URL under which ``issuer`` is registered: without its scheme, a bare host without a slash at its end."""
    name = issuer.removeprefix(_SCHEME)
    return name[:-1] if name.endswith("/") and name.count("/") == 1 else name


def verify(token: str, provider: OidcProvider, clock: Clock) -> WebIdentity:
    """Who ``token`` speaks for, as ``provider`` vouches; ``AuthenticationError`` with the codes of STS otherwise."""
    issuer = unverified_issuer(token)
    if provider_url(issuer) != provider.url:
        raise _invalid("The issuer of the web identity token is not that of the provider.")
    keys = _key_set(provider.jwks)
    if keys is None:
        raise _invalid("Couldn't retrieve verification key from your identity provider: no usable key set is stored.")
    if not provider.client_ids:
        raise _invalid("Incorrect token audience")
    found = verify_oidc_token(token, keys, issuer=issuer, audiences=provider.client_ids, clock=clock)
    return _identity(found, provider)


def _identity(found: OidcClaims, provider: OidcProvider) -> WebIdentity:
    party = found.claims.get("azp")
    known = [audience for audience in found.audiences if audience in provider.client_ids]
    if party is not None and (not isinstance(party, str) or party not in provider.client_ids):
        # The token was issued to another client: that it also names ours as an audience is not enough.
        raise _invalid("Incorrect token audience")
    audience = party if isinstance(party, str) else known[0]
    tags, transitive = _tags(found.claims.get(TAGS_CLAIM))
    source_identity = found.claims.get(SOURCE_IDENTITY_CLAIM, "")
    if not isinstance(source_identity, str):
        raise _invalid(f"The claim {SOURCE_IDENTITY_CLAIM} is no text.")
    keys: dict[str, str | tuple[str, ...]] = {f"{provider.url}:sub": found.subject, f"{provider.url}:aud": audience}
    for claim in ("amr", "email"):
        value = found.claims.get(claim)
        if isinstance(value, str):
            keys[f"{provider.url}:{claim}"] = value
        elif isinstance(value, list):
            keys[f"{provider.url}:{claim}"] = tuple(str(each) for each in value)
    return WebIdentity(
        str(provider.arn), provider.url, found.subject, audience, keys, tags, transitive, source_identity
    )


def _tags(claim: Json) -> tuple[dict[str, str], tuple[str, ...]]:
    """Session tags and transitive keys: ``{"principal_tags": {KEY: [VALUE]}, "transitive_tag_keys": [KEY]}``."""
    if claim is None:
        return {}, ()
    problem = _invalid(f"The claim {TAGS_CLAIM} is malformed.")
    if not isinstance(claim, dict):
        raise problem
    named, transitive = claim.get("principal_tags", {}), claim.get("transitive_tag_keys", [])
    if not isinstance(named, dict) or not isinstance(transitive, list):
        raise problem
    tags: dict[str, str] = {}
    for key, values in named.items():
        value = values[0] if isinstance(values, list) and len(values) == 1 else values
        if not isinstance(value, str):
            raise problem
        tags[key] = value
    keys = tuple(key for key in transitive if isinstance(key, str))
    if len(keys) != len(transitive):
        raise problem
    try:
        return tag_pairs(list(tags.items())), keys
    except UserError:
        raise problem from None


@lru_cache(maxsize=128)
def _key_set(jwks: str) -> KeySet | None:
    try:
        return KeySet(json.loads(jwks)) if jwks else None
    except (ValueError, UserError):
        return None


def _invalid(message: str) -> AuthenticationError:
    return AuthenticationError("InvalidIdentityToken", message)
