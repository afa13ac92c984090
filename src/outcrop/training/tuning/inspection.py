"""All that is known of training data before a run, in one record: what is refused, repeated, given away and learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from outcrop.training.tuning.encoding import Encoded, Encoder
from outcrop.training.tuning.examples import Examples, Overlap, Problem, duplicates, overlap


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one model would make of a file of training examples and, where given, one of validation examples.

    ``problem_count`` and ``validation_problem_count`` count every problem; the lists beside them hold the first ones,
    by line. Only ``encoded`` and ``validation`` would be used.
    """

    encoded: tuple[Encoded, ...]
    problems: tuple[Problem, ...]
    problem_count: int
    duplicates: tuple[tuple[int, int], ...]
    validation: tuple[Encoded, ...] = ()
    validation_problems: tuple[Problem, ...] = ()
    validation_problem_count: int = 0
    overlap: Overlap = field(default_factory=Overlap)

    @property
    def sound(self) -> bool:
        """Whether every line can be learned from. Repeated examples and overlap are told, not refused."""
        return self.problem_count == self.validation_problem_count == 0

    @property
    def tokens(self) -> int:
        return sum(example.tokens for example in self.encoded)

    @property
    def trained_tokens(self) -> int:
        return sum(example.trained_tokens for example in self.encoded)

    @property
    def cut_tokens(self) -> int:
        return sum(example.cut_tokens for example in self.encoded)


def inspect(encoder: Encoder, training: Examples, validation: Examples | None = None) -> Inspection:
    """Encode and compare what was read. Raises nothing for bad lines: they are the answer."""
    encoded, problems, count = _encode(encoder, training)
    repeated = tuple(duplicates(training.examples))
    if validation is None:
        return Inspection(encoded, problems, count, repeated)
    held_out, others, others_count = _encode(encoder, validation)
    shared = overlap(training.examples, validation.examples)
    return Inspection(encoded, problems, count, repeated, held_out, others, others_count, shared)


def _encode(encoder: Encoder, found: Examples) -> tuple[tuple[Encoded, ...], tuple[Problem, ...], int]:
    encoded, refused = encoder.encode_all(found.examples)
    problems: Sequence[Problem] = sorted([*found.problems, *refused], key=lambda problem: problem.line)
    return tuple(encoded), tuple(problems), found.problem_count + len(refused)
