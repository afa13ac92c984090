"""``outcrop policy``: denials explained, documents checked, decisions tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outcrop.cli.main import main
from outcrop.service.access import Denials
from outcrop.trust.policy import (
    Decision,
    Effect,
    MatchedStatement,
    PolicyRole,
    Reason,
    Request,
    Requester,
    RequesterKind,
)

USER = "arn:aws:iam::111122223333:user/alice"


def written(path: Path, *statements: dict[str, object]) -> str:
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
    return str(path)


def allow(action: str, resource: str = "*", **more: object) -> dict[str, object]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def test_a_denial_is_explained_by_its_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = Request(
        Requester(RequesterKind.USER, "111122223333", USER), "kms:Decrypt", "*", "", {"aws:SourceIp": "10.0.0.1"}
    )
    matched = MatchedStatement("guard", PolicyRole.SCP, "NoKeys", Effect.DENY)
    decision = Decision(Effect.DENY, Reason.EXPLICIT_DENY, (matched,), ("aws:PrincipalTag/team",))
    Denials(tmp_path).keep("id-1", "2024-01-02T03:04:05Z", request, decision)
    assert main(["policy", "explain", "id-1", "--data", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for part in (USER, "kms:Decrypt", "guard", "NoKeys", "aws:PrincipalTag/team", "aws:SourceIp = 10.0.0.1"):
        assert part in shown
    assert main(["policy", "explain", "id-1", "--data", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == Reason.EXPLICIT_DENY.value
    assert main(["policy", "explain", "id-2", "--data", str(tmp_path)]) == 1
    assert "No denial of the request 'id-2' is kept" in capsys.readouterr().err


def test_a_document_is_checked_for_its_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = written(tmp_path / "good.json", allow("s3:*", Sid="All"), {**allow("kms:*"), "Effect": "Deny"})
    assert main(["policy", "check", good, "--json"]) == 0
    assert [each["effect"] for each in json.loads(capsys.readouterr().out)["statements"]] == ["Allow", "Deny"]
    assert main(["policy", "check", good]) == 0
    assert "2 statement(s)" in capsys.readouterr().out
    assert main(["policy", "check", "--as", "resource", good]) == 1
    assert "OC-4300" in capsys.readouterr().err
    bad = written(tmp_path / "bad.json", allow("s3:*", Colour="red"))
    assert main(["policy", "check", bad]) == 1
    assert "OC-4300" in capsys.readouterr().err
    assert main(["policy", "check", str(tmp_path / "none.json")]) == 1
    assert "There is no file" in capsys.readouterr().err


def test_policies_are_tried_without_a_deployment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}
    reader = written(tmp_path / "reader.json", allow("bedrock:InvokeModel", **home))
    scp = written(tmp_path / "scp.json", allow("s3:*"))
    base = ["policy", "simulate", "--action", "bedrock:InvokeModel", "--identity", reader]
    assert main([*base, "--key", "aws:SourceIp=10.1.2.3"]) == 0
    assert capsys.readouterr().out.startswith("Allow: an identity policy allows it\n")
    assert main(base) == 1
    assert "absent: aws:SourceIp" in capsys.readouterr().out
    assert main([*base, "--key", "aws:SourceIp=10.1.2.3", "--scp", scp, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == Reason.SCP.value
    assert main([*base, "--key", "aws:SourceIp"]) == 1
    assert "KEY=VALUE" in capsys.readouterr().err
    assert main([*base, "--principal", "alice"]) == 1
    assert "no principal" in capsys.readouterr().err
    root = "arn:aws:iam::111122223333:root"
    assert main(["policy", "simulate", "--action", "s3:GetObject", "--principal", root]) == 0
