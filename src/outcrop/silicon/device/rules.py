"""The rules a kernel must keep, each with a name to switch it by, and what a kernel that breaks one is told.

Strict is the default: a broken rule raises ``KernelRefused``. ``relaxed=True`` turns every rule that may be relaxed
into a warning; ``relaxed={"name", ...}`` only those named. A rule is declared once, here or beside the code that
checks it, with the reason and the public source it rests on; ``docs/reference/kernel-rules.md`` shows the table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from outcrop.base.errors import UserError, check


class KernelRefused(UserError):
    """A kernel broke a rule of the hardware or of its language; the message names the rule, the tensor and the line."""

    id = "OC-5100"

    def __init__(self, rule: Rule, message: str, remedy: str) -> None:
        self.rule = rule
        super().__init__(message, remedy)


class KernelWarning(UserWarning):
    """A rule that was relaxed is broken, or something legal is probably not meant."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``relaxable`` is false where going on would compute something without meaning."""

    name: str
    summary: str  # one sentence in the indicative: what a legal kernel does
    source: str  # where it is documented, or who found it
    relaxable: bool = True
    advisory: bool = False  # breaking it only warns: the hardware takes it, but hardly as it was meant


RULES: dict[str, Rule] = {}


def rule(name: str, summary: str, source: str, *, relaxable: bool = True, advisory: bool = False) -> Rule:
    """Declare a rule; names are unique."""
    check(name not in RULES, f"rule {name} is declared once")
    made = Rule(name, summary, source, relaxable, advisory)
    RULES[name] = made
    return made


def relaxed_names(relaxed: bool | Collection[str]) -> frozenset[str]:
    """The names that a ``relaxed`` argument switches to warnings; an unknown or fixed name is a ``UserError``."""
    if isinstance(relaxed, bool):
        return frozenset(name for name, each in RULES.items() if each.relaxable) if relaxed else frozenset()
    names = (relaxed,) if isinstance(relaxed, str) else tuple(relaxed)
    for name in names:
        known = RULES.get(name)
        if known is None:
            raise UserError(f"There is no rule {name!r} to relax.", f"The rules are: {', '.join(sorted(RULES))}.")
        if not known.relaxable:
            raise UserError(f"The rule {name} cannot be relaxed: {known.summary}")
    return frozenset(relaxed)


NKI_ISA = "AWS Neuron, nki.isa API reference (NKI 0.6.0)"
NKI_LANGUAGE = "AWS Neuron, nki.language API reference (NKI 0.6.0)"
NKI_APS = "AWS Neuron, NKI Access Patterns"
ARCHITECTURE = "AWS Neuron, Trainium architecture guides for NKI"

OPERAND_SHAPE = rule("operand-shape", "Operands have the shapes that the instruction takes.", NKI_ISA, relaxable=False)
OPERAND_DTYPE = rule("operand-dtype", "Operands have data types that the instruction takes.", NKI_ISA)
OPERAND_MEMORY = rule("operand-memory", "Operands lie in memories that the instruction's engine reaches.", NKI_ISA)
ENGINE = rule("engine", "An instruction runs on an engine that can execute it.", NKI_ISA)
GENERATION = rule("generation", "An instruction or option exists on the target's generation.", NKI_ISA)
PARAMETER = rule("parameter", "Parameters have values that the instruction takes.", NKI_ISA, relaxable=False)
PARTITION_COUNT = rule(
    "partition-count", "An on-chip tensor has at most as many partitions as the memory.", ARCHITECTURE, relaxable=False
)
START_PARTITION = rule(
    "start-partition",
    "An operand of more than 64 partitions starts at partition 0, of 33 to 64 at 0 or 64, of up to 32 at a quadrant.",
    ARCHITECTURE,
)
FREE_DIMENSIONS = rule("free-dimensions", "An engine's access pattern has at most four free dimensions.", NKI_APS)
PARTITION_STEP = rule(
    "partition-step", "On-chip access patterns go through the partitions one by one.", NKI_APS, relaxable=False
)
OUT_OF_BOUNDS = rule("out-of-bounds", "Every access lies inside its tensor.", NKI_APS, relaxable=False)
UNINITIALIZED_READ = rule(
    "uninitialized-read",
    "Nothing seen (in shared HBM, a register, an address, a matrix product) comes from bytes that nothing wrote.",
    "AWS Neuron, NKI CPU Simulator: sentinel values",
)
ADDRESS_OVERLAP = rule(
    "address-overlap",
    "Tensors placed at explicit addresses do not overlap while both are still needed.",
    "AWS Neuron, NKI direct allocation guide",
)
ADDRESS_RANGE = rule(
    "address-range", "An explicit address lies inside its memory.", "AWS Neuron, NKI direct allocation guide",
    relaxable=False,
)  # fmt: skip
UNWRITTEN_OUTPUT = rule("unwritten-output", "A kernel writes every byte of what it returns.", NKI_LANGUAGE)
