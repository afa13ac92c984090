"""Evidence: what tests did is what is stated, signed, checked and exported."""

from __future__ import annotations

import json
import re
import stat
import uuid
from pathlib import Path

import pytest

from outcrop.assurance.controls import ControlMap
from outcrop.assurance.evidence import Checkout, EvidenceFile, Statement, checkout, evidence_key, run_tests
from outcrop.assurance.evidence.checkout import machine_facts, packages
from outcrop.assurance.evidence.oscal import component_definition
from outcrop.assurance.evidence.statement import results
from outcrop.base.errors import NotFound, UserError
from outcrop.cli.main import main
from outcrop.trust.crypto.signatures import SigningKey

TESTS = """
import pytest

def test_good():
    assert True

def test_bad():
    assert False

def test_unable():
    pytest.skip("not on this machine")

@pytest.mark.parametrize("n", [1, 2])
def test_half(n):
    assert n == 1

@pytest.fixture
def broken():
    yield
    raise RuntimeError("after the test")

def test_leaves_a_mess(broken):
    assert True
"""
MAP = {
    "claims": "\n".join(
        f'[{name}]\nsays = "It is so"\ncode = []\ntests."test_some.py" = ["test_{name}"]\n'
        for name in ("good", "bad", "unable")
    ),
    "small": 'title = "Small"\nsource = "https://example.invalid/small and more"\nscope = "all"\n'
    + "\n".join(
        f'[[control]]\nid = "S-{name.upper()}"\ntitle = "Be {name}"\nstatus = "tested"\nclaims = ["{name}"]\n'
        for name in ("good", "bad", "unable")
    )
    + '[[control]]\nid = "S-BOTH"\ntitle = "Be both"\nstatus = "tested"\nclaims = ["good", "bad"]\ngap = "the rest"\n'
    + '[[control]]\nid = "S-YOURS"\ntitle = "Be yours"\nstatus = "operator"\nwhy = "It is yours"\n',
}


