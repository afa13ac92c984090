"""Each family finds the hole that it is there for: the same attacks on a service in which one check was taken out.

The twin of all of them is the unbroken service, on which the quick families find nothing.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from attacking import bad, first_success, scene_of
from outcrop.assurance.attack import (
    Child,
    Client,
    Keys,
    Outcome,
    Scene,
    canaries,
    documents,
    foreign,
    forged,
    prompts,
    smuggling,
    tampering,
)
from outcrop.assurance.attack.base import Found
from outcrop.service.access import context, decide
from outcrop.service.access.base import Resource
from outcrop.service.hosting import ServedModel
from outcrop.service.operations.sts import grants
from outcrop.service.wire import form, router
from outcrop.service.wire.errors import AwsError
from outcrop.trust.audit.segments import segments, whole_lines
from outcrop.trust.audit.verify import Finding, Report
from outcrop.trust.identity import Authenticator, IdentityStore, sigv4
from outcrop.trust.identity.keys import AccessKeys
from serving import Running, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_service(tmp_path_factory.mktemp("attacked") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def scene(service: Running) -> Iterator[Scene]:
    with scene_of(service) as made:
        yield made


QUICK = ("signatures", "paths", "headers", "deputy", "escalation", "tags", "audit", "tokens", "idempotency", "quotas")


@pytest.mark.parametrize("name", QUICK)
def test_an_unbroken_service_has_nothing_to_find(scene: Scene, name: str) -> None:
    assert bad(name, scene) == []


# --- proofs of sender -----------------------------------------------------------------------------------------------


def test_a_date_that_is_not_checked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigv4, "check_time", lambda claim, now, skew_s: None)
    found = first_success("signatures", scene)
    assert found is not None
    assert "old" in found.case or "early" in found.case or "ended" in found.case or "date" in found.case


def test_a_signature_that_is_not_compared(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigv4, "verify", lambda claim, secret, canonical: True)
    assert first_success("signatures", scene) is not None


def test_a_scope_that_is_not_checked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigv4, "check_scope", lambda claim, region, *services: None)
    assert first_success("signatures", scene) is not None
    assert first_success("bearers", scene) is not None


def test_api_keys_taken_everywhere(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Authenticator._bearer
    monkeypatch.setattr(Authenticator, "_bearer", lambda self, key, allow: right(self, key, True))
    found = first_success("bearers", scene)
    assert found is not None
    assert found.case.startswith("an API key at ")


# --- what is asked for ----------------------------------------------------------------------------------------------


def test_a_decide_stage_that_allows_all(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide.Access, "_one", lambda self, *rest: None)
    for name in ("paths", "headers", "escalation", "tags", "foreign"):
        assert first_success(name, scene) is not None, name


def test_a_router_that_decodes_and_tidies_paths(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a policy stage that goes by the path as sent, a tidied path is another operation than the one denied."""
    right, allowed = router.Router.match, decide.Access.decide

    def tidy(self: router.Router, method: str, path: bytes, *rest: object) -> router.Match:
        plain = "/" + unquote(unquote(path.decode("latin-1"))).strip("/ ").partition(";")[0]
        return right(self, method, plain.encode("latin-1", "replace"), *rest)

    def by_path(self: decide.Access, operation: str, asking: decide.Asking) -> context.Keys:
        plain = asking.request.raw_path == b"/foundation-models"
        return allowed(self, operation, asking) if plain else {}

    monkeypatch.setattr(router.Router, "match", tidy)
    monkeypatch.setattr(decide.Access, "decide", by_path)
    assert first_success("paths", scene) is not None


def test_a_forwarded_address_that_is_believed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    right = context.of_request

    def believing(request: context.RawRequest, *rest: object) -> context.Keys:
        claimed = request.header(b"x-forwarded-for")
        return right(replace(request, peer=claimed.decode().partition(",")[0]) if claimed else request, *rest)

    monkeypatch.setattr(context, "of_request", believing)
    found = first_success("headers", scene)
    assert found is not None
    assert "x-forwarded-for" in found.case


def test_a_member_whose_first_value_is_authorised_and_whose_last_one_counts(scene: Scene) -> None:
    """The judgement alone: an answer that describes the other key is a success."""
    found: list[Found] = []

    class Confused(documents.Caller):
        def send(self, request: object, timeout_s: float = 0.0) -> documents.Answer:
            other = scene.victims.a.resources["key"]
            return documents.Answer(200, (), json.dumps({"KeyMetadata": {"Arn": other}}).encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "Caller", Confused)
        found = list(documents._two_values(scene))
    assert any(each.outcome is Outcome.SUCCEEDED for each in found)


