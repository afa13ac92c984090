"""Sealed session tokens: what they hold, when they end, and that nothing else opens."""

from __future__ import annotations

import base64
import random
import string
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from trust_signing import NOW, SECRET

from outcrop.base.arn import Arn, account_id
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuthenticationError, InvariantError, UserError
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.identity import (
    Credential,
    IssuedSession,
    MemoryCredentials,
    MemorySubjects,
    Session,
    SessionKeys,
    Sessions,
    Subject,
    packed_percent,
)
from outcrop.trust.identity import sessions as module

ACCOUNT = account_id("123456789012")
ROLE = "arn:aws:iam::123456789012:role/team/reader"
ROLE_ID = "AROAOUTCROPTESTROLE22"
ASSUMED = Arn("aws", "sts", "", ACCOUNT, "assumed-role/reader/alice")
USER = Arn("aws", "iam", "", ACCOUNT, "user/alice")
USER_ID = "AIDAOUTCROPTESTUSER22"
SESSION = Session(
    role_arn=ROLE,
    name="alice",
    issued_at=NOW,
    expires_at=NOW + timedelta(hours=1),
    policies=('{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock:*","Resource":"*"}]}',),
    policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
    tags={"team": "blue", "größe": "你好"},
    transitive_tag_keys=("team",),
    source_identity="alice@example.org",
    federated_provider="arn:aws:iam::123456789012:oidc-provider/issuer.example.org",
    chained=True,
    subject_id=ROLE_ID,
)


class Bench:
    """Sessions over subjects and a clock that a test can change."""

    def __init__(self, keys: SessionKeys | None = None) -> None:
        self.clock = FakeClock(NOW)
        self.subjects = MemorySubjects({ROLE: Subject(ROLE_ID), str(USER): Subject(USER_ID)})
        self.sessions = Sessions(keys or SessionKeys.generate(), self.subjects, self.clock)

    def issue(self, session: Session = SESSION, length_min: int = 0) -> IssuedSession:
        return self.sessions.issue(
            account=ACCOUNT,
            arn=ASSUMED,
            user_id=f"{ROLE_ID}:alice",
            kind="role",
            session=session,
            length_min=length_min,
        )

    def open(self, issued: IssuedSession, at: datetime | None = None) -> Credential:
        self.clock.set(at or self.clock.now())
        return self.sessions.open(issued.access_key_id, issued.session_token)

    def refuse(self, key_id: str, token: str, code: str = "UnrecognizedClientException") -> AuthenticationError:
        with pytest.raises(AuthenticationError) as caught:
            self.sessions.open(key_id, token)
        assert caught.value.code == code
        assert token not in str(caught.value) + caught.value.detail or not token
        return caught.value


@pytest.fixture
def bench() -> Bench:
    return Bench()


# What a token holds


def test_a_session_comes_back_as_it_was_issued(bench: Bench) -> None:
    issued = bench.issue()
    credential = bench.open(issued)
    assert credential == Credential(
        issued.access_key_id, issued.secret_access_key, ACCOUNT, ASSUMED, f"{ROLE_ID}:alice", "role", SESSION
    )
    principal = credential.principal("sigv4")
    assert (principal.kind, principal.session, principal.token_issued_at) == ("role", SESSION, NOW)
    assert principal.token_expires_at == SESSION.expires_at


def test_credentials_have_the_forms_of_aws(bench: Bench) -> None:
    issued = bench.issue()
    assert issued.access_key_id.startswith("ASIA")
    assert len(issued.access_key_id) == 20
    assert len(issued.secret_access_key) == len(SECRET) == 40
    assert set(issued.session_token) <= set(string.ascii_letters + string.digits + "-_")
    assert issued.expires_at == SESSION.expires_at


def test_each_session_has_credentials_of_its_own(bench: Bench) -> None:
    many = [bench.issue() for _ in range(20)]
    for part in ("access_key_id", "secret_access_key", "session_token"):
        assert len({getattr(issued, part) for issued in many}) == 20


def test_neither_secret_nor_token_shows(bench: Bench) -> None:
    issued = bench.issue()
    credential = bench.open(issued)
    for shown in (repr(issued), str(issued), repr(credential), repr(credential.principal("sigv4"))):
        assert issued.secret_access_key not in shown
        assert issued.session_token not in shown


def test_the_session_of_a_user_stands_for_the_user(bench: Bench) -> None:
    session = Session("", "", NOW, NOW + timedelta(hours=36), subject_id=USER_ID, mfa=False)
    issued = bench.sessions.issue(account=ACCOUNT, arn=USER, user_id=USER_ID, kind="user", session=session)
    principal = bench.open(issued).principal("sigv4")
    assert (str(principal.arn), principal.user_id, principal.kind) == (str(USER), USER_ID, "user")
    assert principal.session is not None
    assert principal.session.mfa is False
    del bench.subjects.subjects[str(USER)]
    bench.refuse(issued.access_key_id, issued.session_token)


