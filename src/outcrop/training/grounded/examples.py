"""Conversations that teach quoting with a citation, and refusing, each drawn from real documentation.

An example is refused where the passages do not hold the question's key words together. A third of the refusals are
near misses: the passage that would answer is there, but the question names a thing with one word changed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from outcrop.training.grounded.corpus import Corpus, Paragraph, Text
from outcrop.training.grounded.prompts import (
    REFUSAL,
    Message,
    Passages,
    answer,
    lay_out,
    lay_out_plainly,
    open_conversation,
    open_plainly,
    small_talk,
)
from outcrop.training.grounded.questions import Question, ask, ask_by_keywords, quotable, sentences

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxz", "aeiou"


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation whose last message is the answer. ``kind`` is a question kind, "refusal" or "chat"."""

    messages: list[Message]
    kind: str
    passages: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    question: str = ""
    sentence: str = ""

    @property
    def answer(self) -> str:
        return self.messages[-1]["content"]


@dataclass(frozen=True, slots=True)
class Mixture:
    """How often each sort of example is drawn, and whether only the recommended prompt layout is used."""

    refusal: float = 0.25
    chat: float = 0.03
    keywords: float = 0.12
    invented_names: float = 0.2
    more_turns: float = 0.0
    max_passages: int = 5
    window_chars: int = 420
    plain_layout: bool = False


@dataclass(frozen=True, slots=True)
class _Posed:
    passages: list[str]
    question: Question
    refused: bool


def draw_example(corpus: Corpus, mixture: Mixture, rng: random.Random) -> Example:
    """One example; the same generator state gives the same example."""
    while True:
        text = corpus.draw(rng)
        paragraph = text.draw(rng)
        if (question := _ask_some_sentence(paragraph, mixture, rng)) is None:
            continue
        if rng.random() < mixture.chat:
            return Example(small_talk(rng, question.text), "chat")
        passage = _window(paragraph, question.sentence, rng, mixture.window_chars)
        refused = rng.random() < mixture.refusal
        near_miss = refused and rng.random() < 0.35
        if (others := _distractors(corpus, text, question, mixture, rng)) is None:
            continue
        if refused and not near_miss:
            passages = others or [" ".join(_other_window(corpus.draw(rng), rng))]
            if _holds(passages, question.key):
                continue
        else:
            passages = others
            passages.insert(rng.randint(0, len(others)), passage)
        if near_miss and (question := _change_one_word(question, passages, rng)) is None:
            continue
        if rng.random() < mixture.invented_names:
            passages, question = _invent_names(passages, question, rng)
        return _compose(corpus, _Posed(passages, question, refused), mixture, rng)


def _ask_some_sentence(paragraph: Paragraph, mixture: Mixture, rng: random.Random) -> Question | None:
    candidates = [s for s in paragraph if quotable(s)]
    rng.shuffle(candidates)
    maker: Callable[[str, random.Random], Question | None] = ask_by_keywords if rng.random() < mixture.keywords else ask
    return next(filter(None, (maker(sentence, rng) for sentence in candidates)), None)


def _window(paragraph: Paragraph, sentence: str, rng: random.Random, max_chars: int) -> str:
    """The sentence with some of its neighbours, verbatim."""
    start = end = paragraph.index(sentence)
    limit = rng.randint(len(sentence), max(len(sentence), max_chars))
    while True:
        before = start > 0 and rng.random() < 0.6
        after = end < len(paragraph) - 1 and not before
        if not before and not after:
            break
        grown = " ".join(paragraph[start - before : end + after + 1])
        if len(grown) > limit:
            break
        start, end = start - before, end + after
    return " ".join(paragraph[start : end + 1])


def _other_window(text: Text, rng: random.Random) -> Paragraph:
    paragraph = text.draw(rng)
    start = rng.randrange(len(paragraph))
    kept: Paragraph = []
    for sentence in paragraph[start : start + 3]:
        if kept and sum(map(len, kept)) + len(sentence) > 320:
            break
        kept.append(sentence[:400])
    return kept


def _distractors(
    corpus: Corpus, text: Text, question: Question, mixture: Mixture, rng: random.Random
) -> list[str] | None:
    """Passages that do not answer; ``None`` where one of the same document holds the key words after all."""
    multiple = mixture.max_passages // 4
    count = min(rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 4, 4)) * multiple, mixture.max_passages - 1)
    found = []
    for _ in range(count):
        source = text if rng.random() < 0.6 else corpus.draw(rng)
        passage = " ".join(_other_window(source, rng))
        if _holds([passage], question.key):
            return None
        found.append(passage)
    return found


