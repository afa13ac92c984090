"""Documents of one corpus folder, drawn so that large packages do not drown small ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from outcrop.training.grounded.questions import sentences

Paragraph = list[str]
"""The sentences of one paragraph."""


@dataclass(slots=True)
class Text:
    """One document: paragraphs as plain lines."""

    package: str
    paragraphs: list[str]

    def draw(self, rng: random.Random) -> Paragraph:
        return sentences(rng.choice(self.paragraphs))


class Corpus:
    """Texts of several packages; a package is drawn with a chance proportional to the root of its size."""

    def __init__(self, folder: Path, packages: Sequence[str]) -> None:
        self.texts: dict[str, list[Text]] = {}
        for package in packages:
            body = (folder / f"{package}.txt").read_text("utf-8")
            found = [Text(package, part.strip().split("\n")) for part in body.split("\n\n") if part.strip()]
            if found:
                self.texts[package] = found

    @cached_property
    def _packages(self) -> tuple[list[str], list[float]]:
        names = sorted(self.texts)
        sizes = [sum(len(p) for t in self.texts[name] for p in t.paragraphs) for name in names]
        return names, list(accumulate(size**0.5 for size in sizes))

    @cached_property
    def _documents(self) -> dict[str, list[int]]:
        return {name: list(accumulate(len(t.paragraphs) for t in texts)) for name, texts in self.texts.items()}

    def draw(self, rng: random.Random) -> Text:
        """A document; within a package every paragraph is equally likely to be in it."""
        names, weights = self._packages
        name = rng.choices(names, cum_weights=weights)[0]
        return rng.choices(self.texts[name], cum_weights=self._documents[name])[0]
