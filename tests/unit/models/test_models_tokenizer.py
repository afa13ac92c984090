from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_files import SPECIAL, edit_json, make_model, make_sentence_piece_tokenizer
from tokenizers import AddedToken

from outcrop.base.errors import ModelRefused
from outcrop.models.tokenizer import Tokenizer

TEXTS = ["the quick brown fox", " two  spaces\n\ttabs", "Grüße, 世界! \U0001f642", "", "\u200d\u0000 odd"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path)


@pytest.fixture
def byte_level(model: Path) -> Tokenizer:
    return Tokenizer.load(model)


@pytest.fixture
def sentence_piece(model: Path) -> Tokenizer:
    make_sentence_piece_tokenizer().save(str(model / "tokenizer.json"))
    edit_json(model / "tokenizer_config.json", bos_token={"content": "<s>", "lstrip": False}, eos_token="</s>")
    return Tokenizer.load(model)


@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_byte_level_tokens_join_to_the_text(byte_level: Tokenizer, text: str) -> None:
    ids = byte_level.encode(text)
    assert b"".join(map(byte_level.token_bytes, ids)).decode() == text
    assert byte_level.decode(ids) == text


@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_sentence_piece_tokens_join_to_the_text_after_a_space(
    sentence_piece: Tokenizer, text: str
) -> None:
    ids = sentence_piece.encode(text)
    assert b"".join(map(sentence_piece.token_bytes, ids)).decode().removeprefix(" ") == text
    assert sentence_piece.strips_leading_space


