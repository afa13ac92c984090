"""Family: paths that two readers may understand differently, and other names for a model that a policy denies.

A path is signed as sent, by somebody whose policy denies everything of Bedrock, or every model; whatever spelling is
found, the answer must not be of the 200 family. The twins are the plain paths, asked by somebody who may. Success is an
answer of the 200 family or a failure of the service.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from outcrop.assurance.attack.base import Found, Scene, judge, unproven
from outcrop.assurance.attack.calls import Caller, Json, conversation, models
from outcrop.assurance.attack.client import NO_ANSWER, Client, as_bytes
from outcrop.assurance.attack.signatures import Keys, Target, sign
from outcrop.trust.crypto import random_access_key_id, random_secret_key
from outcrop.trust.identity import SignedRequest

LIST = "/foundation-models"
OVERLONG = {"/": "%c0%af", ".": "%c0%ae"}


def spellings(path: str) -> Iterator[tuple[str, str]]:
    """Other spellings of a path: each with its name."""
    first, last = path[1], path[-1]
    yield "a doubled slash before", "/" + path
    yield "a slash after", path + "/"
    yield "an encoded slash before", "/%2f" + path[1:]
    yield "an encoded slash after", path + "%2F"
    yield "a dot segment", "/." + path
    yield "a dot segment, encoded", "/%2e" + path
    yield "a segment that is taken back", "/x/.." + path
    yield "a segment that is taken back, encoded", "/x/%2e%2e" + path
    yield "a segment that is taken back, encoded with its slash", "/x%2f.." + path
    yield "a segment that is taken back, encoded twice", "/x/%252e%252e" + path
    yield "an overlong dot", f"/x/{OVERLONG['.'] * 2}{path}"
    yield "an overlong slash", f"/x{OVERLONG['/']}..{path}"
    yield "a backslash", "\\" + path[1:]
    yield "an encoded backslash", "/x%5c.." + path
    yield "a path parameter", path + ";x=1"
    yield "a path parameter before", "/;x=1" + path
    yield "an encoded path parameter", path + "%3bx=1"
    yield "a null after", path + "%00"
    yield "a null and a suffix", path + "%00.json"
    yield "a newline after", path + "%0a"
    yield "a carriage return and a header", path + "%0d%0aX-Amz-Target:%20x"
    yield "a space after", path + "%20"
    yield "a tab after", path + "%09"
    yield "a hash after", path + "%23"
    yield "an encoded question mark", path + "%3fx=1"
    yield "its first letter encoded", f"/%{ord(first):02x}{path[2:]}"
    yield "its first letter encoded twice", f"/%25{ord(first):02x}{path[2:]}"
    yield "its last letter encoded", f"{path[:-1]}%{ord(last):02X}"
    yield "another case", path.swapcase()
    yield "a suffix", path + ".json"
    yield "a full-width letter", f"/%ef%bd%{0x80 + ord(first) - 0x60:02x}{path[2:]}"
    yield "a zero-width space", path + "%e2%80%8b"
    yield "a broken escape", path + "%"
    yield "an escape of one digit", path + "%2"
    yield "an escape of no digits", path + "%zz"
    yield "a long path of slashes", "/" * 4000 + path[1:]


def run(scene: Scene) -> Iterator[Found]:
    """Unsigned and signed spellings, absolute targets, and other names of models."""
    keys = None if scene.victims is None else scene.victims.a.people.get("no-models")
    if keys is None:
        keys = Keys(random_access_key_id(), random_secret_key())
    elif not Caller(scene.client, scene.region, scene.victims.a.people["admin"]).rest("GET", LIST).ok:  # type: ignore[union-attr]
        yield unproven("the plain path", "must be answered to an administrator")
    for name, path in spellings(LIST):
        yield _try(scene.client, scene.region, keys, f"{LIST} with {name}", path)
    yield from _absolute(scene.client, scene.region, keys)
    if scene.victims is not None and "no-model-use" in scene.victims.a.people:
        yield from _models(scene)


def _try(client: Client, region: str, keys: Keys, case: str, path: str) -> Found:
    """Once signed as sent, once signed for the plain path, once unsigned: none may be answered."""
    target = Target(client.host, path, region, "bedrock", b"", "GET")
    as_sent = sign(target, keys, datetime.now(UTC))
    plain = sign(Target(client.host, LIST, region, "bedrock", b"", "GET"), keys, datetime.now(UTC))
    unsigned = [(name, value) for name, value in as_sent.headers if name != b"authorization"]
    answers = [
        client.send(request)
        for request in (
            as_sent,
            SignedRequest("GET", path.encode(), b"", plain.headers, b""),
            SignedRequest("GET", path.encode(), b"", unsigned, b""),
        )
    ]
    hit = any(answer.ok or answer.broke for answer in answers)
    return judge(case, hit, ", ".join(answer.told() for answer in answers))


def _absolute(client: Client, region: str, keys: Keys) -> Iterator[Found]:
    """Request targets in absolute form, whose host is not that of the Host header."""
    good = as_bytes(sign(Target(client.host, LIST, region, "bedrock", b"", "GET"), keys, datetime.now(UTC)))
    for name, target in (
        ("an absolute target", f"http://{client.host}{LIST}"),
        ("an absolute target of another host", f"http://attacker.example.org{LIST}"),
        ("a target without a slash", LIST[1:]),
        ("an authority as the target", client.host),
        ("a star as the target", "*"),
    ):
        answer = next(iter(client.exchange(good.replace(LIST.encode(), target.encode(), 1), 5.0)), NO_ANSWER)
        yield judge(name, answer.ok or answer.broke, answer.told())


def _models(scene: Scene) -> Iterator[Found]:
    """Who is denied every model must not reach one by another name of it, on any surface."""
    assert scene.victims is not None
    people = scene.victims.a.people
    admin, denied = (Caller(scene.client, scene.region, people[name]) for name in ("admin", "no-model-use"))
    known = models(admin)
    if not known:
        yield unproven("names of a model", "the tenant is told of no model")
        return
    model = known[0]
    body = conversation("a")
    count: dict[str, Json] = {"input": {"converse": {"messages": body["messages"]}}}
    if not admin.rest("POST", f"/model/{encoded(model)}/count-tokens", count).ok:
        yield unproven("names of a model", "the plain name must work for an administrator")
    for name, spelled in names_of(model, scene.region, scene.victims.a.account):
        answers = [
            denied.rest("POST", f"/model/{spelled}/count-tokens", count),
            denied.rest("POST", f"/model/{spelled}/converse", body),
        ]
        yield judge(f"a denied model by {name}", any(a.ok or a.broke for a in answers), answers[-1].told())
    messages: dict[str, Json] = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}
    for path in ("/anthropic/v1/messages", "/v1/messages", "/openai/v1/chat/completions", "/v1/chat/completions"):
        for stream in (False, True):
            answer = denied.rest("POST", path, {**messages, "stream": stream})
            yield judge(f"a denied model at {path}, stream {stream}", answer.ok or answer.broke, answer.told())


def names_of(model: str, region: str, account: str) -> Iterator[tuple[str, str]]:
    """Spellings, each for one path segment, that might lead to a model past a policy which names its ARN."""
    arn = f"arn:aws:bedrock:{region}::foundation-model/{model}"
    yield "its id", encoded(model)
    yield "its id, raw", model
    yield "its ARN", encoded(arn)
    yield "its ARN with its slash raw", arn
    yield "its id in upper case", encoded(model.upper())
    yield "its id, every character encoded", "".join(f"%{ord(each):02x}" for each in model)
    yield "its id, encoded twice", encoded(encoded(model))
    yield "its id and a null", encoded(model) + "%00"
    yield "its id and a space", encoded(model) + "%20"
    yield "its id and a slash", encoded(model) + "%2F"
    yield "its ARN with an account", encoded(arn.replace("::", f":{account}:", 1))
    yield "its ARN of another partition", encoded(arn.replace("arn:aws:", "arn:aws-cn:", 1))
    yield "its ARN of another region", encoded(arn.replace(region, "mars-north-1"))
    for prefix in ("us", "eu", "apac", "global"):
        yield f"the profile {prefix}", encoded(f"{prefix}.{model}")
    yield "the profile's ARN", encoded(f"arn:aws:bedrock:{region}:{account}:inference-profile/us.{model}")


def encoded(text: str) -> str:
    return "".join(each if each.isalnum() or each in "-._~" else f"%{ord(each):02X}" for each in text)
