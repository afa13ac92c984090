"""From a request to its sender: exactly one proof, of a kind this deployment knows, or a refusal.

Five proofs are known: a SigV4 ``Authorization`` header, a SigV4 query, ``Authorization: Bearer`` with a Bedrock API key
(short-term: a presigned request; long-term: a service-specific credential of a user), and either key as ``x-api-key``,
where Anthropic's own SDK puts it. A request with two of them is refused, since whoever checks one and whoever believes
the other must never differ. Signatures and short-term keys may be those of a session, whose token then comes along.

Not covered: what the sender may do; and, unless a ``ReplayCache`` is given and a request is authenticated ``once``,
a captured request sent again within its time.
"""

from __future__ import annotations

import re
from datetime import timedelta

from outcrop.base.arn import AccountId, Arn
from outcrop.base.clock import Clock
from outcrop.base.errors import AuthenticationError
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
from outcrop.trust.identity.credentials import Credential, CredentialSource, Principal
from outcrop.trust.identity.replay import ReplayCache
from outcrop.trust.identity.sessions import Sessions, find_credential

MAX_SKEW_S = 300  # five minutes, as AWS services other than S3 allow

_RULES = SigningRules()
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::[0-9]{1,5})?")


class Authenticator:
    """Establishes senders for one region. Holds no state but its replay cache's, so one serves all threads."""

    def __init__(
        self,
        credentials: CredentialSource,
        region: str,
        clock: Clock,
        *,
        max_skew_s: int = MAX_SKEW_S,
        hosts: frozenset[str] | None = None,
        sessions: Sessions | None = None,
        replay: ReplayCache | None = None,
    ) -> None:
        """``sessions`` opens session tokens; without it temporary credentials are unknown here, as any others may be.

        ``replay`` makes a signature of a request authenticated ``once`` hold a single time. ``hosts`` are the host
        names (without ports) that requests may be sent to; ``None`` allows any.

        Without the list a page in a browser on this machine could reach the service by a name of its own choosing
        (DNS rebinding), and a request signed for another deployment could be replayed here.
        """
        self._credentials = credentials
        self._region = region
        self._clock = clock
        self._max_skew_s = max_skew_s
        self._sessions = sessions
        self._replay = replay
        self._hosts = None if hosts is None else frozenset(map(str.lower, hosts))

    def authenticate(
        self,
        request: SignedRequest,
        service: str,
        allow_bearer: bool,
        also: frozenset[str] = frozenset(),
        *,
        once: bool = False,
    ) -> Principal:
        """The sender of ``request`` to ``service`` (the signing name), or an ``AuthenticationError``.

        ``also`` are further names that a request to the same operation may be signed for. ``once`` is for operations
        that change something: where there is a replay cache, the signature counts a single time. API keys are sent
        with every request by their nature, and are not looked at.
        """
        headers, query = self._head(request)
        proof = _proof(headers, query)
        if isinstance(proof, bytes):
            return self._bearer(proof, allow_bearer)
        principal = self._signed(request, headers, query, proof, (service, *also))
        if once and self._replay is not None:
            ends_at = proof.signed_at + timedelta(seconds=proof.expires_s or self._max_skew_s)
            self._replay.use(proof.signature, principal.account, proof.signed_at, ends_at, self._clock.now())
        return principal

    def anonymous(self, request: SignedRequest) -> Principal:
        """The sender of a request to an operation that takes no signature: nobody known, at a host name served here."""
        self._head(request)
        arn = Arn("aws", "iam", "", "", "anonymous")
        return Principal(AccountId(""), arn, "anonymous", "", "anonymous", "none")

    def check_head(
        self, request: SignedRequest, service: str, allow_bearer: bool, also: frozenset[str] = frozenset()
    ) -> None:
        """Refuse what no body could make good: no proof, an API key or claim that does not hold, an unknown key.

        Proves nothing of who signed: that takes the body, and ``authenticate``.
        """
        proof = _proof(*self._head(request))
        if isinstance(proof, bytes):
            self._bearer(proof, allow_bearer)
            return
        self._check_claim(proof, (service, *also))
        if self._credential(proof) is None:
            raise _unknown(proof)

    def _head(self, request: SignedRequest) -> tuple[Headers, Query]:
        headers = header_lists(request)
        if self._hosts is not None:
            _check_host(headers, self._hosts)
        return headers, query_pairs(request.raw_query)

    def _check_claim(self, claim: sigv4.Claim, services: tuple[str, ...]) -> None:
        sigv4.check_scope(claim, self._region, *services)
        sigv4.check_time(claim, self._clock.now(), self._max_skew_s)

    def _credential(self, claim: sigv4.Claim) -> Credential | None:
        """The key that the claim names, ``None`` where there is none; a session that has ended says so."""
        return find_credential(claim.access_key_id, claim.session_token, self._credentials, self._sessions)

    def _signed(
        self, request: SignedRequest, headers: Headers, query: Query, claim: sigv4.Claim, services: tuple[str, ...]
    ) -> Principal:
        self._check_claim(claim, services)
        if not is_normal(request.raw_path):
            # Signers resolve such paths before signing: one signature would hold for many paths, and the router sees
            # the path as sent.
            raise refusals.invalid("The request path must not have empty, '.' or '..' segments.")
        credential = self._credential(claim)
        canonical = sigv4.canonical_of(request, query, headers, claim, _RULES)
        # An unknown key costs the same work as a wrong signature.
        secret = refusals.DUMMY_SECRET if credential is None else credential.secret
        holds = sigv4.verify(claim, secret, canonical)
        if credential is None:
            raise _unknown(claim)
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
        return bearer.verify(
            key, self._credentials, self._sessions, region=self._region, now=self._clock.now(), skew_s=self._max_skew_s
        )


def _proof(headers: Headers, query: Query) -> sigv4.Claim | bytes:
    """The one proof in a request: what its signature claims, or an API key."""
    authorizations = headers.get(b"authorization", [])
    api_keys = headers.get(b"x-api-key", [])
    signed_query = sigv4.has_query_signature(query)
    if len(authorizations) + len(api_keys) + signed_query > 1:
        raise refusals.incomplete(
            "The request proves its sender in more than one way. Send one of: an Authorization header, an "
            "x-api-key header, a presigned query."
        )
    if signed_query:
        return sigv4.parse_query_claim(headers, query)
    if api_keys:
        return api_keys[0]
    if not authorizations:
        raise refusals.missing()
    scheme, _, token = authorizations[0].partition(b" ")
    if scheme.lower() == b"bearer":
        return token.strip()
    return sigv4.parse_header_claim(headers, authorizations[0])


def _unknown(claim: sigv4.Claim) -> AuthenticationError:
    return refusals.unrecognized(f"unknown or disabled access key {claim.access_key_id}")


def _check_host(headers: Headers, hosts: frozenset[str]) -> None:
    values = headers.get(b"host", ())
    name = _host_name(values[0].decode("latin-1")) if len(values) == 1 else ""
    if name not in hosts:
        raise refusals.denied(f"The host name {name!r} is not served here.", f"served: {', '.join(sorted(hosts))}")


def _host_name(host: str) -> str:
    """The name in a Host header without its port: ``[::1]:8443`` gives ``::1``; empty for what is no such header."""
    parts = _HOST.fullmatch(host)
    return (parts["address"] or parts["name"]).lower() if parts else ""