# When it ends


def test_a_session_ends_to_the_second(bench: Bench) -> None:
    issued = bench.issue()
    assert bench.open(issued, SESSION.expires_at - timedelta(seconds=1))
    assert bench.open(issued, SESSION.expires_at - timedelta(microseconds=1))
    for late_s in (0, 1, 10**6):
        bench.clock.set(SESSION.expires_at + timedelta(seconds=late_s))
        error = bench.refuse(issued.access_key_id, issued.session_token, "ExpiredTokenException")
        assert error.what == "The security token included in the request is expired"


def test_times_are_rounded_down_to_the_second(bench: Bench) -> None:
    fraction = timedelta(milliseconds=999)
    issued = bench.issue(replace(SESSION, issued_at=NOW + fraction, expires_at=SESSION.expires_at + fraction))
    session = bench.open(issued).session
    assert session is not None
    assert (session.issued_at, session.expires_at) == (NOW, SESSION.expires_at)


def test_revoking_ends_what_was_issued_before_and_nothing_after(bench: Bench) -> None:
    before = bench.issue()
    bench.subjects.subjects[ROLE] = Subject(ROLE_ID, revoked_before=NOW + timedelta(seconds=1))
    bench.refuse(before.access_key_id, before.session_token, "ExpiredTokenException")
    after = bench.issue(replace(SESSION, issued_at=NOW + timedelta(seconds=1)))
    assert bench.open(after)


def test_a_session_of_the_very_moment_of_revocation_counts_as_later(bench: Bench) -> None:
    bench.subjects.subjects[ROLE] = Subject(ROLE_ID, revoked_before=NOW)
    assert bench.open(bench.issue())


def test_a_deleted_role_ends_its_sessions_at_once(bench: Bench) -> None:
    issued = bench.issue()
    assert bench.open(issued)
    del bench.subjects.subjects[ROLE]
    bench.refuse(issued.access_key_id, issued.session_token)


def test_a_role_made_again_under_the_name_inherits_no_session(bench: Bench) -> None:
    issued = bench.issue()
    bench.subjects.subjects[ROLE] = Subject("AROAANOTHERROLE222222")
    bench.refuse(issued.access_key_id, issued.session_token)
    bench.subjects.subjects[ROLE] = Subject(ROLE_ID)
    assert bench.open(issued)


# Nothing else opens


def test_every_changed_character_is_noticed(bench: Bench) -> None:
    issued = bench.issue()
    token = issued.session_token
    for index, old in enumerate(token):
        new = "A" if old != "A" else "B"
        bench.refuse(issued.access_key_id, token[:index] + new + token[index + 1 :])


def test_every_flipped_bit_of_the_sealed_bytes_is_noticed(bench: Bench) -> None:
    issued = bench.issue()
    sealed = base64.urlsafe_b64decode(issued.session_token + "=" * (-len(issued.session_token) % 4))
    for index in range(len(sealed)):
        for bit in (0, 7):
            changed = bytearray(sealed)
            changed[index] ^= 1 << bit
            token = base64.urlsafe_b64encode(bytes(changed)).rstrip(b"=").decode()
            bench.refuse(issued.access_key_id, token)


def test_a_token_has_one_spelling(bench: Bench) -> None:
    issued = next(issued for issued in iter(bench.issue, None) if len(issued.session_token) % 4 == 2)
    token = issued.session_token
    others = [letter for letter in string.ascii_letters if base64.urlsafe_b64decode(token[:-1] + letter + "==")]
    same = [
        letter
        for letter in others
        if base64.urlsafe_b64decode(f"{token[:-1]}{letter}==") == base64.urlsafe_b64decode(f"{token}==")
    ]
    assert len(same) > 1
    for letter in same:
        if letter != token[-1]:
            bench.refuse(issued.access_key_id, token[:-1] + letter)
    for spelling in (token + "==", token + "\n", " " + token, token.replace("-", "+").replace("_", "/") + "+"):
        bench.refuse(issued.access_key_id, spelling)


@pytest.mark.parametrize("length", [0, 1, 2, 5, 7, 50, 86, 120])
def test_a_cut_token_does_not_open(bench: Bench, length: int) -> None:
    issued = bench.issue()
    bench.refuse(issued.access_key_id, issued.session_token[:length])
    bench.refuse(issued.access_key_id, issued.session_token[:-length] if length else "")


@pytest.mark.parametrize("token", ["x", "A" * 100_000, "\u00e9" * 40, "\0", "AQ==", "AQAAAAAAAAAA"])
def test_arbitrary_texts_do_not_open(bench: Bench, token: str) -> None:
    bench.refuse("ASIAOUTCROPTESTKEY22", token)