def _holds(passages: list[str], key: str) -> bool:
    key = re.sub(r"^(the|an?) ", "", key.lower())
    return any(key in passage.lower() for passage in passages)


def _change_one_word(question: Question, passages: list[str], rng: random.Random) -> Question | None:
    """The question about something else of a similar name; ``None`` where the changed name is in the passages too."""
    words = [w for w in re.findall(r"[A-Za-z_]{4,}", question.key) if w in question.text]
    if not words:
        return None
    old = rng.choice(words)
    pool = re.findall(r"[A-Za-z_]{4,}", rng.choice(passages)) if rng.random() < 0.5 else []
    new = rng.choice(pool) if pool else invented_name(rng)
    key = question.key.replace(old, new)
    if new.lower() == old.lower() or _holds(passages, key):
        return None
    return Question(question.text.replace(old, new), question.sentence, key, question.kind)


def invented_name(rng: random.Random) -> str:
    """A pronounceable word that no corpus holds, sometimes written as an identifier."""
    word = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(2, 3)))
    word += rng.choice(("", "", rng.choice(_CONSONANTS)))
    return rng.choice((word, word, word.capitalize(), f"{word}_{rng.choice(('id', 'size', 'mode', 'path'))}"))


def _invent_names(passages: list[str], question: Question, rng: random.Random) -> tuple[list[str], Question]:
    """One word of the key renamed everywhere, so that copying beats remembering."""
    words = [w for w in re.findall(r"[A-Za-z_]{4,}", question.key) if w in question.text]
    if not words:
        return passages, question
    old, new = rng.choice(words), invented_name(rng)
    pattern = re.compile(rf"\b{re.escape(old)}\b")
    renamed = Question(
        pattern.sub(new, question.text),
        pattern.sub(new, question.sentence),
        pattern.sub(new, question.key),
        question.kind,
    )
    return [pattern.sub(new, passage) for passage in passages], renamed


def _compose(corpus: Corpus, posed: _Posed, mixture: Mixture, rng: random.Random) -> Example:
    passages, question = posed.passages, posed.question
    if mixture.plain_layout:
        laid_out = lay_out_plainly(passages)
        messages = open_plainly(laid_out.text, question.text)
    else:
        laid_out = lay_out(passages, rng)
        messages = open_conversation(laid_out.text, question.text, rng)
    reply = REFUSAL if posed.refused else _cite(question.sentence, passages, laid_out)
    messages.append({"role": "assistant", "content": reply})
    if rng.random() < mixture.more_turns:
        messages += _more_turns(corpus, passages, laid_out, mixture, rng)
    kind = "refusal" if posed.refused else question.kind.value
    return Example(messages, kind, tuple(passages), laid_out.labels, question.text, question.sentence)


def _cite(sentence: str, passages: list[str], laid_out: Passages) -> str:
    index = next(i for i, passage in enumerate(passages) if sentence in passage)
    return answer(sentence, laid_out.labels[index])


def _more_turns(
    corpus: Corpus, passages: list[str], laid_out: Passages, mixture: Mixture, rng: random.Random
) -> list[Message]:
    """More questions about the same passages, asked without repeating them; some have no answer there."""
    found = [(s, i) for i, passage in enumerate(passages) for s in sentences(passage) if quotable(s)]
    rng.shuffle(found)
    messages: list[Message] = []
    for sentence, index in found[: rng.randint(1, 5)]:
        question = ask(sentence, rng)
        if question is None and rng.random() < mixture.keywords:
            question = ask_by_keywords(sentence, rng)
        reply = answer(sentence, laid_out.labels[index])
        if rng.random() < mixture.refusal:
            question, reply = _ask_some_sentence(corpus.draw(rng).draw(rng), mixture, rng), REFUSAL
            if question is None or _holds(passages, question.key):
                continue
        if question is not None and _only_one(passages, question, reply):
            messages += [{"role": "user", "content": question.text}, {"role": "assistant", "content": reply}]
    return messages


def _only_one(passages: list[str], question: Question, reply: str) -> bool:
    """Whether at most one passage holds the key, so that the answer is not a matter of taste."""
    return reply == REFUSAL or sum(_holds([passage], question.key) for passage in passages) == 1