@pytest.fixture(scope="module")
def statement(tmp_path_factory: pytest.TempPathFactory) -> Statement:
    """What came of the small map's tests, really run."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "test_some.py").write_text(TESTS)
    control_map = ControlMap.parse(MAP)
    names = ("good", "bad", "unable", "half", "leaves_a_mess")
    runs = run_tests(root, [f"test_some.py::test_{name}" for name in names])
    facts = {"commit": "c0ffee", "dirty": False, "lock": {}}
    at = "2026-11-22T23:00:00+00:00"
    return Statement(at, facts, machine_facts(), {}, runs, results(control_map, control_map.choose(), runs))


def test_what_each_test_did_is_told(statement: Statement):
    outcomes = {run.test.partition("::test_")[2]: (run.outcome, run.cases) for run in statement.tests}
    assert outcomes == {
        "good": ("passed", 1),
        "bad": ("failed", 1),
        "unable": ("skipped", 1),
        "half": ("failed", 2),
        "leaves_a_mess": ("failed", 1),
    }


def test_a_control_holds_only_when_all_of_its_tests_passed(statement: Statement):
    assert {one.id: one.outcome for one in statement.controls} == {
        "S-GOOD": "holds",
        "S-BAD": "fails",
        "S-UNABLE": "incomplete",
        "S-BOTH": "fails",
        "S-YOURS": "",
    }
    assert not statement.sound
    assert statement.counts() == {"small": {"holds": 1, "fails": 2, "incomplete": 1, "operator": 1}}


def test_a_test_that_was_not_run_leaves_its_control_incomplete():
    control_map = ControlMap.parse(MAP)
    found = results(control_map, control_map.choose(["S-GOOD"]), [])
    assert [one.outcome for one in found] == ["incomplete"]


def test_where_pytest_runs_nothing_that_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match="ran none of 1 tests"):
        run_tests(tmp_path, ["test_gone.py::test_it"])


def test_without_pytest_or_tests_the_way_to_them_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(NotFound, match="make test"):
            run_tests(tmp_path, ["test_it.py::test_it"])
    installed = tmp_path / "lib" / "site-packages" / "outcrop" / "assurance" / "evidence" / "checkout.py"
    monkeypatch.setattr(checkout, "HERE", installed)
    with pytest.raises(NotFound, match="Clone the repository"):
        Checkout.of_this_package()


def test_a_checkout_tells_its_commit_and_its_lock(tmp_path: Path):
    facts = Checkout.of_this_package().facts()
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", facts["commit"])
    assert re.fullmatch(r"[0-9a-f]{64}", facts["lock"]["requirements-dev.lock"])
    assert Checkout(tmp_path).facts() == {"commit": "unknown", "dirty": None, "lock": {}}
    assert "pytest" in packages()


def test_what_was_signed_is_verified(tmp_path: Path, statement: Statement):
    key = evidence_key(tmp_path)
    path = tmp_path / "evidence.json"
    EvidenceFile.sign(statement.document(), key).write(path)
    read = EvidenceFile.read(path)
    read.verify()
    read.verify(key.verifying_key.fingerprint()[:16].upper())
    assert read.statement["controls"][0]["outcome"] == "holds"


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["statement"]["controls"][1].update(outcome="holds"),
        lambda document: document["statement"].update(at="2026-11-23T00:00:00+00:00"),
        lambda document: document["statement"]["tests"].pop(),
        lambda document: document["statement"].update(more=1),
        lambda document: document["signature"].update(
            public_key=SigningKey.generate("ed25519").verifying_key.public_pem().decode()
        ),
        lambda document: document["signature"].update(value="AAAA"),
    ],
)
def test_a_changed_statement_is_refused(tmp_path: Path, statement: Statement, change):
    path = tmp_path / "evidence.json"
    EvidenceFile.sign(statement.document(), SigningKey.generate("ed25519")).write(path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="does not hold"):
        EvidenceFile.read(path).verify()


def test_a_statement_written_otherwise_still_holds(tmp_path: Path, statement: Statement):
    path = tmp_path / "evidence.json"
    EvidenceFile.sign(statement.document(), SigningKey.generate("ed25519")).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7, sort_keys=True))
    EvidenceFile.read(path).verify()


def test_another_signer_is_named(statement: Statement):
    evidence = EvidenceFile.sign(statement.document(), SigningKey.generate("ed25519"))
    with pytest.raises(UserError, match="is signed by the key"):
        evidence.verify("0123456789abcdef")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"statement": {}, "signature": {"public_key": "", "value": ""}}'])
def test_what_is_no_evidence_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(UserError):
        EvidenceFile.read(path)


def test_the_signing_key_is_made_once_and_for_its_owner_only(tmp_path: Path):
    first = evidence_key(tmp_path)
    path = tmp_path / "evidence" / "signing-key.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert evidence_key(tmp_path).verifying_key == first.verifying_key
    path.chmod(0o644)
    with pytest.raises(UserError, match="read by others"):
        evidence_key(tmp_path)


def test_oscal_has_the_form_of_nists_schema(statement: Statement):
    """The rules of the schema for the members written here: required members, UUIDs, tokens, no unknown member."""
    document = component_definition(ControlMap.parse(MAP).catalogues, statement)["component-definition"]
    assert document.keys() == {"uuid", "metadata", "components"}
    assert document["metadata"].keys() == {"title", "last-modified", "version", "oscal-version"}
    (component,) = document["components"]
    assert {"uuid", "type", "title", "description"} <= component.keys()
    (implementation,) = component["control-implementations"]
    assert implementation["source"] == "https://example.invalid/small"
    requirements = {one["control-id"]: one for one in implementation["implemented-requirements"]}
    identifiers = [
        document["uuid"],
        component["uuid"],
        implementation["uuid"],
        *(r["uuid"] for r in requirements.values()),
    ]
    assert {uuid.UUID(one).version for one in identifiers} == {5}
    assert len(set(identifiers)) == len(identifiers)
    for name, requirement in requirements.items():
        assert re.fullmatch(r"[a-z_][a-z0-9.\-_]*", name)
        assert requirement.keys() == {"uuid", "control-id", "description", "props"}
        assert all(set(one) <= {"name", "value", "ns"} and one["value"].strip() for one in requirement["props"])
    stated = {name: {p["name"]: p["value"] for p in one["props"]} for name, one in requirements.items()}
    assert stated["s-good"]["implementation-status"] == "implemented"
    assert stated["s-bad"]["implementation-status"] == "partial"
    assert "implementation-status" not in stated["s-yours"]
    assert stated["s-yours"]["status"] == "operator"


def test_the_same_state_is_exported_the_same(statement: Statement):
    catalogues = ControlMap.parse(MAP).catalogues
    assert component_definition(catalogues, statement) == component_definition(catalogues, statement)


def test_the_command_makes_and_checks_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, out, oscal = tmp_path / "data", tmp_path / "evidence.json", tmp_path / "oscal.json"
    chosen = ["evidence", "run", "--control", "AISVS-2.1.7", "--data", str(data), "--json"]
    assert main([*chosen, "--out", str(out), "--oscal", str(oscal)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sound"]
    assert json.loads(oscal.read_text())["component-definition"]["components"]
    assert main(["evidence", "verify", str(out), "--key", said["key"]]) == 0
    shown = capsys.readouterr().out
    assert "The signature holds" in shown
    assert "aisvs" in shown
    out.write_text(out.read_text().replace('"holds"', '"fails"'))
    assert main(["evidence", "verify", str(out)]) == 1
    assert "does not hold" in capsys.readouterr().err


def test_an_unknown_control_and_a_missing_file_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evidence", "run", "--control", "NIST-AC-999", "--data", str(tmp_path)]) == 1
    assert "NIST-AC-999" in capsys.readouterr().err
    assert main(["evidence", "verify", str(tmp_path / "none.json")]) == 1
    assert "outcrop evidence run" in capsys.readouterr().err
