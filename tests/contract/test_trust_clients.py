"""Requests signed by unmodified clients are accepted, and refused as soon as one byte of them changes.

The clients run in this process; their requests are caught before they leave. Not covered here: the AWS SDK for
JavaScript and clients in other languages, and what servers or proxies do to a request on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import anthropic
import aws_bedrock_token_generator
import boto3
import httpx2
import openai
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.credentials import Credentials

from outcrop.base.arn import account_id
from outcrop.base.clock import SystemClock
from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import Authenticator, MemoryCredentials, Principal, SignedRequest, bearer, root_credential

REGION = "eu-west-1"
KEY_ID = "AKIAOUTCROPTESTKEY22"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIAL = root_credential("aws", account_id("123456789012"), KEY_ID, SECRET)
MODEL_ARN = f"arn:aws:bedrock:{REGION}::foundation-model/outcrop.pebble-v1:0"
PROFILE_ARN = f"arn:aws:bedrock:{REGION}:123456789012:inference-profile/eu.outcrop.pebble-v1:0"
MESSAGES = [{"role": "user", "content": [{"text": "gr\u00fc\u00df dich \u4f60\u597d"}]}]


def authenticate(request: SignedRequest, service: str = "bedrock") -> Principal:
    authenticator = Authenticator(MemoryCredentials(CREDENTIAL), REGION, SystemClock(), hosts=frozenset({"localhost"}))
    return authenticator.authenticate(request, service, allow_bearer=True)


# Catching requests


def boto_request(service: str, act: Callable[[object], object], **options) -> SignedRequest:
    """The request that boto3's ``service`` client sends when ``act`` is done with it."""
    keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET} | options.pop("keys", {})
    client = boto3.client(service, endpoint_url="https://localhost:8443", region_name=REGION, **keys)
    caught: list[AWSPreparedRequest] = []

    def catch(request: AWSPreparedRequest, **kwargs: object) -> AWSResponse:
        caught.append(request)
        return AWSResponse(request.url, 418, {}, None)

    client.meta.events.register("before-send", catch)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the answer is of no interest
        act(client)
    return from_prepared(caught[0])


def from_prepared(request: AWSPreparedRequest) -> SignedRequest:
    url = urlsplit(request.url)
    headers = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in request.headers.items()
    ]
    if all(name != b"host" for name, _ in headers):
        headers.append((b"host", url.netloc.encode()))
    body = request.body or b""
    return SignedRequest(
        request.method,
        (url.path or "/").encode(),
        url.query.encode(),
        headers,
        body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else body.read(),
    )


class Caught(Exception):
    """Carries a caught request out of a client."""

    def __init__(self, request: SignedRequest) -> None:
        self.request = request


def catching() -> httpx2.Client:
    def handle(request: httpx2.Request) -> httpx2.Response:
        path, _, query = request.url.raw_path.partition(b"?")
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        raise Caught(SignedRequest(request.method, path, query, headers, request.read()))

    return httpx2.Client(transport=httpx2.MockTransport(handle))


def httpx_request(act: Callable[[], object]) -> SignedRequest:
    error: BaseException | None = None
    try:
        act()
    except Exception as raised:  # noqa: BLE001 - SDKs wrap what their transport raises
        error = raised
    while error is not None and not isinstance(error, Caught):
        error = error.__cause__ or error.__context__
    assert error is not None
    return error.request


# SigV4


BOTO_CALLS: dict[str, tuple[str, str, Callable]] = {
    "converse": ("bedrock-runtime", "bedrock", lambda c: c.converse(modelId="outcrop.pebble-v1:0", messages=MESSAGES)),
    "converse with an ARN": ("bedrock-runtime", "bedrock", lambda c: c.converse(modelId=MODEL_ARN, messages=MESSAGES)),
    "converse_stream": (
        "bedrock-runtime",
        "bedrock",
        lambda c: c.converse_stream(modelId=PROFILE_ARN, messages=MESSAGES, requestMetadata={"a b": "c+d"}),
    ),
    "invoke_model": (
        "bedrock-runtime",
        "bedrock",
        lambda c: c.invoke_model(
            modelId=MODEL_ARN, body=b'{"x": "\xc3\xa9"}', guardrailIdentifier="abc", trace="ENABLED"
        ),
    ),
    "invoke_model_with_response_stream": (
        "bedrock-runtime",
        "bedrock",
        lambda c: c.invoke_model_with_response_stream(modelId="m", body="{}", accept="application/json"),
    ),
    "count_tokens": (
        "bedrock-runtime",
        "bedrock",
        lambda c: c.count_tokens(modelId="m", input={"converse": {"messages": MESSAGES}}),
    ),
    "list_foundation_models": ("bedrock", "bedrock", lambda c: c.list_foundation_models(byProvider="Out crop/1")),
    "get_foundation_model": ("bedrock", "bedrock", lambda c: c.get_foundation_model(modelIdentifier=MODEL_ARN)),
    "list_inference_profiles": (
        "bedrock",
        "bedrock",
        lambda c: c.list_inference_profiles(maxResults=3, nextToken="a+b/c==", typeEquals="APPLICATION"),
    ),
    "list_tags_for_resource": ("bedrock-agent", "bedrock", lambda c: c.list_tags_for_resource(resourceArn=PROFILE_ARN)),
    "prepare_agent": ("bedrock-agent", "bedrock", lambda c: c.prepare_agent(agentId="AGENT12345")),
    "invoke_endpoint": (
        "sagemaker-runtime",
        "sagemaker",
        lambda c: c.invoke_endpoint(EndpointName="pebble", Body=b"{}", TargetModel="x", CustomAttributes="a  b"),
    ),
    "get_caller_identity": ("sts", "sts", lambda c: c.get_caller_identity()),
}


