"""Questions whose answer is one given sentence, found by sentence pattern.

Every pattern but ``keywords`` asks about the head of a sentence ("The timeout parameter sets ...": "What does the
timeout parameter set?"), because a small causal model can copy a head from the question and go on copying from the
passage. Not covered: paraphrase (the words of a question are words of its sentence), reasoning, counting, tables.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from enum import StrEnum

MIN_SENTENCE_CHARS = 30
MAX_SENTENCE_CHARS = 190

_SPLIT = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!vs\.)\s+(?=[A-Z`'(*])")
_ARTICLED = r"(?:The|A|An|Each|Every|All|Some|Any) [\w`'.()\-/]+(?: [\w`'.()\-/]+){0,4}"
_BARE = r"[A-Z`*][\w`'.()*\-/]*(?: [\w`'.()\-/]+){0,3}"
_SUBJECT = f"(?:{_ARTICLED}|{_BARE})"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_POINTERS = _words(
    "This That These Those It There Here They He She We You If When While For In On At As By To From With Note See "
    "However Therefore Thus Also Both What Which Who How Why Where And But Or So Not No Its Their Your Our My I "
    "Currently Instead Otherwise Although Because Since Unless Until After Before Once During Then Finally First "
    "Second Next Another Other Such Only Most Many Some Any All Each Every One Two Even Similarly Additionally"
)
_VERBS = _words(
    "returns sets specifies creates provides defines contains represents controls allows enables indicates takes "
    "accepts requires supports uses causes determines performs computes holds stores describes runs starts removes "
    "deletes adds checks converts reads writes sends calls raises loads opens closes lists gets generates handles "
    "implements includes makes means prevents produces refers works gives needs affects applies begins builds changes "
    "compares configures connects consists copies counts decides depends disables displays ends ensures evaluates "
    "executes expects exists extends fails finds follows forces formats forms groups helps identifies ignores inherits "
    "initializes inserts installs interprets invokes joins keeps limits maps marks matches measures modifies moves "
    "names offers operates overrides parses passes prints processes protects receives records reduces registers "
    "replaces reports resets resolves restricts selects serves shows skips sorts splits stops tells tests tracks "
    "transforms translates tries turns updates validates waits wraps yields"
)
_TOO_COMMON = _words(
    "the a an of to in is are be and or for with that this it as by on from at can if when which not will you your "
    "has have was were all any each other only also more than use used using into its may must should does do"
)


class Kind(StrEnum):
    """Which pattern made a question; scores are reported for each."""

    DEFINITION = "definition"
    VERB = "verb"
    MODAL = "modal"
    PURPOSE = "purpose"
    CONDITION = "condition"
    KEYWORDS = "keywords"


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the sentence that answers it, and the words that an answering passage must hold."""

    text: str
    sentence: str
    key: str
    kind: Kind


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, verbatim; joined by single spaces they give the paragraph again."""
    return _SPLIT.split(paragraph)


def quotable(sentence: str) -> bool:
    """Whether a sentence may serve as an answer: of fair length, ended by a full stop, with balanced brackets."""
    return (
        MIN_SENTENCE_CHARS <= len(sentence) <= MAX_SENTENCE_CHARS
        and sentence.endswith(".")
        and sentence.count("(") == sentence.count(")")
        and '"' not in sentence
        and "\n" not in sentence
    )


def ask(sentence: str, rng: random.Random) -> Question | None:
    """One question about a sentence, or ``None`` where no pattern fits."""
    for pattern, make in _PATTERNS:
        if (match := pattern.match(sentence)) and (made := make(match, rng)):
            text, key, kind = made
            return Question(text, sentence, key, kind)
    return None


def ask_by_keywords(sentence: str, rng: random.Random) -> Question | None:
    """A question that names two or three neighbouring words from anywhere in the sentence."""
    words = re.findall(r"[A-Za-z_][\w\-]*", sentence)
    count = rng.choice((2, 2, 3))
    starts = [
        i
        for i in range(1, len(words) - count + 1)
        if all(w.lower() not in _TOO_COMMON and len(w) > 3 for w in (words[i], words[i + count - 1]))
        and " ".join(words[i : i + count]) in sentence
    ]
    if not starts:
        return None
    start = rng.choice(starts)
    key = " ".join(words[start : start + count])
    form = rng.choice(
        (
            "What do the passages say about {}?",
            "Which sentence mentions {}?",
            "Quote the sentence about {}.",
            "What is said about {}?",
            "{}",
        )
    )
    return Question(form.format(key), sentence, key, Kind.KEYWORDS)


Made = tuple[str, str, Kind] | None


def _lower_head(head: str, rng: random.Random) -> str:
    """The head as it reads inside a question; a plain capitalised word keeps its capital now and then."""
    first = head.split(" ", 1)[0]
    if first in ("The", "A", "An", "Each", "Every", "All", "Some", "Any"):
        return head[0].lower() + head[1:]
    plain = first[1:].islower() and first.isalpha()
    return head[0].lower() + head[1:] if plain and rng.random() < 0.4 else head


def _subject(match: re.Match[str]) -> str | None:
    head = match["s"].rstrip()
    words = head.split()
    if words[0].strip("`*") in _POINTERS and words[0] not in ("The", "A", "An", "All", "Each", "Every", "Some", "Any"):
        return None
    content = [w for w in words if w.lower() not in _TOO_COMMON and len(w) > 2]
    if not content or words[-1].lower() in _TOO_COMMON or words[-1] in ("also", "then", "always", "currently"):
        return None
    return head


def _definition(match: re.Match[str], rng: random.Random) -> Made:
    if (head := _subject(match)) is None:
        return None
    inner, verb = _lower_head(head, rng), match["v"]
    forms = (f"What {verb} {inner}?",) * 5 + (
        f"Define {inner}.",
        f"Tell me about {inner}.",
        f"Explain {inner}.",
        f"{inner}?",
        f"what {verb} {inner}",
        f"What do you know about {inner}?",
    )
    return rng.choice(forms), head, Kind.DEFINITION


def _base_form(verb: str) -> str:
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    if verb.endswith(("sses", "shes", "ches", "xes")):
        return verb[:-2]
    return verb[:-1]


def _verb(match: re.Match[str], rng: random.Random) -> Made:
    if (head := _subject(match)) is None:
        return None
    inner, base = _lower_head(head, rng), _base_form(match["v"])
    forms = (
        (f"What does {inner} {base}?",) * 4
        + (f"What does {inner} do?",) * 3
        + (
            f"Tell me about {inner}.",
            f"Explain {inner}.",
            f"what does {inner} {base}",
        )
    )
    return rng.choice(forms), head, Kind.VERB


def _modal(match: re.Match[str], rng: random.Random) -> Made:
    if (head := _subject(match)) is None:
        return None
    inner, modal = _lower_head(head, rng), match["v"].replace("cannot", "can")
    forms = (f"What {modal} {inner} do?", f"What about {inner}?", f"Tell me about {inner}.", f"Explain {inner}.")
    return rng.choice(forms), head, Kind.MODAL


def _purpose(match: re.Match[str], rng: random.Random) -> Made:
    aim = match["aim"]
    forms = (f"How do I {aim}?", f"How can I {aim}?", f"How to {aim}?", f"What is needed to {aim}?")
    return rng.choice(forms), aim, Kind.PURPOSE


def _condition(match: re.Match[str], rng: random.Random) -> Made:
    word, clause = match["w"].lower(), match["c"]
    forms = (f"What happens {word} {clause}?",) * 3 + (f"What if {clause}?", f"{match['w']} {clause}, what then?")
    return rng.choice(forms), clause, Kind.CONDITION


_PATTERNS = (
    (re.compile(r"To (?P<aim>[a-z][^,.]{8,80}), .+\.$"), _purpose),
    (re.compile(r"(?P<w>If|When|Whenever|Once|After|Before|Unless) (?P<c>[^,.]{8,80}), .+\.$"), _condition),
    (re.compile(rf"(?P<s>{_SUBJECT}?) (?P<v>is|are|was|were) .+\.$"), _definition),
    (re.compile(rf"(?P<s>{_SUBJECT}?) (?P<v>{'|'.join(sorted(_VERBS))}) .+\.$"), _verb),
    (re.compile(rf"(?P<s>{_SUBJECT}?) (?P<v>can|must|should|may|will|cannot) .+\.$"), _modal),
)
