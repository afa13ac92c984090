"""From a request to its sender: exactly one proof, of a kind this deployment knows, or a refusal.

Four proofs are known: a SigV4 ``Authorization`` header, a SigV4 query, ``Authorization: Bearer`` with a Bedrock
short-term API key, and the same key as ``x-api-key``, where Anthropic's own SDK puts it. A request with two of them is
refused, since whoever checks one and whoever believes the other must never differ.
"""

from __future__ import annotations

from outcrop.base.clock import Clock
from outcrop.trust.crypto import sha256_hex
from outcrop.trust.identity import bearer, refusals, sigv4
from outcrop.trust.identity.canonical import (
    Headers,
    Query,
    SignedRequest,
    SigningRules,
    header_lists,
    is_normal,
    query_pairs,
)
from outcrop.trust.identity.credentials import CredentialSource, Principal

MAX_SKEW_S = 300  # five minutes, as AWS services other than S3 allow

_RULES = SigningRules()


class Authenticator:
    """Establishes senders for one region. Holds no state of its own, so one serves all threads."""

    def __init__(
        self,
        credentials: CredentialSource,
        region: str,
        clock: Clock,
        max_skew_s: int = MAX_SKEW_S,
        hosts: frozenset[str] | None = None,
    ) -> None:
        """``hosts`` are the host names (without ports) that requests may be sent to; ``None`` allows any.

        Without the list a page in a browser on this machine could reach the service by a name of its own choosing
        (DNS rebinding), and a request signed for another deployment could be replayed here.
        """
        self._credentials = credentials
        self._region = region
        self._clock = clock
        self._max_skew_s = max_skew_s
        self._hosts = None if hosts is None else frozenset(map(str.lower, hosts))

    def authenticate(
        self, request: SignedRequest, service: str, allow_bearer: bool, also: frozenset[str] = frozenset()
    ) -> Principal:
        """The sender of ``request`` to ``service`` (the signing name), or an ``AuthenticationError``.

        ``also`` are further names that a request to the same operation may be signed for.
        """
        headers = header_lists(request)
        if self._hosts is not None:
            _check_host(headers, self._hosts)
        query = query_pairs(request.raw_query)
        authorizations = headers.get(b"authorization", [])
        api_keys = headers.get(b"x-api-key", [])
        signed_query = sigv4.has_query_signature(query)
        if len(authorizations) + len(api_keys) + signed_query > 1:
            raise refusals.incomplete(
                "The request proves its sender in more than one way. Send one of: an Authorization header, an "
                "x-api-key header, a presigned query."
            )
        if signed_query:
            return self._signed(request, headers, query, sigv4.parse_query_claim(headers, query), (service, *also))
        if api_keys:
            return self._bearer(api_keys[0], allow_bearer)
        if not authorizations:
            raise refusals.missing()
        scheme, _, token = authorizations[0].partition(b" ")
        if scheme.lower() == b"bearer":
            return self._bearer(token.strip(), allow_bearer)
        claim = sigv4.parse_header_claim(headers, authorizations[0])
        return self._signed(request, headers, query, claim, (service, *also))

    def _signed(
        self, request: SignedRequest, headers: Headers, query: Query, claim: sigv4.Claim, services: tuple[str, ...]
    ) -> Principal:
        sigv4.check_scope(claim, self._region, *services)
        sigv4.check_time(claim, self._clock.now(), self._max_skew_s)
        if claim.has_session_token or claim.access_key_id.startswith("ASIA"):
            raise refusals.temporary_credentials()
        if not is_normal(request.raw_path):
            # Signers resolve such paths before signing: one signature would hold for many paths, and the router sees
            # the path as sent.
            raise refusals.invalid("The request path must not have empty, '.' or '..' segments.")
        credential = self._credentials.lookup(claim.access_key_id)
        canonical = sigv4.canonical_of(request, query, headers, claim, _RULES)
        # An unknown key costs the same work as a wrong signature.
        secret = refusals.DUMMY_SECRET if credential is None else credential.secret
        holds = sigv4.verify(claim, secret, canonical)
        if credential is None:
            raise refusals.unrecognized(f"unknown or disabled access key {claim.access_key_id}")
        if not holds:
            # Names only: the values may be secrets, and this goes into a log.
            raise refusals.mismatch(
                f"{request.method} {request.raw_path!r}, signed headers {';'.join(claim.signed_headers)}, "
                f"SHA-256 of the canonical request as received {sha256_hex(canonical)}"
            )
        return credential.principal(claim.form)

    def _bearer(self, key: bytes, allow_bearer: bool) -> Principal:
        if not allow_bearer:
            raise refusals.denied("This operation does not accept API keys: sign the request with SigV4.")
        return bearer.verify(key, self._credentials, self._region, self._clock.now(), self._max_skew_s)


def _check_host(headers: Headers, hosts: frozenset[str]) -> None:
    values = headers.get(b"host", ())
    name = _host_name(values[0].decode("latin-1")) if len(values) == 1 else ""
    if name not in hosts:
        raise refusals.denied(f"The host name {name!r} is not served here.", f"served: {', '.join(sorted(hosts))}")


def _host_name(host: str) -> str:
    """The name in a Host header without its port: ``[::1]:8443`` gives ``::1``."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
