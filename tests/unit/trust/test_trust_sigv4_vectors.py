"""All v4 cases of the public AWS signing test suite, in header and in query form."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import SignedRequest, SigningRules, sigv4
from outcrop.trust.identity.canonical import header_lists, query_pairs

DATA = json.loads((Path(__file__).parent / "data" / "sigv4_cases.json").read_text("utf-8"))
SIGNER = DATA["signer"]
TIME = datetime.fromisoformat(SIGNER["time"]).astimezone(UTC)
CASES = [(case, form) for case in DATA["cases"] for form in ("header", "query")]
NAMES = [f"{case['name']}-{form}" for case, form in CASES]


def read(case: dict, form: str) -> tuple[sigv4.Claim, bytes]:
    facts = case["forms"][form]
    headers = [(name.encode(), value.encode()) for name, value in facts["headers"]]
    request = SignedRequest(
        facts["method"], facts["path"].encode(), facts["query"].encode(), headers, facts["body"].encode()
    )
    lists, query = header_lists(request), query_pairs(request.raw_query)
    if form == "header":
        claim = sigv4.parse_header_claim(lists, lists[b"authorization"][0])
    else:
        claim = sigv4.parse_query_claim(lists, query)
    rules = SigningRules(normalize_path=case["normalize_path"], sign_session_token=case["sign_session_token"])
    return claim, sigv4.canonical_of(request, query, lists, claim, rules)


def test_the_suite_is_whole() -> None:
    assert len(DATA["cases"]) == 38
    assert len({case["name"] for case in DATA["cases"]}) == 38


@pytest.mark.parametrize(("case", "form"), CASES, ids=NAMES)
def test_canonical_request_and_signature_are_the_suites(case: dict, form: str) -> None:
    facts = case["forms"][form]
    claim, canonical = read(case, form)
    assert hashlib.sha256(canonical).hexdigest() == facts["canonical_request_sha256"]
    assert sigv4.signature(claim, SIGNER["secret_access_key"], canonical) == facts["signature"]
    assert sigv4.verify(claim, SIGNER["secret_access_key"], canonical)
    assert not sigv4.verify(claim, SIGNER["secret_access_key"] + "x", canonical)


@pytest.mark.parametrize(("case", "form"), CASES, ids=NAMES)
def test_scope_and_time_of_every_case_hold_and_end(case: dict, form: str) -> None:
    claim, _ = read(case, form)
    lifetime_s = 300 if form == "header" else SIGNER["expires_s"]
    sigv4.check_scope(claim, SIGNER["region"], SIGNER["service"])
    sigv4.check_time(claim, TIME, 300)
    sigv4.check_time(claim, TIME + timedelta(seconds=lifetime_s), 300)
    with pytest.raises(AuthenticationError, match="Signature expired"):
        sigv4.check_time(claim, TIME + timedelta(seconds=lifetime_s + 1), 300)
