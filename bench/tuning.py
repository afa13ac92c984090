"""Tuning the default model, here and with transformers and PEFT: tokens per second and peak memory, side by side.

    python bench/tuning.py [--threads 2]

The same conversations, batches, learning rates and LoRA settings on both sides, fp32, on the processor. The other
side is a plain loop over transformers and peft with each step's examples padded to the longest, as TRL's default
collator does; where TRL is installed its SFTTrainer runs too. Tokens are those of the examples, padding not counted.
Each side runs in a process of its own, sides alternating; memory is the peak resident size of the process less that
right after the model was loaded. Losses of the first step must agree, else it fails.

Not covered: accelerators, bf16, more than one process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch

from outcrop.models.adapters import LoraConfig
from outcrop.models.registry import BUNDLED, ModelRegistry
from outcrop.training.optimizer import learning_rate
from outcrop.training.records import ScheduleConfig
from outcrop.training.tuning import Encoded, Encoder, StepReport, TuneConfig, Tuner
from outcrop.training.tuning.batches import Plan
from outcrop.training.tuning.examples import Example, Message

MODEL_ID = "outcrop.pebble-v1:0"
SIDES = ("outcrop", "transformers+peft", *(["trl"] if find_spec("trl") else []))
WORDS = ("the", "river", "of", "stone", "carries", "sand", "and", "light", "to", "a", "quiet", "sea", "old", "boats")


def conversations(count: int) -> list[Example]:
    """Questions of 10 to 150 words and answers of 5 to 60, the same ones for everybody."""
    rng = random.Random(7)

    def words(low: int, high: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))

    return [Example(i, (Message("user", words(10, 150)), Message("assistant", words(5, 60)))) for i in range(count)]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(config: TuneConfig, data: list[Encoded], folder: Path) -> tuple[list[float], list[float], int]:
    loaded = ModelRegistry(folder / "models").load(MODEL_ID, torch.float32)
    before = peak_bytes()
    times: list[float] = [time.perf_counter()]
    losses: list[float] = []
    tuner = Tuner(loaded.decoder, config, folder / "run", data)
    times[0] = time.perf_counter()

    def on_step(report: StepReport) -> None:
        times.append(time.perf_counter())
        losses.append(report.training_loss)

    tuner.run(on_step)
    return losses, times, peak_bytes() - before


def reference(config: TuneConfig, data: list[Encoded], folder: Path) -> tuple[list[float], list[float], int]:
    import peft  # noqa: PLC0415 - heavy, and only this side's
    import transformers  # noqa: PLC0415

    directory = next(path.parent for path in BUNDLED.glob("*/config.json"))
    model: torch.nn.Module = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    before = peak_bytes()
    if (lora := config.lora) is not None:
        settings = peft.LoraConfig(
            r=lora.rank, lora_alpha=int(lora.alpha), target_modules=list(lora.targets), task_type="CAUSAL_LM"
        )
        model = peft.get_peft_model(cast(transformers.PreTrainedModel, model), settings)
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.peak_lr, betas=(config.beta1, config.beta2), weight_decay=0.0, fused=True
    )
    plan = Plan(len(data), config.batch_examples, config.epochs, config.seed)
    schedule = ScheduleConfig(0, plan.steps, config.final_lr_fraction)
    losses, times = [], [time.perf_counter()]
    for step in range(plan.steps):
        chosen = [data[number].documents[0] for number in plan.chosen(step)]
        width = max(len(document.tokens) for document in chosen)
        tokens = torch.zeros(len(chosen), width, dtype=torch.long)
        labels = torch.full_like(tokens, -100)
        seen = torch.zeros_like(tokens)
        for row, document in enumerate(chosen):
            size = len(document.tokens)
            tokens[row, :size] = torch.tensor(list(document.tokens))
            trained = torch.tensor(list(document.weights)) > 0
            labels[row, :size] = torch.where(trained, tokens[row, :size], -100)
            seen[row, :size] = 1
        loss = model(input_ids=tokens, attention_mask=seen, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan.steps, config.peak_lr, schedule)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        times.append(time.perf_counter())
    return losses, times, peak_bytes() - before


def trl_side(config: TuneConfig, data: list[Encoded], folder: Path) -> tuple[list[float], list[float], int]:
    """TRL's trainer on the same batches, padded by its own collator. The log holds four digits of a loss or more."""
    import peft  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    datasets, pyarrow, trl = (import_module(name) for name in ("datasets", "pyarrow", "trl"))

    directory = next(path.parent for path in BUNDLED.glob("*/config.json"))
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    before = peak_bytes()
    plan = Plan(len(data), config.batch_examples, config.epochs, config.seed)
    documents = [data[number].documents[0] for step in range(plan.steps) for number in plan.chosen(step)]
    labels = [
        [token if weight else -100 for token, weight in zip(document.tokens, document.weights, strict=True)]
        for document in documents
    ]
    table = pyarrow.table({"input_ids": [list(document.tokens) for document in documents], "labels": labels})
    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *_: object, **__: object) -> None:
            times.append(time.perf_counter())

    lora = config.lora
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=config.batch_examples,
            num_train_epochs=1,
            learning_rate=config.peak_lr,
            lr_scheduler_type="linear",
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
        ),
        peft_config=None
        if lora is None
        else peft.LoraConfig(
            r=lora.rank, lora_alpha=int(lora.alpha), target_modules=list(lora.targets), task_type="CAUSAL_LM"
        ),
        train_dataset=datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint="bench"),
        processing_class=transformers.AutoTokenizer.from_pretrained(directory),
        callbacks=[Clock()],
    )
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return losses, times, peak_bytes() - before


RUNS = {"outcrop": ours, "transformers+peft": reference, "trl": trl_side}


def run_side(side: str, full: bool, threads: int, examples: int) -> dict[str, float]:
    """One run in this process; the first step is left out of the time."""
    torch.set_num_threads(threads)
    config = TuneConfig(None if full else LoraConfig(), epochs=1, batch_examples=8, row_tokens=512)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        loaded = ModelRegistry(folder / "models").load(MODEL_ID)
        encoded, problems = Encoder(loaded.tokenizer, loaded.template, 512).encode_all(conversations(examples))
        assert not problems
        del loaded
        losses, times, memory = RUNS[side](config, encoded, folder)
    first = Plan(len(encoded), config.batch_examples, 1, config.seed).chosen(0)
    tokens = sum(example.tokens for example in encoded) - sum(encoded[number].tokens for number in first)
    return {
        "tokens_per_s": tokens / (times[-1] - times[1]),
        "peak_mib": memory / 2**20,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(run_side(args.side, args.full, args.threads, args.examples)))
        return 0
    sound = True
    for full in (False, True):
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(args.repeats):
            for side in SIDES:
                command = [sys.executable, __file__, "--side", side, *(["--full"] if full else [])]
                command += ["--threads", str(args.threads), "--examples", str(args.examples)]
                environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
                out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
                runs[side].append(json.loads(out.splitlines()[-1]))
        print(f"{'all weights' if full else 'LoRA of rank 16'}, {args.threads} threads, median of {args.repeats}:")
        for side, made in runs.items():
            rate, memory = (statistics.median(run[key] for run in made) for key in ("tokens_per_s", "peak_mib"))
            print(f"  {side:<20} {rate:8.0f} tokens/s  {memory:8.0f} MiB above the loaded model")
        first = [runs[side][0]["first_loss"] for side in SIDES]
        sound = sound and max(first) - min(first) < 1e-3
    print(f"load of the machine over the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