def test_a_token_belongs_to_its_access_key(bench: Bench) -> None:
    one, other = bench.issue(), bench.issue()
    bench.refuse(one.access_key_id, other.session_token)
    bench.refuse(one.access_key_id.lower(), one.session_token)
    assert bench.open(one).secret != bench.open(other).secret


def test_a_token_of_another_deployment_does_not_open(bench: Bench) -> None:
    foreign = Bench().issue()
    bench.refuse(foreign.access_key_id, foreign.session_token)


def test_a_failure_is_not_remembered_as_one(bench: Bench) -> None:
    issued = bench.issue()
    elsewhere = Bench()
    elsewhere.refuse(issued.access_key_id, issued.session_token)
    assert bench.open(issued) is not None
    assert bench.open(issued).secret == issued.secret_access_key


# Rotation


def test_two_sealing_keys_live_at_a_time() -> None:
    first, second, third = (Secret(bytes([number]) * 32) for number in (1, 2, 3))
    bench = Bench(SessionKeys(first))
    old = bench.issue()
    bench.sessions.use(SessionKeys(first).rotated(second))
    new = bench.issue()
    assert bench.open(old).secret == old.secret_access_key
    assert bench.open(new).secret == new.secret_access_key
    bench.sessions.use(SessionKeys(first).rotated(second).rotated(third))
    assert bench.open(new).secret == new.secret_access_key
    bench.refuse(old.access_key_id, old.session_token)


def test_another_node_with_the_same_keys_opens_what_one_issued() -> None:
    keys = SessionKeys.generate()
    issued = Bench(keys).issue()
    assert Bench(keys).open(issued).secret == issued.secret_access_key


def test_a_sealing_key_has_32_bytes() -> None:
    with pytest.raises(InvariantError):
        Bench(SessionKeys(Secret(b"x" * 31)))


# Size


def test_nothing_packed_takes_no_space() -> None:
    assert packed_percent(Session(ROLE, "a", NOW, NOW)) == 0


def test_the_packed_size_bounds_policies_and_tags(bench: Bench) -> None:
    def with_tags(count: int) -> Session:
        return replace(SESSION, tags={random_text(40 + number): random_text(40) for number in range(count)})

    numbers = random.Random(7)

    def random_text(length: int) -> str:
        return "".join(numbers.choices(string.ascii_letters + string.digits, k=length))

    assert packed_percent(with_tags(10)) <= 100
    assert bench.open(bench.issue(with_tags(10)))
    large = with_tags(50)
    assert packed_percent(large) > 100
    with pytest.raises(UserError, match="of the space there is"):
        bench.issue(large)


def test_the_largest_content_fits_into_a_token_that_opens(bench: Bench) -> None:
    numbers = random.Random(7)
    policy = '{"Version":"2012-10-17","Statement":[]}'.ljust(2048)
    tags = {f"{number:02}{'k' * 126}": "v" * 256 for number in range(50)}
    session = replace(SESSION, policies=(policy,), tags=tags, transitive_tag_keys=tuple(tags))
    while packed_percent(session) < 97:
        number = numbers.randrange(50)
        session = replace(session, tags={**session.tags, f"{number:02}{'k' * 126}": f"{numbers.getrandbits(800):x}"})
    issued = bench.issue(session)
    assert len(issued.session_token) < module.TOKEN_LENGTH_MAX
    assert bench.open(issued).session == session


@pytest.mark.parametrize("length_min", [0, 100, 1001, 2048, 4096])
def test_a_token_can_be_made_longer(bench: Bench, length_min: int) -> None:
    issued = bench.issue(length_min=length_min)
    assert len(issued.session_token) >= length_min
    if length_min > 1000:
        assert len(issued.session_token) < length_min + 8
    assert bench.open(issued).session == SESSION


def test_a_session_of_more_than_36_hours_is_a_bug(bench: Bench) -> None:
    with pytest.raises(InvariantError):
        bench.issue(replace(SESSION, expires_at=NOW + timedelta(hours=36, seconds=1)))


# Which credential a claim names


def test_keys_and_tokens_must_belong_together(bench: Bench) -> None:
    issued = bench.issue()
    none = MemoryCredentials()
    find = module.find_credential
    assert find(issued.access_key_id, issued.session_token, none, bench.sessions) is not None
    assert find(issued.access_key_id, issued.session_token, none, None) is None
    for key_id, token in [(issued.access_key_id, None), ("AKIAOUTCROPTESTKEY22", issued.session_token)]:
        with pytest.raises(AuthenticationError) as caught:
            find(key_id, token, none, bench.sessions)
        assert caught.value.code == "UnrecognizedClientException"
