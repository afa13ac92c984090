"""The step-wise metrics of a run as the CSV files, with the names and columns, that Amazon Bedrock documents.

Not covered: where a job puts them; the manifest of a job.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from outcrop.base.files import write_atomic

TRAINING_METRICS = Path("training_artifacts/step_wise_training_metrics.csv")
VALIDATION_METRICS = Path("validation_artifacts/post_fine_tuning_validation/validation/validation_metrics.csv")

_COLUMNS = {
    "train": (TRAINING_METRICS, ("step_number", "epoch_number", "training_loss")),
    "evaluate": (VALIDATION_METRICS, ("step_number", "epoch_number", "validation_loss")),
}


def write_step_metrics(metrics: Path, folder: Path) -> list[Path]:
    """Write what ``metrics`` (a run's ``metrics.jsonl``) says to ``folder``; the files made, none without rows."""
    events = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    made = []
    for kind, (path, columns) in _COLUMNS.items():
        rows = [[event[column] for column in columns] for event in events if event["event"] == kind]
        if not rows:
            continue
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, text.getvalue().encode())
        made.append(target)
    return made