def test_two_actions_of_which_the_last_is_done(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy stage that goes by the first action, and a codec that takes the last."""
    right = form.query_pairs

    def last_wins(raw_query: bytes, headers: object, body: bytes) -> list[tuple[str, str]]:
        return list(dict(right(raw_query, headers, body)).items())

    monkeypatch.setattr("outcrop.service.wire.query.query_pairs", last_wins)
    monkeypatch.setattr("outcrop.service.wire.form.query_pairs", last_wins)
    monkeypatch.setattr(decide.Access, "decide", lambda self, operation, asking: self._of_request(asking))
    found = [each for each in documents._two_operations(scene) if each.outcome is Outcome.SUCCEEDED]
    assert found


# --- who may ---------------------------------------------------------------------------------------------------------


def test_a_denial_that_tells_whether_a_foreign_key_is_there(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    right = decide.Access._refuse

    def telling(self: decide.Access, asking: object, request: object, decision: object, resource: Resource) -> None:
        if ":key/" in resource.arn and not resource.policy_required:
            raise AwsError("NotFoundException", "There is no such key.")
        right(self, asking, request, decision, resource)

    monkeypatch.setattr(decide.Access, "_refuse", telling)
    found = first_success("foreign", scene)
    assert found is not None
    assert "told apart" in found.evidence


def test_an_access_key_that_is_looked_for_before_its_user(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    right = AccessKeys.of

    def eager(self: AccessKeys, account: str, user: str | None, access_key_id: str) -> object:
        self.get(access_key_id)
        return right(self, account, user, access_key_id)

    monkeypatch.setattr(AccessKeys, "of", eager)
    admin = foreign.Caller(scene.client, scene.region, scene.victims.a.people["admin"])
    template = next(each for each in foreign.templates() if each.operation == "iam:DeleteAccessKey")
    found = foreign._compare(admin, template, scene.victims.b, scene.victims.a.account)
    assert found.outcome is Outcome.SUCCEEDED


def test_conditions_of_a_roles_trust_that_are_not_looked_at(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(asker: grants.Asker, actions: tuple[str, ...], arn: str, role: object, keys: object) -> None:
        if role is None:
            raise grants.denied(asker, actions[0], arn)

    monkeypatch.setattr(grants, "must_allow", careless)
    found = first_success("deputy", scene)
    assert found is not None
    assert "external id" in found.case


@pytest.mark.parametrize(("layer", "case"), [("session", "a narrow session"), ("boundary", "bounded")])
def test_a_layer_of_policies_that_is_left_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, layer: str, case: str
) -> None:
    right = IdentityStore.layers_of

    def without(self: IdentityStore, *rest: object) -> object:
        return replace(right(self, *rest), **{layer: None})

    monkeypatch.setattr(IdentityStore, "layers_of", without)
    found = first_success("escalation", scene)
    assert found is not None
    assert found.case.startswith(case)


def test_special_tokens_that_are_taken_from_what_users_write(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ServedModel.prompt

    async def parsing(self: ServedModel, messages: list[dict[str, str]]) -> tuple[int, ...]:
        tidy = [{**each, "content": each["content"].replace("<|end|>", "")} for each in messages]
        return await right(self, tidy)

    monkeypatch.setattr(ServedModel, "prompt", parsing)
    found = first_success("tokens", scene)
    assert found is not None
    assert "<|end|>" in found.case


# --- the wire --------------------------------------------------------------------------------------------------------


def test_a_lax_server_is_smuggled_through() -> None:
    """The standard library's server, which does not know chunks and takes what it is given."""

    class Lax(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0").split(",")[0] or 0))
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *rest: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Lax)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client = Client(f"http://127.0.0.1:{server.server_port}")
        known = dict(smuggling.messages(client.host.encode()))
        for name in ("a length and chunks", "two lengths that differ", "an unknown coding"):
            assert smuggling.taken(client.exchange(known[name], 1.0)), name
    finally:
        server.shutdown()
        server.server_close()


# --- what is left behind ----------------------------------------------------------------------------------------------


def only_checksums(folder: Path) -> Report:
    """A verifier that looks at each line by itself, and neither at their order nor at what was signed."""
    report = Report(records=sum(line.kind == "R" for path in segments(folder / "log") for line in whole_lines(path)))
    for path in segments(folder / "log"):
        if path.stat().st_size != sum(line.end - line.offset for line in whole_lines(path)):
            report.findings.append(Finding(path.name, "a checksum"))
    return report


def test_a_verifier_that_looks_at_checksums_only(service: Running, scene: Scene) -> None:
    del scene
    found = list(tampering.tampered(service.data / "audit", only_checksums))
    assert {each.case for each in found if each.outcome is Outcome.SUCCEEDED} == set(tampering.KINDS)


def test_a_trail_that_does_not_hold_is_no_ground_to_judge_on(service: Running, tmp_path: Path) -> None:
    tampering.copy(service.data / "audit", tmp_path / "audit")
    tampering.KINDS["a record edited"](tmp_path / "audit")
    assert [each.outcome for each in tampering.tampered(tmp_path / "audit")] == [Outcome.UNPROVEN]


@pytest.mark.parametrize("planted", [True, False], ids=["planted", "clean"])
def test_a_secret_in_a_log(tmp_path: Path, planted: bool) -> None:
    (tmp_path / "data" / "audit").mkdir(parents=True)
    (tmp_path / "data" / "audit" / "log").write_text("nothing")
    (tmp_path / "stderr").write_text("a prompt: Q0FOQVJZTFVOQ0g=" if planted else "nothing")
    process = subprocess.Popen(["sleep", "60"])
    child = Child(Client("http://127.0.0.1:1"), "us-east-1", Keys("a", "b"), tmp_path / "data", tmp_path, process)
    try:
        found = {each.case: each.outcome for each in canaries.search(child, {"a prompt": "CANARYLUNCH"})}
    finally:
        process.kill()
        process.wait()
    assert found["a prompt"] is (Outcome.SUCCEEDED if planted else Outcome.REFUSED)


@pytest.mark.parametrize("how", [bytes, lambda raw: raw.hex().encode()], ids=["plain", "hex"])
def test_every_form_of_a_secret_is_looked_for(tmp_path: Path, how: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a").write_bytes(b"x" + how(b"CANARYLUNCH") + b"y")
    assert canaries.holds(tmp_path / "a", "CANARYLUNCH")
    assert not canaries.holds(tmp_path / "a", "CANARYLUNCHES")


def test_the_statistic_tells_what_differs_and_passes_what_does_not() -> None:
    draw = random.Random(1)
    x = [draw.gauss(0, 1) for _ in range(500)]
    assert prompts.mann_whitney_p(x, [draw.gauss(0, 1) for _ in range(500)]) > prompts.ALPHA
    assert prompts.mann_whitney_p(x, [draw.gauss(0.5, 1) for _ in range(500)]) < prompts.ALPHA
    assert math.isclose(prompts.mann_whitney_p([], x), 1.0)


def test_another_tenants_prompt_that_is_told_to_be_cached(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    right = prompts.converse

    def telling(caller: prompts.Caller, model: str, prompt: str) -> prompts.Answer:
        answer = right(caller, model, prompt)
        body = answer.json()
        body["usage"] = {**body["usage"], "cacheReadInputTokens": 16}
        return replace(answer, body=json.dumps(body).encode())

    monkeypatch.setattr(prompts, "converse", telling)
    admin = prompts.Caller(scene.client, scene.region, scene.victims.a.people["admin"])
    found = list(prompts._told(scene, admin, prompts.models(admin)[0], random.Random(1)))
    assert found[0].outcome is Outcome.SUCCEEDED


def test_a_quota_that_is_not_held_to(scene: Scene) -> None:
    found = first_success("quotas", replace(scene, limit=lambda account, rpm: None))
    assert found is not None
    assert "nobody was told to wait" in found.evidence


def test_the_tenants_are_taken_away(service: Running) -> None:
    with scene_of(service) as made:
        account, keys = made.victims.a.account, made.victims.a.people["admin"]
        caller = foreign.Caller(made.client, made.region, keys)
        assert caller.call("sts:GetCallerIdentity").ok
    for _ in range(20):
        if not caller.call("sts:GetCallerIdentity").ok:
            break
        time.sleep(0.1)
    assert not caller.call("sts:GetCallerIdentity").ok
    assert account


@pytest.mark.parametrize("profile", ["strict", "standard"])
def test_a_captured_change_sent_again(tmp_path: Path, profile: str) -> None:
    """Refused where the profile promises it; the same promise of a service without a replay cache is found out."""
    (tmp_path / "passphrase").write_text("a passphrase that lies outside\n")
    (tmp_path / "data").mkdir(mode=0o700)
    store = f'[key_store]\nkind = "passphrase"\npassphrase_file = "{tmp_path / "passphrase"}"\n'
    (tmp_path / "data" / "outcrop.toml").write_text(f'profile = "{profile}"\n{store}')
    (tmp_path / "passphrase").chmod(0o600)
    with running_service(tmp_path / "data") as service, scene_of(service, replay_cache=True) as made:
        admin = forged.Caller(made.client, made.region, made.victims.a.people["admin"])
        found = {each.case: each.outcome for each in forged.replays(made, admin)}
    expected = Outcome.REFUSED if profile == "strict" else Outcome.SUCCEEDED
    assert found["a captured CreateKey sent again"] is expected
