"""The tuning loop: examples in, an adapter or new weights out, with exact resume, early stopping and the best kept.

A run lives in one folder: ``run.json`` (what it is), ``checkpoints/``, ``best/`` and ``metrics.jsonl``. Equal data,
model, settings and seed give equal parameters, and a run that was killed and started again ends with the very bits of
a run that was not (CPU, fp32, same machine and thread count).

Not covered: several processes; bit-for-bit resume on an accelerator or with ``bf16``; noticing that weights of the
base model other than its last norm were exchanged between start and resume.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from outcrop.base.errors import TrainingDataRefused, UserError
from outcrop.base.files import write_atomic
from outcrop.models.adapters import LoraAdapter
from outcrop.models.decoder import Decoder, DenseAttention
from outcrop.training import checkpoint
from outcrop.training.metrics import MetricsFile
from outcrop.training.optimizer import OptimizerSet, learning_rate
from outcrop.training.records import OptimizerConfig, ScheduleConfig
from outcrop.training.shards import WEIGHT_UNIT, Batch, Document
from outcrop.training.tuning.batches import Plan, documents_of, micro_batches
from outcrop.training.tuning.encoding import Encoded
from outcrop.training.tuning.records import TuneConfig

RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step, for whoever watches. Losses in nats per trained token; steps and epochs count from 1."""

    step: int
    steps: int
    epoch: int
    training_loss: float
    validation_loss: float | None
    tokens_per_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class TuneResult:
    """How a run ended. ``finished`` is false where it was asked to stop; it can go on later."""

    finished: bool
    step: int
    steps: int
    stopped_early: bool
    training_loss: float | None
    """Of the last step; ``None`` where none was taken."""
    validation_loss: float | None
    """Of the parameters that were kept; ``None`` without validation examples."""
    base_validation_loss: float | None
    best_step: int | None


def batch_loss(decoder: Decoder, batch: Batch) -> Tensor:
    """The sum over trained tokens of their weighted negative log-likelihood, in nats.

    Only trained positions are projected to the vocabulary.
    """
    several = bool(((batch.documents > 0) & (batch.weights > 0)).any())
    attention = DenseAttention(decoder.config, batch.documents if several else None)
    hidden = decoder.hidden(batch.tokens, batch.positions, attention)
    weights = batch.weights[:, 1:]
    trained = weights > 0
    logits = decoder.logits(hidden[:, :-1][trained])
    losses = functional.cross_entropy(logits.float(), batch.tokens[:, 1:][trained], reduction="none")
    return (losses * weights[trained]).sum()


