"""Family: bodies that parsers read differently or choke on, and one request that names two operations.

Success is a failure of the service, an answer of the 200 family to a document that is no JSON or that has two values
for one member where only the other one is allowed, and any sign that an operation was done that the policy does not
allow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, unproven
from outcrop.assurance.attack.calls import FORM, TARGETS, Caller, models
from outcrop.assurance.attack.client import Answer
from outcrop.assurance.attack.paths import encoded
from outcrop.trust.crypto import random_id

JSON_RPC = "application/x-amz-json-1.1"
SLOW_S = 10.0


def broken(member: str, good: str) -> Iterator[tuple[str, bytes]]:
    """Documents that must be refused, around a member that is wanted and a good value of it (both JSON-safe)."""
    for name, value in (
        ("NaN", b"NaN"),
        ("Infinity", b"Infinity"),
        ("a lone surrogate", b'"\\ud800"'),
        ("a surrogate in bytes", b'"\xed\xa0\x80"'),
        ("an overlong null", b'"\xc0\x80"'),
        ("a raw null", b'"\0"'),
        ("a raw line feed", b'"a\nb"'),
        ("a single-quoted text", b"'a'"),
        ("a huge integer", b"9" * 5000),
        ("a huge exponent", b"1e999999999"),
        ("a number", b"1"),
        ("a boolean", b"true"),
        ("an array", b'["' + good.encode() + b'"]'),
        ("an object", b'{"a": 1}'),
        ("arrays 100,000 deep", b"[" * 100_000 + b"]" * 100_000),
        ("objects 100,000 deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("a bad escape", b'"\\x41"'),
        ("a hexadecimal number", b"0x10"),
    ):
        yield name, b'{"%s": %s}' % (member.encode(), value)
    whole = json.dumps({member: good}).encode()
    yield "a trailing comma", whole[:-1] + b",}"
    yield "something behind", whole + b"{}"
    yield "a null behind", whole + b"\0"
    yield "a comment", b"/* a */" + whole
    yield "UTF-16", whole.decode().encode("utf-16")
    yield "half a document", whole[:-2]
    yield "an array for the whole", b"[" + whole + b"]"
    yield "a text for the whole", b'"a"'
    yield "arrays that never end", b"[" * 200_000


def run(scene: Scene) -> Iterator[Found]:
    """Broken documents, documents with two values, and requests of two operations."""
    if scene.victims is None:
        yield not_applicable("documents", "no tenants: what is unsigned is refused before it is read")
        return
    admin = Caller(scene.client, scene.region, scene.victims.a.people["admin"])
    key = scene.victims.a.resources.get("key", "alias/none")

    def describe(body: bytes) -> Answer:
        more = [("x-amz-target", f"{TARGETS['kms']}.DescribeKey")]
        return admin.send(admin.signed("POST", "/", body, "kms", JSON_RPC, more), SLOW_S)

    if not describe(json.dumps({"KeyId": key}).encode()).ok:
        yield unproven("the document that is broken", "DescribeKey must be answered")
    for name, body in broken("KeyId", key):
        answer = describe(body)
        yield judge(f"DescribeKey with {name}", answer.ok or answer.broke or not answer.status, answer.told())
    known = models(admin)
    if known:
        yield from _conversations(admin, known[0])
    yield from _two_values(scene)
    yield from _two_operations(scene)


def _conversations(admin: Caller, model: str) -> Iterator[Found]:
    """The same documents as the body of Converse and of Anthropic's and OpenAI's surfaces."""
    for path in (f"/model/{encoded(model)}/converse", "/anthropic/v1/messages", "/openai/v1/chat/completions"):
        for name, body in broken("messages", "a"):
            answer = admin.send(admin.signed("POST", path, body), SLOW_S)
            hit = answer.ok or answer.broke or not answer.status
            yield judge(f"{path.rpartition('/')[2]} with {name}", hit, answer.told())


def _two_values(scene: Scene) -> Iterator[Found]:
    """A member that comes twice: the key that the policy allows, and one that it does not."""
    assert scene.victims is not None
    a = scene.victims.a
    if "one-key" not in a.people:
        yield not_applicable("two values for one member", "the tenants given have nobody who may use one key only")
        return
    holder = Caller(scene.client, scene.region, a.people["one-key"])
    allowed, other = a.resources["red_key"], a.resources["key"]
    if not holder.call("kms:DescribeKey", {"KeyId": allowed}).ok:
        yield unproven("two values for one member", "the key that is allowed must be described")
    if holder.call("kms:DescribeKey", {"KeyId": other}).ok:
        yield judge("a key that is not allowed", True, "it was described")
    more = [("x-amz-target", f"{TARGETS['kms']}.DescribeKey")]
    for name, body in (
        ("allowed first", f'{{"KeyId": "{allowed}", "KeyId": "{other}"}}'),
        ("allowed last", f'{{"KeyId": "{other}", "KeyId": "{allowed}"}}'),
        ("another case", f'{{"KeyId": "{allowed}", "keyId": "{other}", "keyid": "{other}"}}'),
        ("an escaped name", f'{{"KeyId": "{allowed}", "Key\\u0049d": "{other}"}}'),
        ("a name with a null", f'{{"KeyId": "{allowed}", "KeyId\\u0000": "{other}"}}'),
    ):
        answer = holder.send(holder.signed("POST", "/", body.encode(), "kms", JSON_RPC, more))
        described = answer.ok and other.rpartition("/")[2] in answer.text
        yield judge(f"two keys, {name}", described or answer.broke, answer.told())


def _two_operations(scene: Scene) -> Iterator[Found]:
    """One request that names an operation that everybody may call, and one that the caller may not."""
    assert scene.victims is not None
    a = scene.victims.a
    person = a.people.get("nobody")
    if person is None:
        yield not_applicable("two operations in one request", "the tenants given have nobody without permissions")
        return
    nobody, admin = Caller(scene.client, scene.region, person), Caller(scene.client, scene.region, a.people["admin"])
    free, free_target = "Action=GetCallerIdentity&Version=2011-06-15", f"{TARGETS['kms']}.CreateKey"
    twin = nobody.call("sts:GetCallerIdentity")
    if not twin.ok:
        yield unproven("two operations in one request", f"GetCallerIdentity must be answered: {twin.told()}")
    before = _keys(admin)
    name = random_id("X")
    forbidden = f"Action=CreateUser&Version=2010-05-08&UserName={name}"
    target = ("x-amz-target", free_target)
    pairs = [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")]
    bad_pairs = [("Action", "CreateUser"), ("Version", "2010-05-08"), ("UserName", name)]
    for service in ("sts", "kms", "iam", "bedrock"):
        for case, request in (
            ("a target beside a form", nobody.signed("POST", "/", free.encode(), service, FORM, [target])),
            ("a target beside a query", nobody.signed("POST", "/", b"{}", service, JSON_RPC, [target], pairs)),
            (
                "a free query, a forbidden form",
                nobody.signed("POST", "/", forbidden.encode(), service, FORM, (), pairs),
            ),
            ("a forbidden query, a free form", nobody.signed("POST", "/", free.encode(), service, FORM, (), bad_pairs)),
            ("two actions in a form", nobody.signed("POST", "/", f"{free}&{forbidden}".encode(), service, FORM)),
            ("two actions, the other first", nobody.signed("POST", "/", f"{forbidden}&{free}".encode(), service, FORM)),
            ("a form as JSON", nobody.signed("POST", "/", forbidden.encode(), service, JSON_RPC, (), pairs)),
            (
                "an action and a path",
                nobody.signed("POST", "/foundation-models", free.encode(), service, FORM, (), pairs),
            ),
            (
                "another version",
                nobody.signed("POST", "/", forbidden.replace("2010-05-08", "2011-06-15").encode(), service, FORM),
            ),
            ("an encoded action", nobody.signed("POST", "/", f"{free}&Acti%6fn=CreateUser".encode(), service, FORM)),
        ):
            answer = nobody.send(request)
            done = any(word in answer.text for word in ("KeyMetadata", "CreateUserResponse", "modelSummaries"))
            yield judge(f"signed for {service}: {case}", done or answer.broke, answer.told())
    after = _keys(admin)
    yield judge("the effect: keys made meanwhile", before != after, f"{before} before, {after} after")
    made = admin.call("iam:GetUser", {"UserName": quote(name)})
    yield judge("the effect: a user made meanwhile", made.ok, made.told())


def _keys(admin: Caller) -> int:
    found = admin.call("kms:ListKeys", {"Limit": 1000}).json().get("Keys")
    return len(found) if isinstance(found, list) else -1
