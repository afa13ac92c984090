"""``outcrop tune inspect``: what it marks is what is trained, what is wrong has its line, and nothing is changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from outcrop.cli.main import main
from outcrop.models.registry import ModelRegistry
from outcrop.training.tuning import Encoder, read_examples

MODEL = "outcrop.pebble-v1:0"


def conversation(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]}


GOOD = [conversation("Who?", "Me.", "Where?", "Here."), conversation("What?", "Nothing, \x1b[31mreally.")]


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["tune", "inspect", *arguments, "--model", MODEL, "--data", str(tmp_path / "data"), "--no-timing"])
    return code, capsys.readouterr().out


def test_exactly_the_trained_tokens_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "train.jsonl", *GOOD)
    code, out = inspect(tmp_path, capsys, str(file), "--json")
    assert code == 0
    loaded = ModelRegistry(tmp_path / "data" / "models").load(MODEL)
    encoded, _ = Encoder(loaded.tokenizer, loaded.template, 1024).encode_all(read_examples(file).examples)
    shown = json.loads(out)["examples"]
    assert [one["line"] for one in shown] == [1, 2]
    for one, expected in zip(shown, encoded, strict=True):
        for tokens, document in zip(one["documents"], expected.documents, strict=True):
            assert [token["id"] for token in tokens] == list(document.tokens)
            assert [token["trained"] for token in tokens] == [weight > 0 for weight in document.weights]


@pytest.mark.parametrize(("colour", "mark"), [("always", "\x1b\\[30;42m(.*?)\x1b\\[0m"), ("never", "⟦(.*?)⟧")])
def test_trained_text_is_coloured_or_bracketed_and_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], colour: str, mark: str
):
    file = write(tmp_path / "train.jsonl", *GOOD)
    _, out = inspect(tmp_path, capsys, str(file), "--color", colour)
    assert re.findall(mark, out) == ["Me.<|im_end|>", "Here.<|im_end|>", "Nothing, \\x1b[31mreally.<|im_end|>"]
    assert "\x1b[31m" not in out


def test_bad_lines_are_named_and_the_exit_code_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "train.jsonl", GOOD[0], conversation("a", ""), conversation("word " * 200, "b"))
    code, out = inspect(tmp_path, capsys, str(file), "--row-tokens", "64")
    assert code == 1
    assert f"{file}:2: messages[1].content is empty" in out
    assert re.search(rf"{file}:3: has \d+ tokens, more than the 64 of a row", out)
    code, out = inspect(tmp_path, capsys, str(write(file, GOOD[0], conversation("word " * 200, "b"))), "--row-tokens",
                        "64", "--cut")  # fmt: skip
    assert code == 0
    assert "cut off" in out


def test_repeats_and_overlap_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train = write(tmp_path / "train.jsonl", *GOOD, GOOD[0])
    valid = write(tmp_path / "valid.jsonl", GOOD[1], conversation("New?", "Yes."))
    code, out = inspect(tmp_path, capsys, str(train), "--validation", str(valid))
    assert code == 0
    assert "line 3 repeats line 1" in out
    assert "line 1 of the validation data is also training line 2" in out


def test_one_line_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "train.jsonl", *GOOD)
    _, out = inspect(tmp_path, capsys, str(file), "--line", "2", "--json")
    assert [one["line"] for one in json.loads(out)["examples"]] == [2]
    assert inspect(tmp_path, capsys, str(file), "--line", "3")[0] == 1


def test_the_estimate_grows_with_the_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "train.jsonl", *GOOD)
    once, thrice = (
        json.loads(inspect(tmp_path, capsys, str(file), "--json", "--epochs", n)[1])["estimate"] for n in ("1", "3")
    )
    assert thrice["tokens"] == 3 * once["tokens"]
    assert once["seconds"] is None
    full = json.loads(inspect(tmp_path, capsys, str(file), "--json", "--full")[1])["estimate"]
    assert full["trainable_parameters"] > once["trainable_parameters"]


def test_rows_longer_than_the_model_sees_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "train.jsonl", *GOOD)
    assert inspect(tmp_path, capsys, str(file), "--row-tokens", "4096")[0] == 1
