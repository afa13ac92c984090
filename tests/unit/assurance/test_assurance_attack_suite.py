"""The attack as data: its families, their cases, the operations it knows, and what it says of what it cannot judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outcrop.assurance.attack import FAMILIES, Family, Found, Outcome, Scene, chosen, foreign, load, paths, smuggling
from outcrop.assurance.attack.base import results
from outcrop.assurance.attack.client import Answer, Client, parse_answers
from outcrop.assurance.attack.masking import masked
from outcrop.base.errors import UserError
from outcrop.cli.main import main
from outcrop.service.endpoints import HANDLERS, VENDOR, VENDOR_BELOW

NOBODY = Scene(Client("http://127.0.0.1:1"))


def test_every_operation_that_is_answered_is_attacked() -> None:
    built = {f"{service}:{name}" for service, handlers in HANDLERS.items() for name in handlers}
    built |= {endpoint.name for endpoint in (*VENDOR.values(), *VENDOR_BELOW.values())}
    assert {template.operation for template in foreign.templates()} >= built


def test_every_place_of_a_template_is_a_kind_that_tenants_have() -> None:
    known = {f"{{{kind}}}" for kind in (*foreign.KINDS, "document", "trust")}
    for template in foreign.templates():
        text = json.dumps(template.input)
        for place in known:
            text = text.replace(place, "")
        assert not [part for part in text.split("{")[1:] if part[:1].islower()], template.operation


def test_families_have_names_and_controls_of_their_own() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family.controls
        assert all(control.startswith(("AISVS-", "NIST-")) for control in family.controls)
        assert family.title
        assert family.succeeds


def test_families_are_chosen_by_name_and_by_control() -> None:
    assert [family.name for family in chosen(["audit", "tags"])] == ["tags", "audit"]
    assert {family.name for family in chosen((), ["AISVS-5.3.1"])} == {"foreign", "cache"}
    assert chosen() == list(FAMILIES)
    assert chosen(["tags"], ["AISVS-2.1.7"]) == []


def test_cases_have_names_of_their_own() -> None:
    spelled = list(paths.spellings("/foundation-models"))
    assert len({name for name, _ in spelled}) == len({path for _, path in spelled}) == len(spelled) > 30
    known = [name for name, _ in smuggling.messages(b"a")]
    assert len(set(known)) == len(known) > 40


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_service_that_is_not_there_proves_nothing(family: Family) -> None:
    assert {each.outcome for each in results(family, NOBODY)} == {Outcome.UNPROVEN}


def test_a_family_that_fails_on_the_way_is_unproven() -> None:
    def run(scene: Scene) -> list[Found]:
        raise ConnectionRefusedError("nobody is there")

    family = Family("x", "x", "x", ("NIST-AC-3",), run)

    class Answering(Client):
        def alive(self, timeout_s: float = 0.0) -> bool:
            return True

    found, after = results(family, Scene(Answering("http://127.0.0.1:1")))
    assert found.outcome is Outcome.UNPROVEN
    assert not found.passed
    assert after.passed


def test_names_of_the_same_shape_that_nobody_has() -> None:
    there = {"key": "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "user": "user-v1a"}
    gone = foreign.absent(there)
    assert all(gone[kind] != value and len(gone[kind]) == len(value) for kind, value in there.items())
    assert gone["key"].startswith("arn:aws:kms:us-east-1:111122223333:key/")


def test_answers_are_compared_without_names_and_ids() -> None:
    def denial(name: str, more: str = "") -> Answer:
        request = "0b1c2d3e-0000-4000-8000-00000000000a" if more else "ffffffff-0000-4000-8000-00000000000b"
        return Answer(403, (("x-amzn-requestid", request),), f"no {name} {request}{more}".encode())

    assert masked(denial("here"), "here") == masked(denial("gone"), "gone")
    assert masked(denial("here", "!"), "here") != masked(denial("gone"), "gone")


def test_every_whole_answer_of_a_connection_is_read() -> None:
    raw = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nab"
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nrest"
    )
    assert [(each.status, each.body) for each in parse_answers(raw)] == [(404, b"ab"), (200, b"abc"), (200, b"rest")]
    assert parse_answers(b"HTTP/1.1 200 OK\r\ncontent-le") == []


@pytest.mark.parametrize(
    "text", ["", "[a]", '[a]\naccount = "1"\n[a.people.x]\naccess_key_id = "a"\nsecret = "b"', "not toml ="]
)
def test_a_file_that_names_no_two_tenants_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tenants.toml").write_text(text)
    with pytest.raises(UserError, match="does not name two tenants"):
        load(tmp_path / "tenants.toml")


def test_a_file_with_two_tenants(tmp_path: Path) -> None:
    one = '[{0}]\naccount = "{1}"\n[{0}.people.admin]\naccess_key_id = "AKIA{1}"\nsecret = "s"\n'
    (tmp_path / "tenants.toml").write_text(one.format("a", "111122223333") + one.format("b", "444455556666"))
    victims = load(tmp_path / "tenants.toml")
    assert (victims.a.account, victims.b.people["admin"].access_key_id) == ("111122223333", "AKIA444455556666")
    assert "'s'" not in repr(victims)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", "http://127.0.0.1:1", "--only", "tags"]) == 1
    assert "Nothing answers" in capsys.readouterr().err
    assert main(["attack", "--control", "NIST-ZZ-9"]) == 1
    assert "Known controls: AISVS-11.2.2" in capsys.readouterr().err
    assert main(["attack", "ftp://a", "--only", "tags"]) == 1
    assert "no address" in capsys.readouterr().err
