"""What verifiers get wrong in practice, one test for each."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from trust_signing import ACCESS_KEY_ID, NOW, authenticator, header, sign, with_header

from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import Principal, SignedRequest, canonical, refusals, sigv4

MODEL_ARN = "arn%3Aaws%3Abedrock%3Aeu-west-1%3A%3Afoundation-model%2Foutcrop.pebble-v1%3A0"


def accept(request: SignedRequest) -> Principal:
    return authenticator().authenticate(request, "bedrock", allow_bearer=False)


def refuse(request: SignedRequest, code: str, text: str = "", service: str = "bedrock") -> None:
    with pytest.raises(AuthenticationError, match=re.escape(text) or None) as caught:
        authenticator().authenticate(request, service, allow_bearer=False)
    assert caught.value.code == code


def with_path(request: SignedRequest, path: bytes) -> SignedRequest:
    return SignedRequest(request.method, path, request.raw_query, request.headers, request.body)


# Paths


@pytest.mark.parametrize(
    "path",
    [
        f"/model/{MODEL_ARN}/converse",
        "/model/arn:aws:bedrock:eu-west-1::foundation-model%2Fpebble:0/invoke",
        "/agents/AGENT12345/",
        "/tags/a%20b%2520c",
        "/model/.hidden/converse",
        "/model/a..b/converse",
        "/model/h\u00e9/converse",
        "/",
    ],
)
def test_raw_paths_are_verified_as_received(path: str) -> None:
    accept(sign(path=path))


def test_a_decoded_path_no_longer_verifies() -> None:
    refuse(with_path(sign(path="/model/a%2Fb/converse"), b"/model/a/b/converse"), "InvalidSignatureException")


def test_a_trailing_slash_is_part_of_the_path() -> None:
    refuse(with_path(sign(path="/agents/A/"), b"/agents/A"), "InvalidSignatureException")


@pytest.mark.parametrize(("double_encode", "line"), [(True, b"/a%2520b"), (False, b"/a%20b")])
def test_paths_are_encoded_twice_unless_the_rules_say_once(double_encode: bool, line: bytes) -> None:
    rules = canonical.SigningRules(double_encode=double_encode)
    text = canonical.canonical_request(
        sign(path="/a%20b"), [], {b"host": [b"h"]}, signed_headers=["host"], payload_hash="", rules=rules
    )
    assert text.split(b"\n")[1] == line


@pytest.mark.parametrize("path", ["/model//converse", "/model/../converse", "/./model", "/model/x/..", "//"])
def test_paths_that_signers_resolve_are_refused(path: str) -> None:
    resolved = canonical.normalized(path.encode())
    refuse(with_path(sign(path=resolved.decode()), path.encode()), "InvalidSignatureException", "must not have empty")


# Headers


@pytest.mark.parametrize("expires", [None, "60"])
def test_authority_stands_for_host_as_http2_clients_sign_it(expires: str | None) -> None:
    request = sign(host_as=":authority", expires=expires)
    assert accept(request).access_key_id == ACCESS_KEY_ID
    refuse(with_header(request, "host", "other:8080"), "InvalidSignatureException", "does not match")


def test_header_values_are_trimmed_and_their_spaces_collapsed() -> None:
    request = sign(headers={"my-header": "a b c"})
    assert accept(with_header(request, "my-header", "  a   b \t c  "))


def test_duplicate_headers_join_in_order_of_arrival() -> None:
    request = with_header(sign(headers={"my-header": "one,two"}), "my-header", None)
    one, two = (b"my-header", b"one"), (b"my-header", b"two")
    fields = (request.method, request.raw_path, request.raw_query)
    accept(SignedRequest(*fields, [*request.headers, one, two], request.body))
    refuse(SignedRequest(*fields, [*request.headers, two, one], request.body), "InvalidSignatureException")


@pytest.mark.parametrize(
    "name",
    ["x-amz-target", "x-amz-content-sha256", "x-amzn-bedrock-guardrailidentifier", "x-amzn-sagemaker-target-model"],
)
def test_every_amz_header_present_must_be_signed(name: str) -> None:
    refuse(sign(unsigned={name: "v"}), "IncompleteSignatureException", f"'{name}' must be a 'SignedHeader'")
    refuse(sign(unsigned={name: "v"}, expires="60"), "IncompleteSignatureException", name)


def test_a_trace_id_added_on_the_way_is_no_harm() -> None:
    accept(sign(unsigned={"x-amzn-trace-id": "Root=1-5759e988", "x-forwarded-for": "10.0.0.1", "accept": "*/*"}))


@pytest.mark.parametrize(("removed", "text"), [("host", "'Host'"), ("x-amz-date", "'X-Amz-Date'")])
def test_host_and_date_must_be_signed(removed: str, text: str) -> None:
    request = sign()
    names = ";".join(name for name in ("host", "x-amz-date") if name != removed)
    value = re.sub("SignedHeaders=[^,]*", f"SignedHeaders={names}", header(request, "authorization"))
    refuse(with_header(request, "authorization", value), "IncompleteSignatureException", text)


@pytest.mark.parametrize(
    "names", ["x-amz-date;host", "host;host;x-amz-date", "Host;x-amz-date", "host;;x-amz-date", "host x"]
)
def test_signed_headers_must_be_lower_case_sorted_and_unique(names: str) -> None:
    request = sign()
    value = re.sub("SignedHeaders=[^,]*", f"SignedHeaders={names}", header(request, "authorization"))
    refuse(with_header(request, "authorization", value), "IncompleteSignatureException", "SignedHeaders")


def test_a_signed_header_that_did_not_arrive_is_refused() -> None:
    request = sign(headers={"x-stainless-os": "Linux"})
    refuse(with_header(request, "x-stainless-os", None), "InvalidSignatureException", "does not match")


@pytest.mark.parametrize("name", ["host", "x-amz-date"])
def test_host_and_date_may_come_once_only(name: str) -> None:
    request = sign(unsigned={name: header(sign(), name)})
    refuse(request, "IncompleteSignatureException", "exactly once")


# Body


def test_the_exact_body_bytes_are_hashed() -> None:
    request = sign(body=b'{"a": 1}')
    same_json = SignedRequest(request.method, request.raw_path, request.raw_query, request.headers, b'{"a":1}')
    refuse(same_json, "InvalidSignatureException", "does not match")


def test_a_stated_body_hash_must_be_the_bodys() -> None:
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    accept(sign(body=b"", headers={"x-amz-content-sha256": digest}))
    refuse(sign(body=b"x", headers={"x-amz-content-sha256": digest}), "InvalidSignatureException", "not the SHA-256")
    upper = sign(body=b"", headers={"x-amz-content-sha256": digest.upper()}, payload_hash=digest.upper())
    refuse(upper, "InvalidSignatureException", "not the SHA-256")


@pytest.mark.parametrize(
    "stated", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-EVENTS", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"]
)
def test_unsigned_and_streaming_payloads_are_refused(stated: str) -> None:
    request = sign(headers={"x-amz-content-sha256": stated}, payload_hash=stated)
    refuse(request, "InvalidSignatureException", "not supported here")


# Time


@pytest.mark.parametrize("skew_s", [-300, -1, 0, 299, 300])
def test_clocks_may_differ_by_five_minutes(skew_s: int) -> None:
    accept(sign(time=NOW + timedelta(seconds=skew_s)))


def test_a_signature_too_old_is_refused_in_the_words_of_aws() -> None:
    text = "Signature expired: 20260301T115459Z is now earlier than 20260301T115500Z (20260301T120000Z - 5 min.)"
    refuse(sign(time=NOW - timedelta(seconds=301)), "InvalidSignatureException", text)


def test_a_signature_from_the_future_is_refused_in_the_words_of_aws() -> None:
    text = (
        "Signature not yet current: 20260301T120501Z is still later than 20260301T120500Z (20260301T120000Z + 5 min.)"
    )
    refuse(sign(time=NOW + timedelta(seconds=301)), "InvalidSignatureException", text)
    refuse(sign(time=NOW + timedelta(seconds=301), expires="60"), "InvalidSignatureException", "not yet current")


def test_the_allowed_skew_can_be_set() -> None:
    request = sign(time=NOW - timedelta(seconds=900))
    assert authenticator(max_skew_s=900).authenticate(request, "bedrock", allow_bearer=False)
    with pytest.raises(AuthenticationError, match="- 90 s"):
        authenticator(max_skew_s=90).authenticate(request, "bedrock", allow_bearer=False)


@pytest.mark.parametrize("age_s", [0, 1])
def test_a_presigned_request_lives_as_long_as_it_says(age_s: int) -> None:
    accept(sign(time=NOW - timedelta(seconds=age_s), expires="1"))


def test_a_presigned_request_of_one_second_is_dead_after_two() -> None:
    refuse(sign(time=NOW - timedelta(seconds=2), expires="1"), "InvalidSignatureException", "Signature expired")


def test_a_presigned_request_may_live_a_week() -> None:
    accept(sign(time=NOW - timedelta(days=7), expires="604800"))
    refuse(sign(time=NOW - timedelta(days=7, seconds=1), expires="604800"), "InvalidSignatureException", "expired")


@pytest.mark.parametrize("expires", ["0", "604801", "-1", "1.5", "", "1e3", "+60", " 60", "9" * 30, "\u0661"])
def test_an_expiry_outside_one_second_to_a_week_is_refused(expires: str) -> None:
    refuse(sign(expires=expires), "IncompleteSignatureException", "X-Amz-Expires")


@pytest.mark.parametrize(
    "date", ["20260301", "2026-03-01T12:00:00Z", "20260301T250000Z", "20261301T000000Z", "00000101T000000Z"]
)
def test_a_malformed_date_is_refused(date: str) -> None:
    refuse(with_header(sign(), "x-amz-date", date), "IncompleteSignatureException", "ISO-8601")


# Scope


def test_the_scopes_day_must_be_the_dates() -> None:
    refuse(sign(scope_date="20260302"), "InvalidSignatureException", "'20260302' != '20260301'")


def test_another_region_or_service_is_named() -> None:
    refuse(sign(region="us-east-1"), "InvalidSignatureException", "valid region, not 'us-east-1'")
    refuse(sign(), "InvalidSignatureException", "correct service: 'sts'", service="sts")
    refuse(sign(terminator="aws4"), "InvalidSignatureException", "valid terminator")


# Keys


@pytest.mark.parametrize("expires", [None, "60"])
def test_an_unknown_key_is_refused_as_unrecognized(expires: str | None) -> None:
    refuse(sign(key_id="AKIAUNKNOWN234567ABC", expires=expires), "UnrecognizedClientException", "is invalid.")


def test_an_unknown_key_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    verify = sigv4.verify
    monkeypatch.setattr(
        sigv4, "verify", lambda claim, secret, text: calls.append(secret) or verify(claim, secret, text)
    )
    refuse(sign(key_id="AKIAUNKNOWN234567ABC"), "UnrecognizedClientException")
    refuse(sign(secret="wrong"), "InvalidSignatureException")
    assert len(calls) == 2
    assert calls[0] == refusals.DUMMY_SECRET


def test_a_signature_made_with_the_stand_in_secret_proves_nothing() -> None:
    forged = sign(key_id="AKIAUNKNOWN234567ABC", secret=refusals.DUMMY_SECRET)
    refuse(forged, "UnrecognizedClientException")


@pytest.mark.parametrize("expires", [None, "60"])
def test_a_session_token_and_a_temporary_key_need_each_other(expires: str | None) -> None:
    text = "The security token included in the request is invalid."
    refuse(sign(key_id="ASIAOUTCROPTESTKEY22", expires=expires), "UnrecognizedClientException", text)
    refuse(sign(headers={"x-amz-security-token": "t"}, expires=expires), "UnrecognizedClientException", text)
    refuse(sign(unsigned={"x-amz-security-token": "t"}, expires=expires), "UnrecognizedClientException", text)
    refuse(sign(unsigned={"x-amz-security-token": ""}, expires=expires), "UnrecognizedClientException", text)


def test_a_session_token_comes_in_one_place() -> None:
    text = "The security token included in the request is invalid."
    refuse(sign(query="X-Amz-Security-Token=t", expires="60"), "UnrecognizedClientException", text)
    both = sign(query="X-Amz-Security-Token=t", unsigned={"x-amz-security-token": "t"}, expires="60")
    refuse(both, "IncompleteSignatureException", "not in both")
    refuse(sign(query="X-Amz-Security-Token=t"), "IncompleteSignatureException", "more than one way")


def test_the_log_of_a_mismatch_holds_no_header_values() -> None:
    with pytest.raises(AuthenticationError) as caught:
        accept(sign(headers={"cookie": "session=hunter2"}, secret="wrong"))
    assert "cookie" in caught.value.detail
    assert "hunter2" not in caught.value.detail + str(caught.value)


# Parsing


def test_no_proof_at_all_is_missing() -> None:
    refuse(with_header(sign(), "authorization", None), "MissingAuthenticationTokenException")


@pytest.mark.parametrize("value", ["", "Basic dXNlcjpwYXNz", "AWS4-HMAC-SHA512 Credential=a", "aws4-hmac-sha256 x"])
def test_other_schemes_are_refused(value: str) -> None:
    refuse(with_header(sign(), "authorization", value), "IncompleteSignatureException", "Unsupported authorization")


@pytest.mark.parametrize("name", ["Credential", "SignedHeaders", "Signature"])
def test_each_part_must_be_there_once(name: str) -> None:
    request = sign()
    value = header(request, "authorization")
    part = re.search(f"{name}=[^,]*", value).group()
    parts = value.removeprefix("AWS4-HMAC-SHA256 ").split(", ")
    without = "AWS4-HMAC-SHA256 " + ", ".join(each for each in parts if not each.startswith(f"{name}="))
    refuse(with_header(request, "authorization", without), "IncompleteSignatureException", f"'{name}' parameter")
    refuse(with_header(request, "authorization", f"{value}, {part}"), "IncompleteSignatureException", "once")
    refuse(with_header(request, "authorization", f"{value}, More=x"), "IncompleteSignatureException", "once")


def test_parts_may_be_separated_without_a_space() -> None:
    request = sign()
    accept(with_header(request, "authorization", header(request, "authorization").replace(", ", ",")))


@pytest.mark.parametrize(
    "credential", ["a", "a/b/c/d", "a/b/c/d/e/f", "/20260301/eu-west-1/bedrock/aws4_request", "////"]
)
def test_a_credential_has_five_elements(credential: str) -> None:
    request = sign()
    value = re.sub("Credential=[^,]*", f"Credential={credential}", header(request, "authorization"))
    refuse(with_header(request, "authorization", value), "IncompleteSignatureException", "exactly 5 slash-delimited")


def test_an_upper_case_signature_is_not_the_signature() -> None:
    request = sign()
    value = re.sub("Signature=(.*)", lambda m: "Signature=" + m[1].upper(), header(request, "authorization"))
    refuse(with_header(request, "authorization", value), "InvalidSignatureException", "does not match")


@pytest.mark.parametrize(
    "name",
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"],
)
def test_each_query_part_must_be_there_once_and_spelt_right(name: str) -> None:
    request = sign(expires="60")
    pairs = request.raw_query.decode().split("&")
    part = next(pair for pair in pairs if pair.startswith(f"{name}="))
    for query in (
        [pair for pair in pairs if pair != part],
        [*pairs, part],
        [*pairs, part.replace(name, name.lower())],
        [pair.replace(f"{name}=", f"{name.lower()}=") for pair in pairs],
    ):
        changed = SignedRequest(request.method, request.raw_path, "&".join(query).encode(), request.headers, b"")
        refuse(changed, "IncompleteSignatureException")


@pytest.mark.parametrize("algorithm", ["AWS4-HMAC-SHA512", "AWS4-ECDSA-P256-SHA256", "aws4-hmac-sha256", "none", ""])
def test_a_presigned_request_knows_one_algorithm(algorithm: str) -> None:
    request = sign(expires="60")
    query = request.raw_query.replace(b"AWS4-HMAC-SHA256", algorithm.encode())
    other = SignedRequest(request.method, request.raw_path, query, request.headers, request.body)
    refuse(other, "IncompleteSignatureException", "X-Amz-Algorithm must be AWS4-HMAC-SHA256")


def test_two_proofs_are_refused() -> None:
    text = "more than one way"
    signed = sign()
    refuse(sign(unsigned={"authorization": header(signed, "authorization")}), "IncompleteSignatureException", text)
    refuse(sign(unsigned={"x-api-key": "bedrock-api-key-x"}), "IncompleteSignatureException", text)
    both = SignedRequest("POST", signed.raw_path, sign(expires="60").raw_query, signed.headers, signed.body)
    refuse(both, "IncompleteSignatureException", text)
    lower = SignedRequest("POST", signed.raw_path, b"x-amz-signature=0", signed.headers, signed.body)
    refuse(lower, "IncompleteSignatureException", text)
