from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from outcrop.inference.detokenise import Detokeniser
from outcrop.models import tokenizer as tokenizers_room

FAMILY = "👨\u200d👩\u200d👧"  # three emoji and two joiners: 18 bytes


def byte_level() -> tokenizers_room.Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: i for i, character in enumerate(alphabet)}
    merges = []
    for left, right in (("Ã", "©"), ("Ġ", "t"), ("Ġt", "h"), ("ð", "Ł")):
        vocabulary[left + right] = len(vocabulary)
        merges.append((left, right))
    rust = Tokenizer(models.BPE(vocabulary, merges))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    rust.add_special_tokens([AddedToken("<|end|>", special=True)])
    rust.add_tokens([AddedToken("<think>", special=False)])
    return tokenizers_room.Tokenizer(
        rust, "byte-level", bos_token_id=None, eos_token_ids=frozenset(), strips_leading_space=False
    )


def sentence_piece() -> tokenizers_room.Tokenizer:
    pieces = ["<unk>", "<s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "▁the", "the", "▁▁", "é", "🙂", "a"]
    rust = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    rust.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    rust.add_special_tokens([AddedToken("<s>", special=True)])
    return tokenizers_room.Tokenizer(
        rust, "sentence-piece", bos_token_id=1, eos_token_ids=frozenset(), strips_leading_space=True
    )


BYTE_LEVEL, SENTENCE_PIECE = byte_level(), sentence_piece()


def deltas(vocabulary: tokenizers_room.Tokenizer, ids: list[int]) -> list[str]:
    detokeniser = Detokeniser(vocabulary)
    return [*map(detokeniser.feed, ids), detokeniser.flush()]


def sentence_piece_bytes(text: str) -> list[int]:
    return [2 + byte for byte in text.encode()]


@pytest.mark.parametrize("text", ["plain", "naïve café", FAMILY, "日本語 テキスト", "a🙂b", " leading", "¡ñ! \n\t"])
def test_byte_level_text_comes_in_whole_characters(text: str) -> None:
    pieces = deltas(BYTE_LEVEL, BYTE_LEVEL.encode(text))
    assert "".join(pieces) == text
    assert not any("�" in piece for piece in pieces)
    assert pieces[-1] == ""


def test_a_character_comes_with_its_last_byte_and_not_before() -> None:
    ids = BYTE_LEVEL.encode("x🙂")
    assert deltas(BYTE_LEVEL, ids) == ["x", *[""] * (len(ids) - 2), "🙂", ""]


def test_a_character_cut_short_is_replaced_at_the_end() -> None:
    ids = BYTE_LEVEL.encode("ok🙂")[:-1]
    pieces = deltas(BYTE_LEVEL, ids)
    assert pieces[-1] == "�"
    assert "".join(pieces) == BYTE_LEVEL.decode(ids)


def test_special_tokens_have_no_text_and_added_ones_do() -> None:
    ids = BYTE_LEVEL.encode("<think>a<|end|>b")
    assert "".join(deltas(BYTE_LEVEL, ids)) == "<think>ab"


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(0, BYTE_LEVEL.vocab_size - 1), max_size=40))
def test_byte_level_deltas_join_to_what_decode_gives_for_any_tokens(ids: list[int]) -> None:
    assert "".join(deltas(BYTE_LEVEL, ids)) == BYTE_LEVEL.decode(ids)


def test_sentence_piece_drops_one_space_at_the_very_beginning() -> None:
    the, gap = SENTENCE_PIECE.vocab_size - 6, SENTENCE_PIECE.vocab_size - 7
    assert deltas(SENTENCE_PIECE, [the, the]) == ["the", " the", ""]
    assert deltas(SENTENCE_PIECE, [1, the]) == ["", "the", ""]
    assert deltas(SENTENCE_PIECE, [gap, the]) == ["", " the", ""]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(258, SENTENCE_PIECE.vocab_size - 1).map(lambda i: [i]),
            st.just([1]),
            st.text("aé日🙂 ", min_size=1, max_size=3).map(sentence_piece_bytes),
        ),
        max_size=15,
    )
)
def test_sentence_piece_deltas_join_to_what_decode_gives(parts: list[list[int]]) -> None:
    ids = [i for part in parts for i in part]
    assert "".join(deltas(SENTENCE_PIECE, ids)) == SENTENCE_PIECE.decode(ids)


def test_fallback_bytes_that_never_become_a_character_are_replaced_alone() -> None:
    ids = [*sentence_piece_bytes("é"), 2 + 0xFF, *sentence_piece_bytes("日")[:2]]
    assert "".join(deltas(SENTENCE_PIECE, ids)) == "é��"


def test_each_token_is_looked_up_once() -> None:
    class Counting:
        eos_token_ids: frozenset[int] = frozenset()
        lookups = 0
        decoded = 0

        def token_bytes(self, token_id: int) -> bytes:
            self.lookups += 1
            return BYTE_LEVEL.token_bytes(token_id)

        def token_text(self, token_id: int) -> str:
            return ""

        def decode(self, ids, skip_special_tokens: bool = True) -> str:
            self.decoded += len(ids)
            return BYTE_LEVEL.decode(ids)

    ids = BYTE_LEVEL.encode(" the naïve reader " * 50)
    counting = Counting()
    detokeniser = Detokeniser(counting)
    for token_id in ids:
        detokeniser.feed(token_id)
    assert counting.lookups == len(ids)
    assert counting.decoded <= 1