@pytest.fixture(scope="module", params=BOTO_CALLS)
def boto_call(request: pytest.FixtureRequest) -> tuple[SignedRequest, str]:
    client, service, act = BOTO_CALLS[request.param]
    return boto_request(client, act), service


def test_boto3_calls_are_accepted(boto_call: tuple[SignedRequest, str]) -> None:
    principal = authenticate(*boto_call)
    assert (principal.access_key_id, principal.auth) == (KEY_ID, "sigv4")


def test_boto3_calls_with_one_changed_byte_are_refused(boto_call: tuple[SignedRequest, str]) -> None:
    request, service = boto_call
    for changed in one_byte_changes(request):
        with pytest.raises(AuthenticationError):
            authenticate(changed, service)


def one_byte_changes(request: SignedRequest) -> Iterator[SignedRequest]:
    """Every request that differs by one byte of path, query, body or a signed header's value, or by the method."""
    fields = {name: getattr(request, name) for name in ("method", "raw_path", "raw_query", "headers", "body")}
    yield SignedRequest(**{**fields, "method": {"GET": "PUT"}.get(request.method, "GET")})
    for name in ("raw_path", "raw_query", "body"):
        for changed in flipped(fields[name]):
            yield SignedRequest(**{**fields, name: changed})
    authorization = dict(request.headers).get(b"authorization", b"")
    signed = re.search(rb"SignedHeaders=([^,]*)", authorization)
    for index, (name, value) in enumerate(request.headers):
        if signed and name in signed[1].split(b";"):
            for changed in flipped(value):
                if changed.split() != value.split():
                    headers = [*request.headers[:index], (name, changed), *request.headers[index + 1 :]]
                    yield SignedRequest(**{**fields, "headers": headers})


def flipped(data: bytes) -> Iterator[bytes]:
    for index in range(len(data)):
        yield data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def test_boto3_sends_arns_encoded_once_and_signs_them_encoded_twice() -> None:
    client, service, act = BOTO_CALLS["converse with an ARN"]
    request = boto_request(client, act)
    assert b"foundation-model%2Foutcrop.pebble-v1%3A0" in request.raw_path
    decoded = SignedRequest(
        request.method, request.raw_path.replace(b"%2F", b"/"), request.raw_query, request.headers, request.body
    )
    with pytest.raises(AuthenticationError):
        authenticate(decoded, service)


def test_boto3_with_a_wrong_secret_an_unknown_key_or_a_session_is_refused() -> None:
    _, _, act = BOTO_CALLS["converse"]
    for keys, code in (
        ({"aws_secret_access_key": SECRET[::-1]}, "InvalidSignatureException"),
        ({"aws_access_key_id": "AKIAOUTCROPTESTKEY23"}, "UnrecognizedClientException"),
        ({"aws_session_token": "token"}, "UnrecognizedClientException"),
    ):
        with pytest.raises(AuthenticationError) as caught:
            authenticate(boto_request("bedrock-runtime", act, keys=keys))
        assert caught.value.code == code


