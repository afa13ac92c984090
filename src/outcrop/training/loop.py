"""The training loop: batches in, weights out, with exact resume.

Equal recipe, data and seed give equal weights, and a run that was killed and started again ends with the very bits of
a run that was not (CPU, fp32, same machine and thread count; a test kills one). bf16 and ``compile`` keep the data
order but promise no bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Never

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from outcrop.models.decoder import Decoder, DenseAttention
from outcrop.training import checkpoint
from outcrop.training.metrics import MetricsFile
from outcrop.training.optimizer import OptimizerSet, learning_rate
from outcrop.training.records import Phase, TrainConfig
from outcrop.training.shards import Batch, Cursor, Shard

Evaluate = Callable[[Decoder], Mapping[str, float]]


def token_losses(decoder: Decoder, batch: Batch) -> Tensor:
    """Weighted negative log-likelihoods ``[batch, time - 1]`` in nats."""
    attention = DenseAttention(decoder.config, batch.documents)
    logits = decoder(batch.tokens, batch.positions, attention)[:, :-1]
    losses = functional.cross_entropy(logits.float().flatten(0, 1), batch.tokens[:, 1:].flatten(), reduction="none")
    return losses.view(batch.tokens.shape[0], -1) * batch.weights[:, 1:]


class _Report:
    """Writes metrics, moves the progress bar and measures tokens per second between two lines of the log."""

    def __init__(self, metrics: MetricsFile, bar: tqdm[Never], config: TrainConfig) -> None:
        self._metrics = metrics
        self._bar = bar
        self._every = config.log_every
        self._start_clock()

    def step(self, step: int, values: dict[str, float], tokens: int) -> None:
        self._tokens += tokens
        self._bar.update()
        if step % self._every == 0:
            rate = self._tokens / (time.perf_counter() - self._since)
            self._metrics.write("train", step, values | {"tokens_per_s": rate})
            self._bar.set_postfix(loss=f"{values['loss']:.3f}", tokens_per_s=f"{rate:.0f}")
            self._start_clock()

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        self._metrics.write("evaluate", step, values)
        self._start_clock()

    def _start_clock(self) -> None:
        self._since, self._tokens = time.perf_counter(), 0


class Trainer:
    """One run in one folder: ``checkpoints/`` and ``metrics.jsonl``. ``run`` starts or resumes it."""

    def __init__(self, decoder: Decoder, config: TrainConfig, folder: Path, shards: Path) -> None:
        self.decoder = decoder
        self.config = config
        self._checkpoints = folder / "checkpoints"
        self._metrics_path = folder / "metrics.jsonl"
        self._shards = shards
        self._optimizer = OptimizerSet(decoder, config.optimizer)
        self._losses = torch.compile(token_losses) if config.compile else token_losses
        self.step = 0

    def run(self, evaluate: Evaluate | None = None) -> None:
        """Train to the last step; a folder that holds checkpoints is resumed from its newest."""
        torch.manual_seed(self.config.seed)
        cursor_state = self._resume()
        metrics = MetricsFile(self._metrics_path, self.step)
        bar: tqdm[Never] = tqdm(total=self.config.steps, initial=self.step, unit="step")
        with bar:
            report = _Report(metrics, bar, self.config)
            end = 0
            for index, phase in enumerate(self.config.phases):
                end += phase.steps
                if self.step >= end:
                    continue
                shard = Shard(self._shards / phase.shard)
                cursor = Cursor(shard.rows, phase.batch_rows, seed=self.config.seed * 1000 + index)
                if cursor_state is not None:
                    cursor.restore(cursor_state)
                    cursor_state = None
                while self.step < end:
                    values = self._train_step(shard, cursor, phase) | {"phase": index}
                    self.step += 1
                    report.step(self.step, values, phase.batch_rows * shard.row_tokens)
                    self._look_around(report, evaluate, None if self.step == end else cursor)

    def _look_around(self, report: _Report, evaluate: Evaluate | None, cursor: Cursor | None) -> None:
        """Evaluate and save where this step calls for it. ``cursor`` is ``None`` at the end of a phase."""
        last = self.step == self.config.steps
        if evaluate is not None and (last or self.step % self.config.evaluate_every == 0):
            report.evaluation(self.step, evaluate(self.decoder))
        if cursor is None or self.step % self.config.checkpoint_every == 0:
            self._save(cursor)

    def _train_step(self, shard: Shard, cursor: Cursor, phase: Phase) -> dict[str, float]:
        rows = cursor.next_rows()
        parts = [shard.batch(rows[i : i + phase.micro_rows]) for i in range(0, len(rows), phase.micro_rows)]
        total_weight = sum(float(part.weights[:, 1:].sum()) for part in parts)
        total = 0.0
        for part in parts:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
                loss = self._losses(self.decoder, part).sum() / total_weight
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), self.config.optimizer.gradient_clip)
        lr = learning_rate(self.step, self.config.steps, self.config.optimizer.peak_lr, self.config.schedule)
        self._optimizer.step(lr)
        return {"loss": total, "lr": lr}

    def _save(self, cursor: Cursor | None) -> None:
        """``cursor`` is ``None`` at the end of a phase: the next one begins with a fresh cursor."""
        state = checkpoint.TrainingState(
            step=self.step,
            optimizers=self._optimizer.state(),
            cursor={} if cursor is None else cursor.state(),
            generator=torch.get_rng_state(),
        )
        checkpoint.save(self._checkpoints, self.decoder, state, self.config.keep_checkpoints)

    def _resume(self) -> dict[str, int] | None:
        if not (found := checkpoint.published(self._checkpoints)):
            return None
        state = checkpoint.restore(found[-1], self.decoder)
        self._optimizer.restore(state.optimizers)
        torch.set_rng_state(state.generator)
        self.step = state.step
        return state.cursor or None
