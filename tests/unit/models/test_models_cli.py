from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from model_files import make_model

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import ModelRefused, NotFound, UserError
from outcrop.cli import models
from outcrop.models.registry import ModelRegistry

ID = "local.fox-v1:0"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "fox")


def run(tmp_path: Path, *words: str) -> int:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path)
    common.add_argument("--json", action="store_true")
    parser = argparse.ArgumentParser()
    models.add(parser.add_subparsers(), common)
    args = parser.parse_args(["models", *words, "--data", str(tmp_path / "data")])
    code: int = args.run(args)
    return code


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    captured = capsys.readouterr()
    assert captured.err == ""
    value = json.loads(captured.out)
    assert isinstance(value, dict)
    return value


def test_a_model_comes_shows_and_goes(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "import", str(source)) == 0
    assert capsys.readouterr().out.startswith(f"Imported {ID}: LlamaForCausalLM, ")
    assert run(tmp_path, "alias", "gpt-4o", ID) == 0
    run(tmp_path, "list")
    listed = capsys.readouterr().out
    assert ID in listed
    assert f"gpt-4o -> {ID}" in listed
    run(tmp_path, "show", "gpt-4o")
    assert "apache-2.0" in capsys.readouterr().out
    run(tmp_path, "unalias", "gpt-4o")
    assert run(tmp_path, "remove", ID) == 0
    with pytest.raises(NotFound):
        run(tmp_path, "show", ID)


def test_every_verb_prints_one_json_document(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "import", str(source), "--id", "acme.fox-v2:0", "--json")
    imported = document(capsys)
    assert imported["model_id"] == "acme.fox-v2:0"
    run(tmp_path, "alias", "fox", "acme.fox-v2:0", "--json")
    assert document(capsys) == {"alias": "fox", "model_id": "acme.fox-v2:0"}
    run(tmp_path, "list", "--json")
    listed = document(capsys)
    assert imported in listed["models"]
    assert listed["aliases"] == {"fox": "acme.fox-v2:0"}
    run(tmp_path, "show", "fox", "--json")
    assert document(capsys) == {**imported, "aliases": ["fox"]}
    run(tmp_path, "unalias", "fox", "--json")
    assert document(capsys) == {"alias": "fox", "model_id": None}
    run(tmp_path, "remove", "acme.fox-v2:0", "--json")
    assert document(capsys) == {"removed": True, "model": imported}


def test_a_model_for_one_account_is_sealed_under_its_key(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from outcrop.service.sealing import VaultedFiles
    from outcrop.service.trusted import Trust

    with pytest.raises(NotFound, match="no deployment"):
        run(tmp_path, "import", str(source), "--id", ID, "--owner", "111122223333", "--seal")
    deployment = Deployment.create(tmp_path / "data")
    assert run(tmp_path, "import", str(source), "--id", ID, "--owner", "111122223333", "--seal", "--json") == 0
    model = document(capsys)
    assert (model["owner"], model["sealed"]) == ("111122223333", True)
    root = tmp_path / "data" / models.MODELS_FOLDER
    with pytest.raises(ModelRefused, match="sealed"):
        ModelRegistry(root).load(ID)
    trust = Trust.open(tmp_path / "data", deployment, SystemClock())
    assert ModelRegistry(root, sealed_files=VaultedFiles(trust.vault, deployment.scope)).load(ID)
    trust.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seal"], "needs an owner"),
        (["--owner", "me"], "not an account id"),
        (["--owner", "111122223333", "--key", "alias/mine"], "Add --seal"),
    ],
)
def test_owners_and_keys_that_make_no_sense_are_refused(
    tmp_path: Path, source: Path, words: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(tmp_path, "import", str(source), "--id", ID, *words)
    assert run(tmp_path, "import", str(source), "--id", ID, "--owner", "111122223333") == 0


def test_a_dry_run_removes_nothing(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "import", str(source))
    run(tmp_path, "remove", ID, "--dry-run")
    assert "Would remove" in capsys.readouterr().out
    run(tmp_path, "show", ID)
    run(tmp_path, "alias", "fox", ID)
    with pytest.raises(UserError, match="has aliases"):
        run(tmp_path, "remove", ID, "--dry-run")


@pytest.mark.parametrize("verb", [[], ["import"], ["list"], ["show"], ["remove"], ["alias"], ["unalias"]])
def test_help_has_an_example(tmp_path: Path, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(tmp_path, *verb, "--help")
    assert left.value.code == 0
    assert "example: outcrop models" in capsys.readouterr().out
