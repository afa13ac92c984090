"""Requests of AWS operations, signed as a tenant would sign them, in the three protocols that the service speaks.

``Call`` names an operation and its input; ``Caller`` signs and sends. Nothing here comes from the service: the
protocols are those of the Smithy specifications (aws.protocols, restJson1 by hand for the few paths that are needed).
Not covered: event-stream input and presigned calls, which ``signatures`` has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote

from outcrop.assurance.attack.client import TIMEOUT_S, Answer, Client
from outcrop.assurance.attack.signatures import Keys, Target, sign
from outcrop.trust.identity import SignedRequest

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

TARGETS: Mapping[str, str] = {
    "kms": "TrentService",
    "cloudtrail": "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101",
}
VERSIONS: Mapping[str, str] = {"iam": "2010-05-08", "sts": "2011-06-15"}
FORM = "application/x-www-form-urlencoded; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation and what it is asked: ``kms:DescribeKey`` with ``{"KeyId": …}``."""

    operation: str
    input: Mapping[str, Json] = field(default_factory=dict)

    @property
    def service(self) -> str:
        return self.operation.partition(":")[0]

    @property
    def name(self) -> str:
        return self.operation.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with keys, at one service."""

    client: Client
    region: str
    keys: Keys

    def call(self, operation: str, given: Mapping[str, Json] | None = None) -> Answer:
        """Call an operation of the json or the query protocol."""
        return self.send(self.request(operation, given))

    def request(
        self, operation: str, given: Mapping[str, Json] | None = None, more: Sequence[tuple[str, str]] = ()
    ) -> SignedRequest:
        """The signed request of a call; ``more`` are further signed headers."""
        call = Call(operation, given or {})
        if call.service in TARGETS:
            target = ("x-amz-target", f"{TARGETS[call.service]}.{call.name}")
            body = json.dumps(call.input).encode()
            return self.signed("POST", "/", body, call.service, "application/x-amz-json-1.1", [target, *more])
        return self.signed("POST", "/", form(call), call.service, FORM, more)

    def rest(self, method: str, path: str, given: Mapping[str, Json] | None = None, service: str = "bedrock") -> Answer:
        """Call a path of the REST protocol; the path comes as it is to be sent."""
        body = b"" if given is None else json.dumps(given).encode()
        return self.send(self.signed(method, path, body, service))

    def signed(  # noqa: PLR0917 - the parts of a request in their order
        self,
        method: str,
        path: str,
        body: bytes,
        service: str = "bedrock",
        content_type: str = "application/json",
        more: Sequence[tuple[str, str]] = (),
        query: Sequence[tuple[str, str]] = (),
    ) -> SignedRequest:
        """A request in the header form of SigV4, signed now."""
        target = Target(self.client.host, path, self.region, service, body, method, content_type)
        return sign(target, self.keys, datetime.now(UTC), more=more, query=query)

    def send(self, request: SignedRequest, timeout_s: float = TIMEOUT_S) -> Answer:
        return self.client.send(request, timeout_s)


def form(call: Call) -> bytes:
    """A call's form in the query protocol: lists as ``Name.member.N``, structures with dots."""
    pairs = [("Action", call.name), ("Version", VERSIONS[call.service])]
    for name, value in call.input.items():
        pairs += _flat(name, value)
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in pairs).encode()


def _flat(name: str, value: Json) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _flat(f"{name}.{key}", inner)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [pair for at, inner in enumerate(value, 1) for pair in _flat(f"{name}.member.{at}", inner)]
    if isinstance(value, bool):
        return [(name, "true" if value else "false")]
    return [(name, str(value))]


def session_keys(answer: Answer) -> Keys | None:
    """The credentials in an answer of STS; ``None`` where it has none."""

    def text(tag: str) -> str:
        return answer.text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]

    if not answer.ok or not text("SessionToken"):
        return None
    return Keys(text("AccessKeyId"), text("SecretAccessKey"), text("SessionToken"))


def models(caller: Caller) -> list[str]:
    """The ids of the models that a caller is told of."""
    found = caller.rest("GET", "/foundation-models").json().get("modelSummaries")
    rows = cast("list[dict[str, str]]", found) if isinstance(found, list) else []
    return [row["modelId"] for row in rows if "modelId" in row]


def conversation(text: str, max_tokens: int = 1) -> dict[str, Json]:
    """The body of a Converse call with one user message."""
    return {
        "messages": [{"role": "user", "content": [{"text": text}]}],
        "inferenceConfig": {"maxTokens": max_tokens, "temperature": 0},
    }