@pytest.mark.parametrize("signer", [SigV4Auth, SigV4QueryAuth])
@pytest.mark.parametrize(
    "path", ["/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A%3Afoundation-model%2Fm/invoke", "/model/a:b/invoke", "/"]
)
def test_botocores_signers_are_accepted_in_both_forms(signer: type, path: str) -> None:
    raw = AWSRequest(
        "POST",
        f"http://localhost:8080{path}",
        headers={"Content-Type": "application/json", "X-Amz-Target": "a  b "},
        data=b'{"messages": []}',
        params={"name": "a+b/c", "Name": "~", "empty": ""},
    )
    options = {"expires": 60} if signer is SigV4QueryAuth else {}
    signer(Credentials(KEY_ID, SECRET), "bedrock", REGION, **options).add_auth(raw)
    request = from_prepared(raw.prepare())
    assert authenticate(request).auth == ("sigv4" if signer is SigV4Auth else "sigv4-query")
    for changed in one_byte_changes(request):
        with pytest.raises(AuthenticationError):
            authenticate(changed)


@pytest.mark.parametrize("model", ["outcrop.pebble-v1:0", MODEL_ARN, PROFILE_ARN])
@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_bedrock_client_is_accepted(model: str, stream: bool) -> None:
    client = anthropic.AnthropicBedrock(
        aws_access_key=KEY_ID,
        aws_secret_key=SECRET,
        aws_region=REGION,
        base_url="http://localhost:8080",
        http_client=catching(),
        max_retries=0,
    )
    message = {"role": "user", "content": "h\u00e9"}
    request = httpx_request(
        lambda: client.messages.create(model=model, max_tokens=5, messages=[message], stream=stream)
    )
    assert b":" in request.raw_path
    assert authenticate(request).auth == "sigv4"
    for changed in one_byte_changes(request):
        with pytest.raises(AuthenticationError):
            authenticate(changed)


# API keys


class Provider:
    """Credentials as AWS's token generator takes them."""

    def __init__(self, **more: str) -> None:
        self._credentials = Credentials(KEY_ID, SECRET, **more)

    def load(self) -> Credentials:
        return self._credentials


def aws_key(region: str = REGION, expiry: timedelta = timedelta(hours=12), **more: str) -> str:
    return aws_bedrock_token_generator.provide_token(region, Provider(**more), expiry)


OUR_KEY = bearer.mint(CREDENTIAL, REGION, 3600, SystemClock().now())


@pytest.fixture(scope="module", params=["made by AWS's generator", "made by us"])
def api_key(request: pytest.FixtureRequest) -> str:
    return aws_key() if "AWS" in request.param else OUR_KEY


def test_boto3_sends_an_api_key_over_tls_and_is_accepted(api_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", api_key)
    client, _, act = BOTO_CALLS["converse with an ARN"]
    request = boto_request(client, act, keys={"aws_access_key_id": None, "aws_secret_access_key": None})
    assert dict(request.headers)[b"authorization"] == b"Bearer " + api_key.encode()
    assert authenticate(request).auth == "bearer"


def test_anthropics_clients_and_openais_send_an_api_key_and_are_accepted(
    api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    url = "http://localhost:8080"
    message = {"role": "user", "content": "x"}
    on_bedrock = anthropic.AnthropicBedrock(api_key=api_key, aws_region=REGION, base_url=url, http_client=catching())
    plain = anthropic.Anthropic(api_key=api_key, base_url=url, http_client=catching(), max_retries=0)
    gpt = openai.OpenAI(api_key=api_key, base_url=f"{url}/openai/v1", http_client=catching(), max_retries=0)
    for act in (
        lambda: on_bedrock.messages.create(model="m", max_tokens=5, messages=[message]),
        lambda: plain.messages.create(model="m", max_tokens=5, messages=[message]),
        lambda: gpt.chat.completions.create(model="m", messages=[message]),
    ):
        assert authenticate(httpx_request(act)).auth == "bearer"


@pytest.mark.parametrize("expiry_s", [1, 60, 43_200])
def test_keys_of_every_length_that_aws_makes_are_accepted(expiry_s: int) -> None:
    assert send_key(aws_key(expiry=timedelta(seconds=expiry_s))).auth == "bearer"


def test_keys_of_another_region_or_of_a_session_are_refused() -> None:
    with pytest.raises(AuthenticationError, match="make sure your API Key is valid"):
        send_key(aws_key(region="us-east-1"))
    with pytest.raises(AuthenticationError, match="make sure your API Key is valid"):
        send_key(aws_key(token="session"))


def test_our_keys_have_the_shape_of_awss(api_key: str) -> None:
    assert len(api_key) == pytest.approx(460, abs=8)
    assert bearer.PREFIX == aws_bedrock_token_generator.token_generator.AUTH_PREFIX
    assert bearer.EXPIRES_MAX_S == aws_bedrock_token_generator.TOKEN_DURATION


def send_key(key: str) -> Principal:
    headers = [(b"host", b"localhost:8443"), (b"authorization", f"Bearer {key}".encode())]
    return authenticate(SignedRequest("POST", b"/model/m/converse", b"", headers, b"{}"))
