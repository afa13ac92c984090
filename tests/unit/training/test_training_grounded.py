import random
import re
from pathlib import Path

import pytest

from outcrop.training.grounded.baseline import OverlapRule
from outcrop.training.grounded.corpus import Corpus
from outcrop.training.grounded.examples import Example, Mixture, draw_example, invented_name
from outcrop.training.grounded.prompts import GREETING, HOW_TO_USE, REFUSAL
from outcrop.training.grounded.questions import Kind, ask, ask_by_keywords, quotable, sentences

PARAGRAPHS = [
    f"The {name} parameter sets the {thing} of the request. It was added in version {i}. "
    f"If the {name} is missing, the {thing} is taken from the session. To clear the {name}, call reset on the {thing}."
    for i, (name, thing) in enumerate(
        [
            ("timeout", "duration"),
            ("region", "place"),
            ("cursor", "position"),
            ("retry", "number"),
            ("proxy", "address"),
        ]
    )
]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    for package in ("one", "two"):
        documents = [[f"{p} See {package} for {i}." for p in PARAGRAPHS] for i in range(4)]
        body = "\n\n".join("\n".join(document) for document in documents)
        (tmp_path / f"{package}.txt").write_text(body)
    return Corpus(tmp_path, ["one", "two"])


def draw(corpus: Corpus, count: int, **mixture: float) -> list[Example]:
    rng = random.Random(4)
    return [draw_example(corpus, Mixture(**mixture), rng) for _ in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sentence", "kind", "words"),
    [
        ("The timeout parameter sets the longest wait in seconds.", Kind.VERB, "timeout parameter"),
        ("A blueprint is a set of operations for an application.", Kind.DEFINITION, "blueprint"),
        ("The handler must return a response object or text.", Kind.MODAL, "handler"),
        ("To clear the cache, call the reset method of the store.", Kind.PURPOSE, "clear the cache"),
        ("If the key is missing, an error is raised at once.", Kind.CONDITION, "the key is missing"),
    ],
)
def test_each_pattern_asks_about_the_head_of_the_sentence(sentence: str, kind: Kind, words: str) -> None:
    question = ask(sentence, random.Random(0))
    assert question is not None
    assert question.kind is kind
    assert words in question.text
    assert question.sentence == sentence


@pytest.mark.parametrize("sentence", ["This is a thing that has no name here.", "It returns the number of rows."])
def test_sentence_about_something_named_elsewhere_is_not_asked_about(sentence: str) -> None:
    assert ask(sentence, random.Random(0)) is None


def test_keyword_question_uses_neighbouring_words_of_the_sentence() -> None:
    sentence = "Rows are locked until the surrounding transaction commits."
    question = ask_by_keywords(sentence, random.Random(1))
    assert question is not None
    assert question.key in sentence


def test_sentences_joined_again_are_the_paragraph() -> None:
    paragraph = "One thing, e.g. this one. Another thing is here. (A third follows.)"
    assert " ".join(sentences(paragraph)) == paragraph
    assert len(sentences(paragraph)) == 3


@pytest.mark.parametrize(
    "sentence", ["Too short.", "No full stop at the end of this line", "A bracket (that is never closed in here."]
)
def test_fragments_are_not_quotable(sentence: str) -> None:
    assert not quotable(sentence)


def test_equal_seeds_draw_equal_examples(corpus: Corpus) -> None:
    assert draw(corpus, 20) == draw(corpus, 20)


def test_answers_stand_verbatim_in_the_cited_passage(corpus: Corpus) -> None:
    for example in draw(corpus, 200, refusal=0.0, chat=0.0):
        match = re.fullmatch(r"> (.*) \[(\d+)\]", example.answer)
        assert match is not None
        passage = example.passages[example.labels.index(int(match[2]))]
        assert match[1] in passage
        assert any(passage in message["content"] for message in example.messages)


def test_refused_questions_name_something_that_the_passages_lack(corpus: Corpus) -> None:
    examples = draw(corpus, 100, refusal=1.0, chat=0.0, invented_names=0.0)
    assert {example.answer for example in examples} == {REFUSAL}
    assert {example.kind for example in examples} == {"refusal"}


def test_conversation_without_passages_gets_a_fixed_reply(corpus: Corpus) -> None:
    examples = draw(corpus, 60, chat=1.0)
    assert {example.answer for example in examples} == {GREETING, HOW_TO_USE}


def test_more_turns_keep_to_the_passages(corpus: Corpus) -> None:
    examples = draw(corpus, 100, more_turns=1.0, chat=0.0)
    assert any(len(example.messages) > 3 for example in examples)
    for example in examples:
        for message in example.messages:
            if message["role"] == "assistant" and message["content"] != REFUSAL:
                quoted = message["content"].removeprefix("> ").rsplit(" [", 1)[0]
                assert any(quoted in passage for passage in example.passages)


def test_invented_names_are_not_english_words() -> None:
    rng = random.Random(0)
    assert len({invented_name(rng) for _ in range(200)}) > 150


def test_overlap_rule_quotes_the_sentence_that_shares_the_rare_words(corpus: Corpus) -> None:
    rule = OverlapRule.of(corpus, 50, random.Random(0))
    share, index, sentence = rule.best("What does the cursor parameter set?", PARAGRAPHS)
    assert (index, sentence) == (2, "The cursor parameter sets the position of the request.")
    assert share > rule.best("What is a zeppelin?", PARAGRAPHS)[0]
