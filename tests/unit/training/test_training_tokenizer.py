import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from outcrop.training.bpe import train_bpe
from outcrop.training.documents import (
    CHAT_TEMPLATE,
    DECISION_WEIGHT,
    PROMPT_WEIGHT,
    REPLY_WEIGHT,
    SPECIAL_TOKENS,
    TEXT_END,
    chat_documents,
    copying_documents,
    render,
    text_documents,
)
from outcrop.training.grounded.prompts import REFUSAL, answer

TEXTS = ["The cat sits on the mat. [1]", "Not found in the passages.", "The answer is 42 [2]."] * 20
TOKENIZER = train_bpe(TEXTS, 400, SPECIAL_TOKENS)
CONVERSATION = [
    {"role": "system", "content": "You quote."},
    {"role": "user", "content": "[1] The cat sits on the mat.\n\nWhat does the cat do?"},
    {"role": "assistant", "content": answer("The cat sits on the mat.", 1)},
]


@given(st.text())
def test_any_text_survives_encoding(text: str) -> None:
    if not any(token in text for token in SPECIAL_TOKENS):
        assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


def test_digits_are_single_tokens() -> None:
    assert TOKENIZER.encode("2026").tokens == ["2", "0", "2", "6"]


def test_special_tokens_have_the_first_ids() -> None:
    assert [TOKENIZER.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


@pytest.mark.parametrize("open_reply", [False, True])
def test_rendering_equals_the_bundled_chat_template(open_reply: bool) -> None:
    template = jinja2.Environment().from_string(CHAT_TEMPLATE)
    expected = template.render(messages=CONVERSATION, add_generation_prompt=open_reply)
    assert render(CONVERSATION, open_reply) == expected


def test_chat_document_is_the_rendered_conversation_token_for_token() -> None:
    (document,) = chat_documents(TOKENIZER, [CONVERSATION])
    assert list(document.tokens) == TOKENIZER.encode(render(CONVERSATION)).ids


def trained(tokenizer: Tokenizer, weight: int) -> list[str]:
    (document,) = chat_documents(tokenizer, [CONVERSATION])
    return [tokenizer.id_to_token(t) for t, w in zip(document.tokens, document.weights, strict=True) if w == weight]


def test_reply_and_its_end_are_trained_in_full_and_roles_not_at_all() -> None:
    (document,) = chat_documents(TOKENIZER, [CONVERSATION])
    full = [t for t, w in zip(document.tokens, document.weights, strict=True) if w >= REPLY_WEIGHT]
    assert TOKENIZER.decode(full, skip_special_tokens=False) == CONVERSATION[-1]["content"] + "<|im_end|>"
    assert "You quote." in TOKENIZER.decode(
        [t for t, w in zip(document.tokens, document.weights, strict=True) if w == PROMPT_WEIGHT]
    )


def test_decision_and_citation_weigh_more() -> None:
    tokens = trained(TOKENIZER, DECISION_WEIGHT)
    assert (tokens[0], len(tokens), tokens[2:]) == (">", 5, ["1", "]", "<|im_end|>"])


def test_refusal_has_no_citation_to_weigh() -> None:
    refused = [*CONVERSATION[:-1], {"role": "assistant", "content": REFUSAL}]
    (document,) = chat_documents(TOKENIZER, [refused])
    assert sum(w == DECISION_WEIGHT for w in document.weights) == 2


def test_text_documents_lose_no_token_and_stand_between_end_tokens() -> None:
    text = " ".join(TEXTS)
    documents = list(text_documents(TOKENIZER, [text], 30))
    end = TOKENIZER.token_to_id(TEXT_END)
    assert all(d.tokens[0] == d.tokens[-1] == end and len(d.tokens) <= 30 for d in documents)
    assert [t for d in documents for t in d.tokens[1:-1]] == TOKENIZER.encode(text).ids


def test_copying_drills_train_only_tokens_that_stood_before() -> None:
    import random

    stream = copying_documents(400, 8, 200, random.Random(0))
    for document in (next(stream) for _ in range(20)):
        tokens, weights = list(document.tokens), list(document.weights)
        assert len(tokens) == 200
        for i, weight in enumerate(weights):
            if weight:
                pair = tokens[i - 1 : i + 1]
                assert any(tokens[j : j + 2] == pair for j in range(i - 1))
