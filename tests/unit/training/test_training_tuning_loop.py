"""Tuning learns, packs without a trace, resumes to the bit, stops early and keeps the best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from outcrop.base.errors import TrainingDataRefused, UserError
from outcrop.models.adapters import LoraConfig
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder
from outcrop.training import checkpoint
from outcrop.training.shards import Document
from outcrop.training.tuning.artifacts import TRAINING_METRICS, VALIDATION_METRICS, write_step_metrics
from outcrop.training.tuning.batches import Plan, documents_of, micro_batches
from outcrop.training.tuning.encoding import Encoded
from outcrop.training.tuning.estimate import estimate
from outcrop.training.tuning.loop import METRICS_FILE, Tuner, TuneResult, batch_loss
from outcrop.training.tuning.records import EarlyStopping, TuneConfig

VOCAB = 64
CPU = torch.device("cpu")


def decoder() -> Decoder:
    torch.manual_seed(5)
    return Decoder(
        DecoderConfig(
            architecture="LlamaForCausalLM",
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=64,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            max_positions=128,
            layers=(LayerConfig(),) * 2,
        )
    ).eval()


def examples(count: int, seed: int = 0) -> list[Encoded]:
    """A start and a length; the reply counts up from the start. Lengths differ."""
    made = []
    generator = torch.Generator().manual_seed(seed)
    for line in range(1, count + 1):
        start, length = (int(torch.randint(2, high, (), generator=generator)) for high in (40, 12))
        tokens = [1, start, *range(start + 1, start + 1 + length), 0]
        made.append(Encoded(line, (Document(tokens, [0, 0] + [100] * (length + 1)),)))
    return made


def config(**changes: Any) -> TuneConfig:
    values: dict[str, Any] = {
        "lora": LoraConfig(rank=4, alpha=8.0, dropout=0.1),
        "epochs": 3,
        "batch_examples": 4,
        "row_tokens": 32,
        "micro_tokens": 64,
        "peak_lr": 1e-2,
        "warmup_steps": 2,
        "checkpoint_every": 4,
    }
    return TuneConfig(**(values | changes))


def tune(folder: Path, settings: TuneConfig, count: int = 18, **more: Any) -> tuple[Tuner, TuneResult]:
    tuner = Tuner(decoder(), settings, folder, examples(count), more.pop("validation", ()))
    return tuner, tuner.run(**more)


def parameters(tuner: Tuner) -> list[torch.Tensor]:
    return [p.detach().clone() for p in (tuner.adapter or tuner.decoder).parameters()]


def equal(one: Tuner, two: Tuner) -> bool:
    return all(torch.equal(a, b) for a, b in zip(parameters(one), parameters(two), strict=True))


def events(folder: Path, kind: str) -> list[dict[str, float]]:
    lines = (folder / METRICS_FILE).read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=8, alpha=16.0)])
def test_loss_falls_and_with_an_adapter_the_base_stays_as_it_was(tmp_path: Path, lora: LoraConfig | None):
    before = [p.detach().clone() for p in decoder().parameters()]
    tuner, result = tune(tmp_path, config(lora=lora, epochs=12), validation=examples(6, seed=9))
    losses = [event["training_loss"] for event in events(tmp_path, "train")]
    assert losses[-1] < losses[0] * 0.7
    assert result.finished
    assert result.validation_loss < result.base_validation_loss
    same = all(torch.equal(a, b) for a, b in zip(before, tuner.decoder.parameters(), strict=True))
    assert same is (lora is not None)


@pytest.fixture(scope="module", params=[None, LoraConfig(rank=4, alpha=8.0, dropout=0.2)], ids=["full", "lora"])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Settings, folder, tuner and result of a run of 10 steps that nobody stopped."""
    settings = config(lora=request.param, epochs=2, checkpoint_every=100, evaluate_every=3)
    folder = tmp_path_factory.mktemp("undisturbed")
    return settings, folder, *tune(folder, settings, validation=examples(5, seed=9))


