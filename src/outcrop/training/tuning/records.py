"""What a tuning run is, as frozen records: with the data and the model, all that decides its result."""

from __future__ import annotations

from dataclasses import dataclass, field

from outcrop.base.errors import UserError
from outcrop.models.adapters import LoraConfig


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """End a run whose validation loss no longer falls by ``threshold`` (nats) for ``patience`` evaluations in a row.

    The defaults are those that Amazon Bedrock documents.
    """

    threshold: float = 0.001
    patience: int = 2


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """One run. ``lora`` ``None`` trains all weights.

    A step learns from ``batch_examples`` examples, packed into rows of at most ``row_tokens``; at most
    ``micro_tokens`` of them are computed at a time, which changes memory and not the result (but for rounding). Every
    example is seen once in an epoch. The learning rate rises over ``warmup_steps`` and falls in a straight line to
    ``final_lr_fraction`` of its peak. ``bf16`` computes in bfloat16 with fp32 weights; bit-for-bit resume is promised
    without it only.
    """

    lora: LoraConfig | None = field(default_factory=LoraConfig)
    epochs: int = 2
    batch_examples: int = 8
    row_tokens: int = 1024
    micro_tokens: int = 4096
    peak_lr: float = 2e-4
    warmup_steps: int = 0
    final_lr_fraction: float = 0.0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    gradient_clip: float = 1.0
    seed: int = 1
    bf16: bool = False
    evaluate_every: int | None = None
    """Steps between evaluations on validation examples; ``None``: at the end of each epoch."""
    early_stopping: EarlyStopping | None = None
    checkpoint_every: int = 50
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        at_least_one = {
            "epochs": self.epochs,
            "batch_examples": self.batch_examples,
            "micro_tokens": self.micro_tokens,
            "checkpoint_every": self.checkpoint_every,
            "keep_checkpoints": self.keep_checkpoints,
            "evaluate_every": 1 if self.evaluate_every is None else self.evaluate_every,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise UserError(f"{name} is {value}.", "It is at least 1.")
        if not 0.0 < self.peak_lr < 1.0:
            raise UserError(f"peak_lr is {self.peak_lr:g}.", "It lies between 0 and 1.")
        if not (0.0 <= self.final_lr_fraction <= 1.0 and self.gradient_clip > 0.0 and self.weight_decay >= 0.0):
            raise UserError("final_lr_fraction, gradient_clip or weight_decay is out of its range.")
        if self.warmup_steps < 0:
            raise UserError(f"warmup_steps is {self.warmup_steps}.", "It is at least 0.")
        if self.row_tokens < 2:
            raise UserError(f"row_tokens is {self.row_tokens}.", "A row has at least 2 tokens.")