class Tuner:
    """One run in one folder. ``run`` starts or resumes it; ``adapter`` is what it trains, ``None`` for all weights.

    The decoder is used where it is (its device); for all weights it must be fp32 and is changed in place. Raises
    ``UserError`` where the folder holds a run of other data or settings.
    """

    def __init__(
        self,
        decoder: Decoder,
        config: TuneConfig,
        folder: Path,
        training: Sequence[Encoded],
        validation: Sequence[Encoded] = (),
    ) -> None:
        if not training:
            raise TrainingDataRefused("There is no example to learn from.", "Give a file with at least one record.")
        if empty := [example.line for example in (*training, *validation) if not example.trained_tokens]:
            raise TrainingDataRefused(f"The example of line {empty[0]} has nothing to learn.", "Leave it out.")
        if config.early_stopping is not None and not validation:
            raise UserError("Early stopping needs validation examples.", "Give some, or leave early stopping out.")
        weight = decoder.model.embed_tokens.weight
        if config.lora is None and weight.dtype is not torch.float32:
            raise UserError(f"All weights of a {weight.dtype} model cannot be tuned.", "Load it in fp32.")
        self.decoder = decoder
        self.config = config
        self.plan = Plan(len(training), config.batch_examples, config.epochs, config.seed)
        self.step = 0
        self._device = weight.device
        self._folder = folder
        self._training = training
        self._validation = validation
        decoder.requires_grad_(config.lora is None)
        self.adapter = None if config.lora is None else LoraAdapter(decoder, config.lora, config.seed)
        self._trained: nn.Module = decoder if self.adapter is None else self.adapter
        self._optimizer = OptimizerSet(
            self._trained,
            OptimizerConfig(
                peak_lr=config.peak_lr,
                muon=False,
                weight_decay=config.weight_decay,
                beta1=config.beta1,
                beta2=config.beta2,
            ),
        )
        warmup = min(config.warmup_steps, self.plan.steps - 1)
        self._schedule = ScheduleConfig(warmup, self.plan.steps - warmup, config.final_lr_fraction)
        self._best = math.inf
        self._best_step = -1
        self._worse = 0
        self._ended = False
        self._base: float | None = None
        self._last: float | None = None
        self._claim_folder()

    def run(
        self,
        on_step: Callable[[StepReport], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> TuneResult:
        """Train to the end from the newest checkpoint, or until ``should_stop``, which is asked after each step.

        At the end the parameters are the best ones by validation loss, or the last ones without validation.
        """
        torch.manual_seed(self.config.seed)
        resumed = self._resume()
        metrics = MetricsFile(self._folder / METRICS_FILE, self.step if resumed else -1)
        attached = contextlib.nullcontext() if self.adapter is None else self.adapter.attached(self.decoder)
        with attached:
            if self._validation and self._base is None:
                self._base = self._evaluate()
                metrics.write("evaluate", 0, {"step_number": 0, "epoch_number": 0, "validation_loss": self._base})
            stopped = False
            while not (self._ended or stopped):
                since = time.perf_counter()
                values = self._train_step()
                rate = values["tokens"] / (time.perf_counter() - since)
                self.step += 1
                epoch = self.plan.epoch(self.step - 1) + 1
                place = {"step_number": self.step, "epoch_number": epoch}
                metrics.write("train", self.step, place | values | {"tokens_per_s": rate})
                self._last = values["training_loss"]
                loss = self._look_at_validation(place, metrics)
                self._ended = self._ended or self.step == self.plan.steps
                stopped = should_stop is not None and should_stop()
                if self._ended or stopped or self.step % self.config.checkpoint_every == 0:
                    self._save()
                if on_step is not None:
                    left_s = (self.plan.steps - self.step) * (time.perf_counter() - since)
                    on_step(StepReport(self.step, self.plan.steps, epoch, self._last, loss, rate, left_s))
        if self._ended and (best := checkpoint.published(self._folder / "best")):
            checkpoint.restore(best[-1], self._trained)
        self._trained.eval()
        return self._result()

    def _train_step(self) -> dict[str, float]:
        documents = documents_of(self._training[number] for number in self.plan.chosen(self.step))
        total_weight = _trained_weight(documents)
        total = 0.0
        self._trained.train()
        for batch in micro_batches(documents, self.config.row_tokens, self.config.micro_tokens, self._device):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.bf16):
                loss = batch_loss(self.decoder, batch) / total_weight
            loss.backward()
            total += loss.item()
        tokens = sum(len(document.tokens) for document in documents)
        norm = float(torch.nn.utils.clip_grad_norm_(self._trained.parameters(), self.config.gradient_clip))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise UserError(
                f"Step {self.step + 1} has a loss of {total:g} and a gradient of {norm:g}.",
                "Lower the learning rate, or look for odd examples; the last checkpoint is whole.",
            )
        lr = learning_rate(self.step, self.plan.steps, self.config.peak_lr, self._schedule)
        self._optimizer.step(lr)
        return {"training_loss": total, "lr": lr, "gradient_norm": norm, "tokens": tokens}

    @torch.no_grad()
    def _evaluate(self) -> float:
        """Mean loss over all trained tokens of the validation examples."""
        self._trained.eval()
        documents = documents_of(self._validation)
        total = 0.0
        for batch in micro_batches(documents, self.config.row_tokens, self.config.micro_tokens, self._device):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.bf16):
                total += batch_loss(self.decoder, batch).item()
        return total / _trained_weight(documents)

    def _look_at_validation(self, place: dict[str, int], metrics: MetricsFile) -> float | None:
        """Evaluate where this step calls for it; keep the best, and see whether it is time to stop."""
        every = self.config.evaluate_every or self.plan.steps_per_epoch
        if not self._validation or (self.step % every and self.step != self.plan.steps):
            return None
        loss = self._evaluate()
        metrics.write("evaluate", self.step, place | {"validation_loss": loss})
        stopping = self.config.early_stopping
        self._worse = 0 if loss < self._best - (stopping.threshold if stopping else 0.0) else self._worse + 1
        if loss < self._best:
            self._best, self._best_step = loss, self.step
            checkpoint.save(self._folder / "best", self._trained, self._state([]), keep=1)
        self._ended = stopping is not None and self._worse >= stopping.patience
        return loss

    def _state(self, optimizers: list[dict[str, object]]) -> checkpoint.TrainingState:
        progress = {
            "best": self._best,
            "best_step": self._best_step,
            "worse": self._worse,
            "ended": float(self._ended),
            "base": math.nan if self._base is None else self._base,
            "last": math.nan if self._last is None else self._last,
        }
        return checkpoint.TrainingState(self.step, optimizers, {}, torch.get_rng_state(), progress)

    def _save(self) -> None:
        checkpoint.save(
            self._folder / "checkpoints",
            self._trained,
            self._state(self._optimizer.state()),
            self.config.keep_checkpoints,
        )

    def _resume(self) -> bool:
        if not (found := checkpoint.published(self._folder / "checkpoints")):
            return False
        state = checkpoint.restore(found[-1], self._trained)
        self._optimizer.restore(state.optimizers)
        torch.set_rng_state(state.generator)
        self.step = state.step
        progress = state.progress
        self._best, self._best_step = progress["best"], int(progress["best_step"])
        self._worse, self._ended = int(progress["worse"]), bool(progress["ended"])
        self._base = None if math.isnan(progress["base"]) else progress["base"]
        self._last = None if math.isnan(progress["last"]) else progress["last"]
        return True

    def _claim_folder(self) -> None:
        """Write what this run is, or refuse to go on with a run that is another one."""
        run = {
            "config": asdict(self.config),
            "training": _checksum(self._training),
            "validation": _checksum(self._validation),
            "model": zlib.crc32(self.decoder.model.norm.weight.detach().float().cpu().numpy().tobytes()),
        }
        path = self._folder / RUN_FILE
        self._folder.mkdir(parents=True, exist_ok=True)
        document = json.loads(json.dumps(run))
        if not path.exists():
            write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name in document if document[name] != before.get(name)]:
            raise UserError(
                f"{self._folder} holds a run with another {', '.join(changed)}.", "Use the same again, or a new folder."
            )

    def _result(self) -> TuneResult:
        known = self._best_step >= 0
        return TuneResult(
            finished=self._ended,
            step=self.step,
            steps=self.plan.steps,
            stopped_early=self._ended and self.step < self.plan.steps,
            training_loss=self._last,
            validation_loss=self._best if known else None,
            base_validation_loss=self._base,
            best_step=self._best_step if known else None,
        )


def _trained_weight(documents: Sequence[Document]) -> float:
    """In units of one token; the first token of a document is never predicted."""
    return sum(sum(document.weights[1:]) for document in documents) / WEIGHT_UNIT


def _checksum(encoded: Sequence[Encoded]) -> int:
    """Tells another data set from this one by accident, not by malice."""
    total = 0
    for example in encoded:
        for document in example.documents:
            total = zlib.crc32(repr((list(document.tokens), list(document.weights))).encode(), total)
    return total