@pytest.mark.parametrize("stop_at", range(1, 10))
def test_a_run_stopped_at_any_step_goes_on_to_the_very_same_bits(tmp_path: Path, undisturbed: Any, stop_at: int):
    settings, folder, whole, expected = undisturbed
    validation = examples(5, seed=9)
    asked = iter(range(1, 100))
    _, first = tune(tmp_path, settings, validation=validation, should_stop=lambda: next(asked) == stop_at)
    assert (first.finished, first.step) == (False, stop_at)
    torch.manual_seed(999)
    again, result = tune(tmp_path, settings, validation=validation)
    assert equal(whole, again)
    assert result == expected
    for kind, column in (("train", "training_loss"), ("evaluate", "validation_loss")):
        one, two = ([event[column] for event in events(run, kind)] for run in (folder, tmp_path))
        assert one == two


def test_a_run_whose_newest_steps_were_lost_does_them_again(tmp_path: Path):
    settings = config()
    whole, _ = tune(tmp_path / "whole", settings)
    folder = tmp_path / "cut"

    class Killed(BaseException): ...

    def die(report: Any) -> None:
        if report.step == 7:
            raise Killed

    with pytest.raises(Killed):
        tune(folder, settings, on_step=die)
    assert checkpoint.published(folder / "checkpoints")[-1].name == "step-00000004"
    again, _ = tune(folder, settings)
    assert equal(whole, again)
    assert [event["step_number"] for event in events(folder, "train")] == list(range(1, 16))


def test_another_seed_gives_other_parameters(tmp_path: Path):
    one, _ = tune(tmp_path / "one", config())
    two, _ = tune(tmp_path / "two", config(seed=2))
    assert not equal(one, two)


@pytest.mark.parametrize("change", ["config", "training"])
def test_a_folder_of_another_run_is_refused(tmp_path: Path, change: str):
    tune(tmp_path, config())
    settings = replace(config(), peak_lr=1e-3) if change == "config" else config()
    with pytest.raises(UserError, match=change):
        tune(tmp_path, settings, count=17 if change == "training" else 18)
    tune(tmp_path, config())


def test_packing_and_micro_batches_change_nothing_but_rounding():
    model = decoder()
    documents = documents_of(examples(12))
    totals, gradients = [], []
    for row_tokens, micro_tokens in ((16, 1), (16, 64), (64, 64), (128, 4096)):
        model.zero_grad()
        loss = sum(batch_loss(model, batch) for batch in micro_batches(documents, row_tokens, micro_tokens, CPU))
        loss.backward()
        totals.append(loss.detach())
        gradients.append(model.model.embed_tokens.weight.grad.clone())
    for total, gradient in zip(totals, gradients, strict=True):
        torch.testing.assert_close(total, totals[0], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-4)


def test_only_trained_tokens_have_a_gradient():
    model = decoder()
    document = Document([5, 6, 7, 8, 9], [0, 0, 0, 100, 0])
    (batch,) = micro_batches([document], 16, 64, CPU)
    batch_loss(model, batch).backward()
    touched = model.model.embed_tokens.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [5, 6, 7]  # what the trained token is predicted from; itself and what follows teach nothing


def test_the_first_token_of_a_packed_document_is_not_predicted_from_the_one_before_it():
    one, two = Document([5, 6], [100, 100]), Document([7, 8], [100, 100])
    (batch,) = micro_batches([one, two], 16, 64, CPU)
    assert batch.tokens.tolist() == [[5, 6, 7, 8]]
    assert batch.weights.tolist() == [[0, 1, 0, 1]]
    assert batch.positions.tolist() == [[0, 1, 0, 1]]


