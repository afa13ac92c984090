"""The rule that any trained model has to be held against: quote the sentence that shares most with the question.

Words are weighted by how rare they are among the corpus's sentences (inverse document frequency, as in BM25 without
length and repetition terms, which matter little for single sentences). The rule refuses where the best sentence holds
too small a share of the question's weight; that threshold is fitted on training packages.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from outcrop.training.grounded.corpus import Corpus
from outcrop.training.grounded.examples import Example
from outcrop.training.grounded.prompts import REFUSAL, answer
from outcrop.training.grounded.questions import sentences


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9_]+", text.lower()))


_QUESTION_WORDS = words(
    "what is are was were does do did how can must should may will i to the a an tell me about define explain you know "
    "quote sentence passages say which mentions said needed happens"
)


class OverlapRule:
    """Chooses a sentence, or refuses."""

    def __init__(self, rarity: dict[str, float], unknown: float) -> None:
        self._rarity = rarity
        self._unknown = unknown
        self.threshold = 0.5

    @classmethod
    def of(cls, corpus: Corpus, sample: int, rng: random.Random) -> OverlapRule:
        """Word rarities from ``sample`` random paragraphs."""
        counts: Counter[str] = Counter()
        total = 0
        for _ in range(sample):
            for sentence in corpus.draw(rng).draw(rng):
                counts.update(words(sentence))
                total += 1
        return cls({word: math.log(1 + total / count) for word, count in counts.items()}, math.log(1 + total))

    def best(self, question: str, passages: Sequence[str]) -> tuple[float, int, str]:
        """The share of the question's weight that the best sentence holds, its passage's index, the sentence."""
        asked = words(question) - _QUESTION_WORDS or words(question)
        weight = sum(self._weight(word) for word in asked)
        scored = [
            (sum(self._weight(word) for word in asked & words(sentence)) / weight, -index, sentence)
            for index, passage in enumerate(passages)
            for sentence in sentences(passage)
        ]
        share, index, sentence = max(scored, key=lambda s: (s[0], s[1]))
        return share, -index, sentence

    def reply(self, example: Example) -> str:
        share, index, sentence = self.best(example.question, example.passages)
        return answer(sentence, example.labels[index]) if share >= self.threshold else REFUSAL

    def fit(self, examples: Iterable[Example]) -> None:
        """Take the threshold with which most of these examples get exactly the right reply."""
        scored = [(self.best(e.question, e.passages), e) for e in examples if e.passages]

        def right(threshold: float) -> int:
            return sum(
                (answer(s, e.labels[i]) if share >= threshold else REFUSAL) == e.messages[_first_reply(e)]["content"]
                for (share, i, s), e in scored
            )

        self.threshold = max((step / 40 for step in range(1, 41)), key=right)

    def _weight(self, word: str) -> float:
        return self._rarity.get(word, self._unknown)


def _first_reply(example: Example) -> int:
    return next(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
