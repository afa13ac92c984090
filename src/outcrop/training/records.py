"""What a training run is, as frozen records: the whole recipe, so that a run can be repeated from one file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """Some steps on one shard. ``batch_rows`` rows are one step; ``micro_rows`` of them are computed at a time."""

    shard: str
    steps: int
    batch_rows: int
    micro_rows: int


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """Muon for the matrices inside the layers, AdamW for all else; with ``muon`` off, AdamW for everything.

    Both use the same learning rate: Muon's updates are scaled to AdamW's usual size (Liu et al. 2025,
    arXiv 2502.16982).
    """

    peak_lr: float = 3e-3
    muon: bool = True
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.98
    gradient_clip: float = 1.0


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Warm up, hold, then decay in a straight line to ``final_fraction`` of the peak over the last steps."""

    warmup_steps: int = 50
    decay_steps: int = 500
    final_fraction: float = 0.02


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. ``bf16`` computes in bfloat16 with fp32 weights; bit-for-bit resume is promised without it only."""

    phases: tuple[Phase, ...]
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    seed: int = 1
    bf16: bool = True
    compile: bool = False
    log_every: int = 10
    evaluate_every: int = 200
    checkpoint_every: int = 200
    keep_checkpoints: int = 3

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)
