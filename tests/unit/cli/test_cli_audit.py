"""``outcrop audit`` over a trail on the disk, with no service there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audit_rig import event, trail
from outcrop.cli.main import main
from outcrop.trust.audit import merkle
from outcrop.trust.audit.segments import segments


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with trail(tmp_path / "audit") as log:
        for number in range(6):
            log.append(event(f"Create{number}"))
    return tmp_path


def output(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out)


def test_a_good_trail_is_verified_and_a_changed_one_is_not(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", "--data", str(data)]) == 0
    assert "The trail holds: 8 records" in capsys.readouterr().out
    assert main(["audit", "verify", str(data / "audit"), "--json"]) == 0
    assert output(capsys)["holds"] is True
    path = segments(data / "audit" / "log")[0]
    path.write_bytes(path.read_bytes().replace(b"Create3", b"Create4"))
    assert main(["audit", "verify", "--data", str(data)]) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_a_kept_head_is_proved_and_another_logs_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = data / "head.json"
    assert main(["audit", "head", "--data", str(data), "--json"]) == 0
    kept.write_text(capsys.readouterr().out)
    with trail(data / "audit") as log:
        log.append(event("Later"))
    assert main(["audit", "verify", "--data", str(data), "--head", str(kept)]) == 0
    capsys.readouterr()
    assert main(["audit", "head", "--since", str(kept), "--data", str(data), "--json"]) == 0
    facts = output(capsys)
    old, new = facts["since"], facts["head"]
    roots = bytes.fromhex(old["root"]), bytes.fromhex(new["root"])
    proof = [bytes.fromhex(one) for one in facts["proof"]]
    assert merkle.verify_consistency(old["tree_size"], new["tree_size"], *roots, proof)
    with trail(data / "other" / "audit") as log:
        log.append(event())
    assert main(["audit", "head", "--since", str(kept), "--data", str(data / "other")]) == 1
    assert main(["audit", "verify", "--head", str(kept), "--data", str(data / "other")]) == 1


def test_an_event_is_proved_and_an_unknown_one_is_not(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", "--last", "3", "--data", str(data), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["eventName"] for one in shown] == ["Create4", "Create5", "StopLogging"]
    assert main(["audit", "prove", shown[0]["eventID"], "--data", str(data), "--json"]) == 0
    facts = output(capsys)
    leaf = merkle.leaf_hash(facts["record"].encode())
    proof = [bytes.fromhex(one) for one in facts["proof"]]
    root = bytes.fromhex(facts["head"]["root"])
    assert merkle.verify_inclusion(leaf, facts["index"], facts["head"]["tree_size"], proof, root)
    assert main(["audit", "prove", "no-such-event", "--data", str(data)]) == 1


def test_keys_name_the_log(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "keys", "--data", str(data), "--json"]) == 0
    facts = output(capsys)
    assert [key["use"] for key in facts["keys"]] == ["head", "digest"]
    assert main(["audit", "verify", "--log", facts["log"][:16], "--data", str(data)]) == 0
    assert main(["audit", "verify", "--log", "0" * 16, "--data", str(data)]) == 1


@pytest.mark.parametrize("verb", [["verify"], ["head"], ["show"], ["keys"], ["prove", "x"]])
def test_without_a_trail_each_says_so(tmp_path: Path, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *verb, "--data", str(tmp_path)]) == 1
    assert "audit trail" in capsys.readouterr().err
