"""Every forged, altered or stale proof of sender is refused; the requests that they are made from are accepted."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from outcrop.assurance.attack import Forgery, Keys, Target, forgeries, sign
from outcrop.base.arn import Arn, account_id
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import (
    Authenticator,
    MemoryCredentials,
    MemorySubjects,
    Principal,
    Session,
    SessionKeys,
    Sessions,
    SignedRequest,
    Subject,
    root_credential,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ACCOUNT = account_id("123456789012")
LONG_TERM = Keys("AKIAOUTCROPTESTKEY22", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
ROLE = "arn:aws:iam::123456789012:role/reader"
TARGET = Target("localhost:8080", "/model/m/converse", "eu-west-1", "bedrock", b'{"messages": []}')
REFUSALS = {
    "AccessDeniedException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}

clock = FakeClock(NOW)
sessions = Sessions(SessionKeys.generate(), MemorySubjects({ROLE: Subject("AROA1")}), clock)
issued = sessions.issue(
    account=ACCOUNT,
    arn=Arn("aws", "sts", "", ACCOUNT, "assumed-role/reader/alice"),
    user_id="AROA1:alice",
    kind="role",
    session=Session(ROLE, "alice", NOW, NOW + timedelta(hours=1), subject_id="AROA1"),
)
TEMPORARY = Keys(issued.access_key_id, issued.secret_access_key, issued.session_token)
AUTHENTICATOR = Authenticator(
    MemoryCredentials(root_credential("aws", ACCOUNT, LONG_TERM.access_key_id, LONG_TERM.secret)),
    TARGET.region,
    clock,
    sessions=sessions,
    hosts=frozenset({"localhost"}),
)
CASES = [
    pytest.param(each, id=f"{kind}: {each.name}")
    for kind, keys in (("long-term", LONG_TERM), ("temporary", TEMPORARY))
    for each in forgeries(TARGET, keys, NOW, bearer=True)
]


def authenticate(request: SignedRequest) -> Principal:
    return AUTHENTICATOR.authenticate(request, "bedrock", allow_bearer=True)


@pytest.mark.parametrize("expires", [None, "300"])
@pytest.mark.parametrize("keys", [LONG_TERM, TEMPORARY], ids=["long-term", "temporary"])
def test_what_the_forgeries_are_made_from_is_accepted(keys: Keys, expires: str | None) -> None:
    principal = authenticate(sign(TARGET, keys, NOW, expires=expires))
    assert principal.access_key_id == keys.access_key_id


@pytest.mark.parametrize("keys", [LONG_TERM, TEMPORARY], ids=["long-term", "temporary"])
def test_the_api_key_that_the_forgeries_are_made_from_is_accepted(keys: Keys) -> None:
    inner = Target("bedrock.amazonaws.com", "/", TARGET.region, "bedrock", b"")
    query = [("Action", "CallWithBearerToken")]
    text = sign(inner, keys, NOW, expires="3600", query=query, leave_out=["content-type"]).raw_query.decode()
    key = base64.b64encode(f"bedrock.amazonaws.com/?{text}&Version=1".encode()).decode()
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer bedrock-api-key-{key}".encode())]
    assert authenticate(SignedRequest("POST", b"/", b"", headers, b"")).auth == "bearer"


@pytest.mark.parametrize("forgery", CASES)
def test_a_forgery_is_refused(forgery: Forgery) -> None:
    with pytest.raises(AuthenticationError) as caught:
        authenticate(forgery.request)
    assert caught.value.code in REFUSALS
    for secret in (LONG_TERM.secret, TEMPORARY.secret, TEMPORARY.session_token):
        assert secret not in str(caught.value) + caught.value.detail


def test_each_variant_has_a_name_and_a_request_of_its_own() -> None:
    for keys in (LONG_TERM, TEMPORARY):
        variants = list(forgeries(TARGET, keys, NOW, bearer=True))
        assert len(variants) >= 150
        assert len({each.name for each in variants}) == len(variants)
        seen = {repr(each.request) for each in variants}
        assert len(seen) == len(variants)
        assert repr(sign(TARGET, keys, NOW)) not in seen
