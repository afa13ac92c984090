"""The ways in which people hand over passages and a question, and the fixed forms of the answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

REFUSAL = "Not found in the passages."
HOW_TO_USE = "I answer only from passages that you give me. Send numbered passages and a question."
GREETING = f"Hello! {HOW_TO_USE}"

_LABELS = (
    ("[{n}] {t}", 10),
    ("Passage {n}: {t}", 2),
    ("Document {n}: {t}", 1),
    ("Source {n}: {t}", 1),
    ("({n}) {t}", 1),
    ("{n}. {t}", 1),
    ("[{n}]\n{t}", 1),
    ("Passage {n}:\n{t}", 1),
)
_HEADERS = ("", "", "", "Passages:\n", "Passages:\n\n", "Context:\n", "Sources:\n", "Use these passages.\n\n")
_ASKS = ("Question: {}", "Question: {}", "Question: {}", "{}", "Q: {}", "Please answer: {}")
_SYSTEMS = (
    "You are a helpful assistant.",
    "Answer only from the passages and cite them.",
    "Quote one sentence from the passages and cite it.",
    "You answer questions about documentation.",
    "Use the passages. If the answer is not there, say so.",
    "You are Pebble.",
)
_GREETINGS = (
    "Hello", "Hello!", "Hi", "Hi there", "Hey", "Say hello", "Say hello.", "say hi", "Good morning",
    "Hello, who are you?", "Hi! How are you?", "Please say hello.", "Say hello in one sentence.", "Greetings",
    "hello there", "Good evening!",
)  # fmt: skip
_CHAT = (
    "Who are you?", "What can you do?", "Tell me a joke.", "Write a poem about the sea.", "Help", "How does this work?",
    "What is your name?", "Write a story.", "Thanks!", "Tell me about yourself.", "Translate this into French.",
    "Write a function that adds two numbers.", "What is 2 + 2?", "Count to ten.", "Summarise the news.", "test",
    "What is the capital of France?", "Who wrote Hamlet?", "How do I use you?", "Can you help me?", "OK", "ping",
)  # fmt: skip

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Passages:
    """Numbered passages as they stand in a prompt. ``labels[i]`` is the number a citation of passage i uses."""

    text: str
    labels: tuple[int, ...]


def lay_out(texts: Sequence[str], rng: random.Random) -> Passages:
    """The passages under one randomly chosen numbering; a lone passage may go without a number and is then [1]."""
    if len(texts) == 1 and rng.random() < 0.5:
        return Passages(rng.choice(("", "Context: ", "Passage: ", "Passage:\n", "Text: ")) + texts[0], (1,))
    labels: Sequence[int] = range(1, len(texts) + 1)
    if rng.random() < 0.3:
        labels = rng.sample(range(1, 20), len(texts))
    form = rng.choices([f for f, _ in _LABELS], [w for _, w in _LABELS])[0]
    separator = rng.choice(("\n", "\n", "\n\n"))
    body = separator.join(form.format(n=n, t=t) for n, t in zip(labels, texts, strict=True))
    return Passages(rng.choice(_HEADERS) + body, tuple(labels))


def lay_out_plainly(texts: Sequence[str]) -> Passages:
    """The one layout that documentation recommends: ``[1] ...`` on lines of their own."""
    return Passages("\n".join(f"[{n}] {t}" for n, t in enumerate(texts, 1)), tuple(range(1, len(texts) + 1)))


def open_conversation(passages: str, question: str, rng: random.Random) -> list[Message]:
    """Messages up to and with the question: passages before it, after it, or in the system prompt."""
    asked = rng.choice(_ASKS).format(question)
    place = rng.random()
    if place < 0.15:
        return [{"role": "system", "content": passages}, {"role": "user", "content": asked}]
    messages = [{"role": "system", "content": rng.choice(_SYSTEMS)}] if rng.random() < 0.25 else []
    content = f"{asked}\n\n{passages}" if place < 0.3 else f"{passages}\n\n{asked}"
    return [*messages, {"role": "user", "content": content}]


def open_plainly(passages: str, question: str) -> list[Message]:
    return [{"role": "user", "content": f"{passages}\n\nQuestion: {question}"}]


def answer(sentence: str, label: int) -> str:
    """The fixed form of an answer: the sentence as a Markdown quotation, then the passage's number."""
    return f"> {sentence} [{label}]"


def small_talk(rng: random.Random, question: str) -> list[Message]:
    """A conversation without passages: a greeting, a request of another kind, or ``question``, and the fixed reply."""
    messages = [{"role": "system", "content": rng.choice(_SYSTEMS)}] if rng.random() < 0.3 else []
    choice = rng.random()
    if choice < 0.4:
        asked, reply = rng.choice(_GREETINGS), GREETING
    elif choice < 0.7:
        asked, reply = rng.choice(_CHAT), HOW_TO_USE
    else:
        asked, reply = rng.choice(_ASKS).format(question), HOW_TO_USE
    return [*messages, {"role": "user", "content": asked}, {"role": "assistant", "content": reply}]
