"""Tuning: a model taught by examples, all of its weights or a LoRA adapter.

``read_examples`` and ``Encoder`` turn a file into tokens and say which of them are trained; ``Tuner`` trains, resumes
exactly, stops early and keeps the best; ``estimate`` tells beforehand what a run takes.

Not covered: continued pre-training, preferences, distillation, graders, several processes, and jobs by the API.
"""

from __future__ import annotations

from outcrop.training.tuning.artifacts import write_step_metrics
from outcrop.training.tuning.encoding import Encoded, Encoder, LongDocuments
from outcrop.training.tuning.estimate import Estimate, estimate
from outcrop.training.tuning.examples import DataLimits, Example, Examples, duplicates, overlap, read_examples
from outcrop.training.tuning.inspection import Inspection, inspect
from outcrop.training.tuning.loop import StepReport, Tuner, TuneResult
from outcrop.training.tuning.records import EarlyStopping, TuneConfig

__all__ = [
    "DataLimits",
    "EarlyStopping",
    "Encoded",
    "Encoder",
    "Estimate",
    "Example",
    "Examples",
    "Inspection",
    "LongDocuments",
    "StepReport",
    "TuneConfig",
    "TuneResult",
    "Tuner",
    "duplicates",
    "estimate",
    "inspect",
    "overlap",
    "read_examples",
    "write_step_metrics",
]
