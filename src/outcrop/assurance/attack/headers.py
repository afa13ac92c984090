"""Family: headers that claim what only the connection may say, that come twice, or are too many or too large.

Somebody whose policy allows everything from another address, over TLS, or to one client program says that the request
is such a one. Success is an answer of the 200 family (the user agent aside, which is the client's own word), or a
failure of the service. The twin is an administrator, whose same request is answered.
"""

from __future__ import annotations

from collections.abc import Iterator

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, refused, unproven
from outcrop.assurance.attack.calls import Caller
from outcrop.trust.identity import SignedRequest

ADDRESS = "203.0.113.7"
CLAIMED_ADDRESSES = (
    ("x-forwarded-for", ADDRESS),
    ("x-forwarded-for", f"{ADDRESS}, 127.0.0.1"),
    ("forwarded", f"for={ADDRESS};proto=https"),
    ("x-real-ip", ADDRESS),
    ("true-client-ip", ADDRESS),
    ("cf-connecting-ip", ADDRESS),
    ("x-client-ip", ADDRESS),
    ("x-cluster-client-ip", ADDRESS),
    ("x-remote-addr", ADDRESS),
    ("remote-addr", ADDRESS),
    ("x-original-forwarded-for", ADDRESS),
    ("x-amzn-source-ip", ADDRESS),
    ("x-envoy-external-address", ADDRESS),
)
CLAIMED_TLS = (
    ("x-forwarded-proto", "https"),
    ("x-forwarded-scheme", "https"),
    ("x-forwarded-ssl", "on"),
    ("front-end-https", "on"),
    ("x-url-scheme", "https"),
    ("forwarded", "proto=https"),
)
CLAIMED_PRINCIPALS = (
    ("x-outcrop-principal", "arn:aws:iam::{account}:root"),
    ("x-outcrop-account", "{account}"),
    ("x-amzn-principal", "{account}"),
    ("x-amz-account-id", "{account}"),
    ("x-forwarded-user", "root"),
    ("x-remote-user", "root"),
    ("x-localstack-internal", "1"),
    ("x-moto-account-id", "{account}"),
    ("x-internal", "true"),
    ("x-debug", "true"),
    ("x-http-method-override", "GET"),
    ("x-original-url", "/foundation-models"),
    ("x-rewrite-url", "/foundation-models"),
)


def run(scene: Scene) -> Iterator[Found]:
    """Claims in headers, then headers without measure."""
    yield from _claims(scene)
    yield from _without_measure(scene)


def _claims(scene: Scene) -> Iterator[Found]:
    if scene.victims is None:
        yield not_applicable("claims in headers", "no tenants: nobody whose policy asks for an address")
        return
    people = scene.victims.a.people

    def caller(name: str) -> Caller:
        return Caller(scene.client, scene.region, people[name])

    if not caller("admin").call("kms:ListKeys").ok:
        yield unproven("claims in headers", "an administrator's ListKeys must be answered")
    account = scene.victims.b.account
    groups: list[tuple[str, tuple[tuple[str, str], ...]]] = [
        ("elsewhere", CLAIMED_ADDRESSES),
        ("nobody", CLAIMED_PRINCIPALS),
    ]
    if scene.client.scheme == "http":
        groups.append(("tls-only", CLAIMED_TLS))
    else:
        yield not_applicable("claims of TLS", "the service is attacked over TLS, where the claim is true")
    for name, claims in groups:
        if name not in people:
            continue
        for header, value in claims:
            given = (header, value.format(account=account))
            signed = caller(name).send(caller(name).request("kms:ListKeys", more=[given]))
            added = caller(name).request("kms:ListKeys")
            more = [*added.headers, (given[0].encode(), given[1].encode())]
            unsigned = caller(name).send(SignedRequest("POST", b"/", b"", more, added.body))
            hit = any(answer.ok or answer.broke for answer in (signed, unsigned))
            yield judge(f"{name} says {header}: {given[1]}", hit, f"{signed.told()}, {unsigned.told()}")
    yield from _doubled(scene, caller)


def _doubled(scene: Scene, caller: object) -> Iterator[Found]:
    """Names in another case and headers that come twice: the one that is checked must be the one that counts."""
    assert scene.victims is not None
    lister = Caller(scene.client, scene.region, scene.victims.a.people.get("lister", scene.victims.a.people["admin"]))
    good = lister.request("kms:ListKeys")
    cased = [(name.title(), value) for name, value in good.headers]
    answer = lister.send(SignedRequest("POST", b"/", b"", cased, good.body))
    yield (refused if answer.ok else unproven)("header names in another case (must work)", answer.told())
    create = b"TrentService.CreateKey"
    for name, headers in (
        ("a second x-amz-target behind", [*good.headers, (b"x-amz-target", create)]),
        ("a second x-amz-target before", [(b"x-amz-target", create), *good.headers]),
        ("a second X-AMZ-TARGET in upper case", [*good.headers, (b"X-AMZ-TARGET", create)]),
        ("an x_amz_target with underscores", [*good.headers, (b"x_amz_target", create)]),
        (
            "two targets in one header",
            [(n, v + b", " + create if n == b"x-amz-target" else v) for n, v in good.headers],
        ),
        ("a second content type", [*good.headers, (b"content-type", b"application/x-www-form-urlencoded")]),
        ("a second host", [*good.headers, (b"host", b"attacker.example.org")]),
        ("a second date", [*good.headers, (b"x-amz-date", b"20000101T000000Z")]),
    ):
        answer = lister.send(SignedRequest("POST", b"/", b"", headers, good.body))
        hit = answer.broke or (answer.ok and "KeyMetadata" in answer.text)
        if name != "an x_amz_target with underscores":
            hit = hit or answer.ok
        yield judge(name, hit, answer.told())


def _without_measure(scene: Scene) -> Iterator[Found]:
    """Headers that are too many or too large: refused, and the service answers the next request."""
    host = scene.client.host.encode()
    for name, extra in (
        ("a header of a megabyte", b"x-a: " + b"a" * 1_000_000 + b"\r\n"),
        ("ten thousand headers", b"".join(b"x-%d: a\r\n" % n for n in range(10_000))),
        ("a header's name of 100 kilobytes", b"x" * 100_000 + b": a\r\n"),
        ("an authorization of a megabyte", b"authorization: " + b"a" * 1_000_000 + b"\r\n"),
        ("a thousand cookies", b"cookie: a=b\r\n" * 1000),
    ):
        answers = scene.client.exchange(b"GET / HTTP/1.1\r\nhost: " + host + b"\r\n" + extra + b"\r\n", 2.0)
        told = ", ".join(each.told() for each in answers) or "the connection ended"
        hit = any(each.ok or each.broke for each in answers) or not scene.client.alive()
        yield judge(name, hit, told)
    path = b"/" + b"a" * 1_000_000
    answers = scene.client.exchange(b"GET " + path + b" HTTP/1.1\r\nhost: " + host + b"\r\n\r\n", 2.0)
    yield judge("a path of a megabyte", any(a.ok or a.broke for a in answers) or not scene.client.alive(), "")
