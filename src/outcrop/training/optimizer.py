"""Optimisers and the learning-rate schedule of a run."""

from __future__ import annotations

import torch
from torch import nn

from outcrop.training.records import OptimizerConfig, ScheduleConfig


class OptimizerSet:
    """The optimisers of a run behind one door: Muon for layer matrices, AdamW for embeddings and norms."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            inside = ".layers." in name and parameter.ndim == 2
            (matrices if inside and config.muon else rest).append(parameter)
        decayed = [p for p in rest if p.ndim == 2]
        plain = [p for p in rest if p.ndim != 2]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
                lr=config.peak_lr,
                betas=(config.beta1, config.beta2),
                fused=True,
            )
        ]
        if matrices:
            self._optimizers.append(
                torch.optim.Muon(
                    matrices,
                    lr=config.peak_lr,
                    weight_decay=config.weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )

    def step(self, lr: float) -> None:
        """Update every parameter with learning rate ``lr`` and drop the gradients."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, object]]:
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def restore(self, states: list[dict[str, object]]) -> None:
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def learning_rate(step: int, steps: int, peak: float, schedule: ScheduleConfig) -> float:
    """Warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395); ``step`` counts from 0."""
    warm = min(1.0, (step + 1) / max(1, schedule.warmup_steps))
    left = (steps - step) / max(1, schedule.decay_steps)
    decay = schedule.final_fraction + (1 - schedule.final_fraction) * min(1.0, left)
    return peak * min(warm, decay)
