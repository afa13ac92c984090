"""Commands of the operator leave their event first; the trail takes it in, once, and goes on verifying."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outcrop.base.errors import OutcropError
from outcrop.cli.main import main
from outcrop.trust.audit.spool import Spool
from serving import running_service


def verified(data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["audit", "verify", "--data", str(data)]) == 0
    return capsys.readouterr().out


def shown(data: Path, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    assert main(["audit", "show", "--last", "50", "--json", "--data", str(data)]) == 0
    found = json.loads(capsys.readouterr().out)
    events = found["events"] if isinstance(found, dict) else found
    return [each for each in events if each["eventName"] == "OperatorCommand"]


def test_a_command_is_in_the_trail_whether_the_service_runs_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    with running_service(data):
        assert main(["admin", "user", "create", "ada", "--data", str(data)]) == 0
        assert main(["admin", "user", "list", "--data", str(data)]) == 0  # changes nothing
    assert main(["admin", "user", "create", "bob", "--data", str(data)]) == 0
    assert len(Spool(data / "audit").waiting()) == 1
    with running_service(data):
        pass
    assert Spool(data / "audit").waiting() == []
    capsys.readouterr()
    details = [each["serviceEventDetails"] for each in shown(data, capsys)]
    assert sorted((each["command"], each["argument.name"]) for each in details) == [
        ("admin user create", "ada"),
        ("admin user create", "bob"),
    ]
    verified(data, capsys)


def test_without_its_event_a_command_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with running_service(data):
        pass

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("outcrop.trust.audit.spool.write_atomic", full)
    assert main(["admin", "user", "create", "eve", "--data", str(data)]) == 1
    assert "not done" in capsys.readouterr().err
    assert main(["admin", "user", "list", "--json", "--data", str(data)]) == 0
    assert "eve" not in capsys.readouterr().out


def test_what_is_no_event_stays_and_harms_nothing(tmp_path: Path) -> None:
    events: list[object] = []

    class Trail:
        def append(self, event: object) -> None:
            events.append(event)

    spool = Spool(tmp_path)
    spool.put({"eventName": "x"})
    (spool.directory / "0.json").write_bytes(b"[1]")
    (spool.directory / "1.json").write_bytes(b"{")
    (spool.directory / "2.json").write_bytes(b'{"a": "' + b"x" * 70_000 + b'"}')
    assert spool.drain(Trail()) == 1
    assert events == [{"eventName": "x"}]
    assert [path.name for path in spool.waiting()] == ["0.json", "1.json", "2.json"]


def test_the_error_is_of_our_tree() -> None:
    with pytest.raises(OutcropError):
        Spool(Path("/proc/none")).put({})