def test_every_example_is_seen_once_in_an_epoch_and_order_changes():
    plan = Plan(examples=10, batch_examples=4, epochs=2, seed=1)
    assert (plan.steps_per_epoch, plan.steps) == (3, 6)
    epochs = [[n for step in range(e * 3, e * 3 + 3) for n in plan.chosen(step)] for e in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


def test_early_stopping_ends_the_run_and_the_best_parameters_are_kept(tmp_path: Path):
    settings = config(epochs=60, peak_lr=5e-2, evaluate_every=2, early_stopping=EarlyStopping(patience=2))
    validation = examples(4, seed=77)
    tuner, result = tune(tmp_path, settings, count=4, validation=validation)
    assert result.stopped_early
    assert result.step < result.steps
    losses = {event["step"]: event["validation_loss"] for event in events(tmp_path, "evaluate") if event["step"]}
    assert result.best_step == min(losses, key=losses.__getitem__)
    with torch.no_grad(), tuner.adapter.attached(tuner.decoder):
        (batch,) = micro_batches(documents_of(validation), 128, 4096, CPU)
        weight = batch.weights[:, 1:].sum()
        assert float(batch_loss(tuner.decoder, batch) / weight) == pytest.approx(result.validation_loss, abs=1e-4)
    again, same = tune(tmp_path, settings, count=4, validation=validation)
    assert equal(tuner, again)
    assert same == result


def test_without_early_stopping_the_run_goes_to_its_end(tmp_path: Path):
    settings = config(epochs=20, peak_lr=5e-2, evaluate_every=2)
    _, result = tune(tmp_path, settings, count=4, validation=examples(4, seed=77))
    assert not result.stopped_early
    assert result.step == result.steps == 20


def test_a_run_that_diverges_says_so(tmp_path: Path):
    model = decoder()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("inf"))
    with pytest.raises(UserError, match="Step 1 has a loss"):
        Tuner(model, config(), tmp_path, examples(4)).run()


def test_half_precision_weights_are_tuned_by_adapter_only(tmp_path: Path):
    model = decoder().to(torch.bfloat16)
    with pytest.raises(UserError, match="fp32"):
        Tuner(model, config(lora=None), tmp_path / "full", examples(4))
    assert Tuner(model, config(bf16=True, epochs=1), tmp_path / "lora", examples(4)).run().finished


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4, alpha=8.0)])
def test_computing_in_bf16_gives_nearly_the_loss_of_fp32(tmp_path: Path, lora: LoraConfig | None):
    fine, coarse = (tune(tmp_path / str(b), config(lora=lora, bf16=b))[1].training_loss for b in (False, True))
    assert coarse != fine
    assert coarse == pytest.approx(fine, rel=0.02)


def test_nothing_to_learn_from_is_refused(tmp_path: Path):
    with pytest.raises(TrainingDataRefused):
        Tuner(decoder(), config(), tmp_path, [])
    with pytest.raises(TrainingDataRefused, match="line 9"):
        Tuner(decoder(), config(), tmp_path, [*examples(2), Encoded(9, (Document([1, 2], [100, 0]),))])
    with pytest.raises(UserError, match="validation"):
        Tuner(decoder(), config(early_stopping=EarlyStopping()), tmp_path, examples(3))


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"peak_lr": 0.0}, {"row_tokens": 1}, {"gradient_clip": 0.0}])
def test_settings_out_of_their_domain_are_refused(bad: dict[str, Any]):
    with pytest.raises(UserError):
        config(**bad)


def test_step_wise_metrics_have_the_documented_names_and_columns(tmp_path: Path):
    tune(tmp_path / "run", config(), validation=examples(3, seed=9))
    made = write_step_metrics(tmp_path / "run" / METRICS_FILE, tmp_path / "out")
    assert made == [tmp_path / "out" / TRAINING_METRICS, tmp_path / "out" / VALIDATION_METRICS]
    training, validation = (path.read_text().splitlines() for path in made)
    assert training[0] == "step_number,epoch_number,training_loss"
    assert [line.split(",")[:2] for line in training[1:]] == [[str(s), str((s - 1) // 5 + 1)] for s in range(1, 16)]
    assert validation[0] == "step_number,epoch_number,validation_loss"
    assert [line.split(",")[0] for line in validation[1:]] == ["0", "5", "10", "15"]


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)])
def test_an_estimate_counts_and_leaves_the_model_as_it_was(lora: LoraConfig | None):
    model = decoder()
    model.lm_head.weight.requires_grad_(False)
    found = estimate(model, config(lora=lora), examples(18))
    per_epoch = sum(example.tokens for example in examples(18))
    assert (found.steps, found.tokens) == (15, 3 * per_epoch)
    assert found.trained_tokens < found.tokens
    assert found.seconds > 0
    assert found.memory_bytes > sum(p.nbytes for p in model.parameters())
    assert (found.trainable_parameters == sum(p.numel() for p in model.parameters())) is (lora is None)
    assert all(p.grad is None for p in model.parameters())
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["lm_head.weight"]
