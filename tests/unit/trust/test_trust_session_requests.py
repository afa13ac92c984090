"""Temporary credentials, API keys of both kinds and signatures that hold once, through the authenticator."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from aws_bedrock_token_generator import BedrockTokenGenerator
from botocore.credentials import Credentials
from trust_signing import ACCESS_KEY_ID, CREDENTIAL, NOW, REGION, SECRET, sign, with_header

from outcrop.base.arn import Arn, account_id
from outcrop.base.clock import FakeClock, SystemClock
from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import (
    Authenticator,
    IssuedSession,
    MemoryCredentials,
    MemorySubjects,
    Principal,
    ReplayCache,
    Session,
    SessionKeys,
    Sessions,
    SignedRequest,
    Subject,
)

ACCOUNT = account_id("123456789012")
ROLE = "arn:aws:iam::123456789012:role/reader"
ASSUMED = Arn("aws", "sts", "", ACCOUNT, "assumed-role/reader/alice")
USER = Arn("aws", "iam", "", ACCOUNT, "user/alice")
LONG_TERM_KEY = "ABSK" + base64.b64encode(b"alice-at-123456789012:" + b"s" * 43).decode()
OWNER = Principal(
    ACCOUNT, USER, "AIDA1", "ACCA1", "user", "bearer", None, NOW + timedelta(days=30), bearer_type="LONG_TERM"
)


class Rig:
    def __init__(self, replay: ReplayCache | None = None, start=NOW) -> None:
        self.clock = FakeClock(start)
        self.subjects = MemorySubjects({ROLE: Subject("AROA1")})
        self.sessions = Sessions(SessionKeys.generate(), self.subjects, self.clock)
        credentials = MemoryCredentials(CREDENTIAL, api_keys={LONG_TERM_KEY: OWNER})
        self.authenticator = Authenticator(credentials, REGION, self.clock, sessions=self.sessions, replay=replay)

    def issue(self, lives: timedelta = timedelta(hours=1)) -> IssuedSession:
        now = self.clock.now()
        session = Session(ROLE, "alice", now, now + lives, subject_id="AROA1")
        return self.sessions.issue(account=ACCOUNT, arn=ASSUMED, user_id="AROA1:alice", kind="role", session=session)

    def accept(self, request: SignedRequest, **options) -> Principal:
        self.authenticator.check_head(replace(request, body=b""), "bedrock", allow_bearer=True)
        return self.authenticator.authenticate(request, "bedrock", allow_bearer=True, **options)

    def refuse(self, request: SignedRequest, code: str, text: str, **options) -> None:
        with pytest.raises(AuthenticationError, match=re.escape(text)) as caught:
            self.authenticator.authenticate(request, "bedrock", allow_bearer=True, **options)
        assert caught.value.code == code


@pytest.fixture
def rig() -> Rig:
    return Rig()


def signed_by(issued: IssuedSession, form: str = "header", **options) -> SignedRequest:
    keys = {"key_id": issued.access_key_id, "secret": issued.secret_access_key, **options}
    token = issued.session_token
    if form == "query":
        return sign(query=f"X-Amz-Security-Token={token}", expires="300", **keys)
    if form == "query, token as a header":
        return sign(unsigned={"x-amz-security-token": token}, expires="300", **keys)
    if form == "token added after signing":
        return sign(unsigned={"x-amz-security-token": token}, **keys)
    return sign(headers={"x-amz-security-token": token}, **keys)


FORMS = ["header", "token added after signing", "query", "query, token as a header"]


@pytest.mark.parametrize("form", FORMS)
def test_a_session_signs_in_every_form(rig: Rig, form: str) -> None:
    issued = rig.issue()
    principal = rig.accept(signed_by(issued, form))
    assert (str(principal.arn), principal.user_id, principal.kind) == (str(ASSUMED), "AROA1:alice", "role")
    assert principal.access_key_id == issued.access_key_id
    assert principal.token_expires_at == issued.expires_at
    assert principal.token_issued_at == NOW
    assert principal.bearer_type is None


@pytest.mark.parametrize("form", FORMS)
def test_the_secret_of_another_session_does_not_hold(rig: Rig, form: str) -> None:
    one, other = rig.issue(), rig.issue()
    mixed = replace(one, secret_access_key=other.secret_access_key)
    rig.refuse(signed_by(mixed, form), "InvalidSignatureException", "does not match")
    rig.refuse(signed_by(replace(one, secret_access_key=SECRET), form), "InvalidSignatureException", "does not match")
    mixed = replace(one, session_token=other.session_token)
    rig.refuse(signed_by(mixed, form), "UnrecognizedClientException", "is invalid.")


def test_a_long_term_key_does_not_take_a_token(rig: Rig) -> None:
    issued = replace(rig.issue(), access_key_id=ACCESS_KEY_ID, secret_access_key=SECRET)
    rig.refuse(signed_by(issued), "UnrecognizedClientException", "is invalid.")


@pytest.mark.parametrize("form", FORMS)
def test_an_ended_session_is_told_in_the_words_of_aws(rig: Rig, form: str) -> None:
    issued = rig.issue(timedelta(minutes=15))
    for late_s, alive in ((899, True), (900, False), (901, False)):
        at = NOW + timedelta(seconds=late_s)
        rig.clock.set(at)
        request = signed_by(issued, form, time=at)
        if alive:
            assert rig.accept(request)
        else:
            text = "The security token included in the request is expired"
            rig.refuse(request, "ExpiredTokenException", text)
            with pytest.raises(AuthenticationError, match=text):
                rig.authenticator.check_head(request, "bedrock", allow_bearer=True)


def test_a_skewed_clock_is_refused_with_a_session_as_without(rig: Rig) -> None:
    issued = rig.issue()
    assert rig.accept(signed_by(issued, time=NOW - timedelta(seconds=300)))
    rig.refuse(signed_by(issued, time=NOW - timedelta(seconds=301)), "InvalidSignatureException", "Signature expired")
    rig.refuse(signed_by(issued, time=NOW + timedelta(seconds=301)), "InvalidSignatureException", "not yet current")


def test_where_no_session_is_opened_a_session_is_unknown(rig: Rig) -> None:
    bare = Authenticator(MemoryCredentials(CREDENTIAL), REGION, rig.clock)
    with pytest.raises(AuthenticationError) as caught:
        bare.authenticate(signed_by(rig.issue()), "bedrock", allow_bearer=True)
    assert caught.value.code == "UnrecognizedClientException"


# Short-term API keys of a session


def bearing(key: str, name: str = "authorization") -> SignedRequest:
    value = f"Bearer {key}" if name == "authorization" else key
    return SignedRequest("POST", b"/", b"", [(b"host", b"localhost"), (name.encode(), value.encode())], b"{}")


def test_the_generator_of_aws_makes_keys_from_a_session() -> None:
    rig = Rig(start=SystemClock().now())
    issued = rig.issue()
    credentials = Credentials(issued.access_key_id, issued.secret_access_key, issued.session_token)
    key = BedrockTokenGenerator().get_token(credentials, REGION)
    for name in ("authorization", "x-api-key"):
        principal = rig.accept(bearing(key, name))
        assert (principal.auth, principal.bearer_type, str(principal.arn)) == ("bearer", "SHORT_TERM", str(ASSUMED))
        assert principal.token_expires_at == issued.expires_at  # sooner than the key's own twelve hours
    rig.clock.set(issued.expires_at)
    rig.refuse(bearing(key), "AccessDeniedException", "Bearer Token has expired")


def test_a_key_may_end_before_its_session() -> None:
    rig = Rig(start=SystemClock().now())
    issued = rig.issue(timedelta(hours=36))
    credentials = Credentials(issued.access_key_id, issued.secret_access_key, issued.session_token)
    ends_at = rig.accept(bearing(BedrockTokenGenerator().get_token(credentials, REGION))).token_expires_at
    assert timedelta(hours=11, minutes=59) < ends_at - rig.clock.now() <= timedelta(hours=12, seconds=5)


def test_a_revoked_session_takes_its_keys_along() -> None:
    rig = Rig(start=SystemClock().now())
    issued = rig.issue()
    credentials = Credentials(issued.access_key_id, issued.secret_access_key, issued.session_token)
    key = BedrockTokenGenerator().get_token(credentials, REGION)
    rig.subjects.subjects[ROLE] = Subject("AROA1", revoked_before=rig.clock.now() + timedelta(seconds=1))
    rig.refuse(bearing(key), "AccessDeniedException", "Bearer Token has expired")
    del rig.subjects.subjects[ROLE]
    rig.refuse(bearing(key), "AccessDeniedException", "Authentication failed")


# Long-term API keys


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_a_long_term_key_is_its_users(rig: Rig, name: str) -> None:
    principal = rig.accept(bearing(LONG_TERM_KEY, name))
    assert (str(principal.arn), principal.bearer_type) == (str(USER), "LONG_TERM")


def test_a_long_term_key_ends(rig: Rig) -> None:
    rig.clock.set(OWNER.token_expires_at - timedelta(seconds=1))
    assert rig.accept(bearing(LONG_TERM_KEY))
    rig.clock.set(OWNER.token_expires_at)
    rig.refuse(bearing(LONG_TERM_KEY), "AccessDeniedException", "Bearer Token has expired")


@pytest.mark.parametrize(
    "key", ["ABSK", LONG_TERM_KEY[:-1], LONG_TERM_KEY + "A", LONG_TERM_KEY.lower().replace("absk", "ABSK"), "ABSK\xe9"]
)
def test_another_long_term_key_is_refused(rig: Rig, key: str) -> None:
    rig.refuse(bearing(key), "AccessDeniedException", "Authentication failed")


def test_every_changed_character_of_a_long_term_key_is_noticed(rig: Rig) -> None:
    for index in range(4, len(LONG_TERM_KEY)):
        old = LONG_TERM_KEY[index]
        key = LONG_TERM_KEY[:index] + ("A" if old != "A" else "B") + LONG_TERM_KEY[index + 1 :]
        rig.refuse(bearing(key), "AccessDeniedException", "Authentication failed")


def test_an_endless_key_is_not_looked_up(rig: Rig) -> None:
    rig.refuse(bearing("ABSK" + "A" * 2000), "AccessDeniedException", "Authentication failed")


# Signatures that hold once


def test_a_signature_holds_once_where_asked(rig: Rig) -> None:
    strict = Rig(ReplayCache(NOW - timedelta(hours=1)))
    request = sign()
    strict.accept(request, once=True)
    strict.refuse(request, "InvalidSignatureException", "was used before", once=True)
    strict.accept(request)
    again = with_header(request, "user-agent", "another client")
    strict.refuse(again, "InvalidSignatureException", "was used before", once=True)
    strict.accept(sign(time=NOW + timedelta(seconds=1)), once=True)
    rig.accept(request, once=True)
    rig.accept(request, once=True)  # no cache, no memory


def test_a_refused_request_is_not_remembered() -> None:
    strict = Rig(ReplayCache(NOW - timedelta(hours=1)))
    request = sign()
    strict.refuse(replace(request, body=b"other"), "InvalidSignatureException", "does not match", once=True)
    assert strict.accept(request, once=True)


def test_a_signature_is_kept_for_as_long_as_it_would_be_accepted() -> None:
    cache = ReplayCache(NOW - timedelta(hours=1))
    strict = Rig(cache)
    plain, presigned = sign(), sign(expires="3600")
    strict.accept(plain, once=True)
    strict.accept(presigned, once=True)
    strict.clock.set(NOW + timedelta(seconds=300))
    strict.refuse(plain, "InvalidSignatureException", "was used before", once=True)
    strict.clock.set(NOW + timedelta(seconds=301))
    strict.refuse(plain, "InvalidSignatureException", "Signature expired", once=True)
    strict.refuse(presigned, "InvalidSignatureException", "was used before", once=True)
    assert len(cache) == 1
    strict.clock.set(NOW + timedelta(seconds=3600))
    strict.refuse(presigned, "InvalidSignatureException", "was used before", once=True)
    strict.clock.set(NOW + timedelta(seconds=3601))
    strict.accept(sign(time=NOW + timedelta(seconds=3601)), once=True)
    assert len(cache) == 1


def test_a_full_memory_refuses_instead_of_forgetting() -> None:
    strict = Rig(ReplayCache(NOW - timedelta(hours=1), entries_max=2))
    first = sign(body=b"0")
    strict.accept(first, once=True)
    strict.accept(sign(body=b"1"), once=True)
    strict.refuse(sign(body=b"2"), "ThrottlingException", "Rate exceeded", once=True)
    strict.refuse(first, "InvalidSignatureException", "was used before", once=True)
    strict.accept(sign(body=b"2"))
    strict.clock.set(NOW + timedelta(seconds=301))
    assert strict.accept(sign(body=b"3", time=NOW + timedelta(seconds=301)), once=True)


def test_one_account_cannot_use_up_the_memory() -> None:
    cache = ReplayCache(NOW, entries_max=10, account_entries_max=2)
    ends_at = NOW + timedelta(seconds=300)
    cache.use("a", "1", NOW, ends_at, NOW)
    cache.use("b", "1", NOW, ends_at, NOW)
    with pytest.raises(AuthenticationError, match="Rate exceeded"):
        cache.use("c", "1", NOW, ends_at, NOW)
    cache.use("c", "2", NOW, ends_at, NOW)
    later = NOW + timedelta(seconds=301)
    cache.use("d", "1", later, later, later)
    assert len(cache) == 1


def test_what_an_earlier_process_may_have_seen_is_refused() -> None:
    strict = Rig(ReplayCache(NOW + timedelta(milliseconds=700)))
    old = NOW - timedelta(seconds=1)
    strict.refuse(sign(time=old), "InvalidSignatureException", "was used before", once=True)
    assert strict.accept(sign(time=old))
    assert strict.accept(sign(), once=True)


def test_api_keys_may_come_again(rig: Rig) -> None:
    strict = Rig(ReplayCache(NOW - timedelta(hours=1)))
    for _ in range(3):
        assert strict.accept(bearing(LONG_TERM_KEY), once=True)
