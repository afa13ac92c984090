"""What a session is asked to be: tags, durations and sizes within the rules of STS."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.base.arn import AccountId, Arn
from outcrop.service.operations.sts import parameters
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated.sts import Tag
from outcrop.trust.identity import Principal, Session
from outcrop.trust.identity.records import Role

ACCOUNT = AccountId("123456789012")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
ROLE_ARN = Arn("aws", "iam", "", ACCOUNT, "role/reader")
ROLE = Role("AROA1", ACCOUNT, ROLE_ARN, "role", "reader", "/", "2026-01-01", max_session_s=7200)


def session(tags: dict[str, str] | None = None, transitive: tuple[str, ...] = (), role_arn: str = "arn") -> Session:
    return Session(
        role_arn=role_arn,
        name="s",
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        tags=tags or {},
        transitive_tag_keys=transitive,
        subject_id="AROA1",
    )


def tags(**pairs: str) -> list[Tag]:
    return [Tag(key=key, value=value) for key, value in pairs.items()]


def test_tags_of_a_first_session() -> None:
    asked, whole, transitive = parameters.session_tags(None, tags(Team="blue", stage="test"), ["team"])
    assert asked == whole == {"Team": "blue", "stage": "test"}
    assert transitive == ("Team",)


def test_transitive_tags_come_along_and_the_others_stay_behind() -> None:
    caller = session({"team": "blue", "stage": "test"}, ("team",))
    asked, whole, transitive = parameters.session_tags(caller, tags(colour="red"), ["colour"])
    assert asked == {"colour": "red"}
    assert whole == {"team": "blue", "colour": "red"}
    assert transitive == ("team", "colour")
    assert parameters.session_tags(caller, None, None) == ({}, {"team": "blue"}, ("team",))


@pytest.mark.parametrize(
    ("given_tags", "transitive"),
    [
        (tags(Team="red"), []),  # conflicts with the transitive one, whatever its letters
        (tags(a="1", A="2"), []),
        ([Tag(key="aws:x", value="y")], []),
        ([Tag(key="AWS:x", value="y")], []),
        ([], ["other"]),
        (tags(**{f"t{number}": "v" for number in range(50)}), []),  # 51 with the one that comes along
    ],
)
def test_tags_that_are_refused(given_tags: list[Tag], transitive: list[str]) -> None:
    with pytest.raises(AwsError) as caught:
        parameters.session_tags(session({"team": "blue"}, ("team",)), given_tags, transitive)
    assert caught.value.code == "ValidationError"


KEYS = st.sampled_from(["a", "A", "b", "B", "c", "aws:a"])


@given(
    st.dictionaries(KEYS, st.text(max_size=3)), st.lists(KEYS), st.lists(KEYS, max_size=4), st.lists(KEYS, max_size=3)
)
def test_no_request_changes_or_drops_what_is_transitive(
    held: dict[str, str], kept: list[str], asked: list[str], transitive: list[str]
) -> None:
    caller = session(held, tuple(dict.fromkeys(key for key in kept if key in held)))
    try:
        _, whole, passed_on = parameters.session_tags(caller, [Tag(key=key, value="new") for key in asked], transitive)
    except AwsError:
        return
    assert all(whole[key] == held[key] for key in caller.transitive_tag_keys)
    assert set(caller.transitive_tag_keys) <= set(passed_on) <= set(whole)
    assert set(whole) <= set(caller.transitive_tag_keys) | set(asked)


def test_durations() -> None:
    assert parameters.role_duration_s(None, ROLE, chained=False) == 3600
    assert parameters.role_duration_s(7200, ROLE, chained=False) == 7200
    assert parameters.role_duration_s(3600, ROLE, chained=True) == 3600
    for asked_s, chained in ((7201, False), (3601, True)):
        with pytest.raises(AwsError):
            parameters.role_duration_s(asked_s, ROLE, chained=chained)


def test_codes_of_devices_are_refused() -> None:
    parameters.refuse_mfa(None, None)
    for given_values in (("serial", None), (None, "123456"), ("serial", "123456")):
        with pytest.raises(AwsError) as caught:
            parameters.refuse_mfa(*given_values)
        assert caught.value.code == "AccessDenied"


def test_what_fits() -> None:
    assert parameters.must_fit(session()) is None
    assert 0 < (parameters.must_fit(session({"team": "blue"})) or 0) <= 100
    with pytest.raises(AwsError) as caught:
        parameters.must_fit(session({secrets.token_hex(60): secrets.token_hex(120) for _ in range(20)}))
    assert caught.value.code == "PackedPolicyTooLarge"


def test_who_is_in_a_chain() -> None:
    arn = Arn("aws", "sts", "", ACCOUNT, "assumed-role/reader/s")
    of_role = Principal(ACCOUNT, arn, "AROA1:s", "ASIA1", "role", "sigv4", session=session())
    of_user = Principal(ACCOUNT, arn, "AIDA1", "ASIA1", "user", "sigv4", session=session(role_arn=""))
    plain = Principal(ACCOUNT, arn, "AIDA1", "AKIA1", "user", "sigv4")
    assert [parameters.is_chained(who) for who in (of_role, of_user, plain)] == [True, False, False]