def test_special_tokens_have_a_name_and_no_bytes(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("<|im_start|>the<|im_end|>")
    assert [byte_level.is_special(i) for i in ids] == [True, *[False] * (len(ids) - 2), True]
    assert byte_level.token_bytes(ids[0]) == b""
    assert byte_level.token_text(ids[0]) == "<|im_start|>"
    assert byte_level.decode(ids) == "the"
    assert byte_level.decode(ids, skip_special_tokens=False) == "<|im_start|>the<|im_end|>"
    assert byte_level.special_texts == set(SPECIAL)


def test_literal_encoding_spells_special_tokens_out(byte_level: Tokenizer) -> None:
    ids = byte_level.encode_literal("a <|im_end|> b")
    assert not any(map(byte_level.is_special, ids))
    assert byte_level.decode(ids) == "a <|im_end|> b"


def test_part_of_a_character_is_shown_as_a_replacement_character(byte_level: Tokenizer) -> None:
    first = byte_level.encode("世")[0]
    assert byte_level.token_bytes(first) == "世".encode()[:1]
    assert byte_level.token_text(first) == "\ufffd"


def test_unknown_ids_have_no_bytes(byte_level: Tokenizer) -> None:
    assert byte_level.token_bytes(byte_level.vocab_size + 5) == b""


def test_added_tokens_that_are_not_special_are_text(model: Path) -> None:
    description = json.loads((model / "tokenizer.json").read_text())
    new = {**description["added_tokens"][0], "id": 310, "content": "<think> é", "special": False}
    description["added_tokens"].append(new)
    (model / "tokenizer.json").write_text(json.dumps(description))
    tokenizer = Tokenizer.load(model)
    (token,) = tokenizer.encode("<think> é")
    assert token == tokenizer.vocab_size - 1
    assert tokenizer.token_bytes(token) == "<think> é".encode()
    assert not tokenizer.is_special(token)


def metaspace_tokenizer(directory: Path, mark: str) -> Tokenizer:
    """Like ``sentence_piece``, but its decoder is a Metaspace with ``mark`` for the space, and has no bytes."""
    description = json.loads(make_sentence_piece_tokenizer().to_str().replace("\u2581", mark))
    description["decoder"] = {"type": "Metaspace", "replacement": mark, "prepend_scheme": "always", "split": True}
    (directory / "tokenizer.json").write_text(json.dumps(description))
    return Tokenizer.load(directory)


@pytest.mark.parametrize("mark", ["\u2581", "_"])
def test_the_decoder_says_what_marks_a_space_and_whether_there_are_bytes(model: Path, mark: str) -> None:
    tokenizer = metaspace_tokenizer(model, mark)
    ids = tokenizer.encode("hello world")
    assert tokenizer.decode(ids) == "hello world"
    assert b"".join(map(tokenizer.token_bytes, ids)) == b" hello world"
    literal = next(i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == b"<0x41>")
    assert tokenizer.decode([*ids, literal]) == "hello world<0x41>"


def test_a_mark_in_an_added_token_is_a_space_as_anywhere(model: Path, sentence_piece: Tokenizer) -> None:
    rust = make_sentence_piece_tokenizer()
    rust.add_tokens([AddedToken("\u2581\u2581tool", normalized=False)])
    rust.save(str(model / "tokenizer.json"))
    tokenizer = Tokenizer.load(model)
    added = tokenizer.vocab_size - 1
    assert tokenizer.token_bytes(added) == b"  tool"
    assert tokenizer.decode([*tokenizer.encode("he"), added]) == "he  tool"


def test_every_file_may_name_tokens_that_end_an_answer(model: Path) -> None:
    edit_json(model / "config.json", eos_token_id=7)
    edit_json(model / "generation_config.json", eos_token_id=[5, 6])
    assert Tokenizer.load(model).eos_token_ids == {2, 5, 6, 7}
    edit_json(model / "config.json", eos_token_id=...)
    (model / "generation_config.json").unlink()
    assert Tokenizer.load(model).eos_token_ids == {2}
    edit_json(model / "tokenizer_config.json", eos_token=None)
    assert Tokenizer.load(model).eos_token_ids == frozenset()


def test_the_first_token_is_the_tokenizers_not_the_models(model: Path, sentence_piece: Tokenizer) -> None:
    assert sentence_piece.bos_token_id == 1
    edit_json(model / "tokenizer_config.json", bos_token=None)
    assert Tokenizer.load(model).bos_token_id is None
    (model / "tokenizer_config.json").unlink()
    assert Tokenizer.load(model).bos_token_id is None


def test_settings_of_training_neither_cut_nor_pad(model: Path) -> None:
    padding = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    edit_json(model / "tokenizer.json", truncation=truncation, padding=padding)
    tokenizer = Tokenizer.load(model)
    assert tokenizer.decode(tokenizer.encode("the quick brown fox jumps")) == "the quick brown fox jumps"
    assert len(tokenizer.encode("t")) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not JSON"),
        ("{}", "decodes with nothing"),
        ('{"decoder": {"type": "WordPiece"}}', "decodes with .*WordPiece.*ByteLevel"),
        ('{"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "CTC"}]}}', "with .*CTC"),
        ('{"decoder": {"type": "Sequence", "decoders": 7}}', "decodes with nothing"),
        ('{"decoder": {"type": "ByteLevel"}}', "is not a tokenizer"),
        ('{"decoder": {"type": "ByteLevel"}, "model": {"type": "Magic"}}', "is not a tokenizer"),
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
def test_a_damaged_tokenizer_is_refused(model: Path, content: str, said: str) -> None:
    (model / "tokenizer.json").write_text(content)
    with pytest.raises(ModelRefused, match=f"{model}/tokenizer.json.*{said}"):
        Tokenizer.load(model)


def test_a_missing_tokenizer_is_refused(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelRefused, match=r"tokenizer.json is missing"):
        Tokenizer.load(model)


@pytest.mark.parametrize("value", ["<|im_end|>", [1, "2"], 1.5, True, [-1], {"a": 1}])
def test_an_end_that_is_no_token_id_is_refused(model: Path, value: object) -> None:
    edit_json(model / "generation_config.json", eos_token_id=value)
    with pytest.raises(ModelRefused, match=r"generation_config.json: eos_token_id"):
        Tokenizer.load(model)
