"""The trainer learns, repeats itself, resumes, and its circuit copies. A kill in mid-run is in tests/crash."""

import json
import random
from pathlib import Path

import pytest
import torch

from outcrop.base.errors import InvariantError
from outcrop.models.config import DecoderConfig, LayerConfig, RopeConfig
from outcrop.models.decoder import Decoder, DenseAttention
from outcrop.training import checkpoint
from outcrop.training.documents import REPLY_WEIGHT, copying_documents
from outcrop.training.evaluation import bits_per_byte, exact_replies, share_by_kind
from outcrop.training.generate import greedy
from outcrop.training.initial import initialise
from outcrop.training.loop import Trainer
from outcrop.training.metrics import MetricsFile
from outcrop.training.optimizer import learning_rate
from outcrop.training.records import OptimizerConfig, Phase, ScheduleConfig, TrainConfig
from outcrop.training.shards import Document, write_shard

VOCAB = 96


def decoder(width: int = 32, layers: int = 3, heads: int = 4) -> Decoder:
    return Decoder(
        DecoderConfig(
            architecture="Qwen3ForCausalLM",
            vocab_size=VOCAB,
            hidden_size=width,
            intermediate_size=width * 2,
            num_heads=heads,
            num_kv_heads=heads,
            head_dim=width // 4,
            max_positions=256,
            layers=(LayerConfig(),) * layers,
            rope=RopeConfig(theta=1e6),
            tie_embeddings=True,
            qk_norm=True,
        )
    )


def config(steps: int, **changes: object) -> TrainConfig:
    phases = (Phase("a", steps, batch_rows=4, micro_rows=4),)
    values: dict[str, object] = {
        "optimizer": OptimizerConfig(peak_lr=1e-2),
        "schedule": ScheduleConfig(warmup_steps=2, decay_steps=5),
        "bf16": False,
        "log_every": 1,
        "checkpoint_every": 5,
    }
    return TrainConfig(phases=phases, **(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    rng = random.Random(0)
    documents = []
    for _ in range(40):
        start = rng.randrange(VOCAB - 20)
        documents.append(Document(list(range(start, start + 16)), [100] * 16))
    write_shard(tmp_path / "shards" / "a", documents, row_tokens=32)
    return tmp_path / "shards"


def train(run: Path, shards: Path, settings: TrainConfig, seed: int = 1) -> Decoder:
    model = decoder()
    initialise(model, seed, induction=False)
    Trainer(model, settings, run, shards).run()
    return model


def events(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("muon", [True, False])
def test_loss_falls_on_a_learnable_pattern(tmp_path: Path, shards: Path, muon: bool) -> None:
    optimizer = OptimizerConfig(peak_lr=1e-2, muon=muon)
    train(tmp_path / "run", shards, config(40, optimizer=optimizer))
    losses = [event["loss"] for event in events(tmp_path / "run")]
    assert losses[-1] < losses[0] / 2


def test_equal_recipe_and_seed_give_equal_weights(tmp_path: Path, shards: Path) -> None:
    one, two = (train(tmp_path / name, shards, config(6)) for name in ("one", "two"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_micro_batches_add_up_to_the_whole_batch(tmp_path: Path, shards: Path) -> None:
    whole = train(tmp_path / "whole", shards, config(3))
    split_phase = (Phase("a", 3, batch_rows=4, micro_rows=1),)
    halves = TrainConfig(phases=split_phase, **{k: getattr(config(3), k) for k in ("optimizer", "schedule", "bf16")})
    split = train(tmp_path / "split", shards, halves)
    for a, b in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_finished_run_started_again_changes_nothing(tmp_path: Path, shards: Path) -> None:
    first = train(tmp_path / "run", shards, config(6))
    again = train(tmp_path / "run", shards, config(6))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert [event["step"] for event in events(tmp_path / "run")] == list(range(1, 7))


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path, shards: Path) -> None:
    train(tmp_path / "run", shards, config(17, keep_checkpoints=2))
    kept = checkpoint.published(tmp_path / "run" / "checkpoints")
    assert [path.name for path in kept] == ["step-00000015", "step-00000017"]


def test_evaluations_are_logged_at_their_steps_and_at_the_end(tmp_path: Path, shards: Path) -> None:
    model = decoder()
    initialise(model, 1, induction=False)
    Trainer(model, config(7, evaluate_every=3), tmp_path / "run", shards).run(lambda _: {"score": 0.5})
    assert [e["step"] for e in events(tmp_path / "run") if e["event"] == "evaluate"] == [3, 6, 7]


def test_metrics_drop_what_a_resumed_run_writes_again_and_half_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path, resume_step=0)
    for step in (1, 2, 3):
        first.write("train", step, {"loss": 1.0})
    with path.open("a") as file:
        file.write('{"event": "tr')
    MetricsFile(path, resume_step=2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_schedule_warms_up_holds_and_decays() -> None:
    schedule = ScheduleConfig(warmup_steps=10, decay_steps=20, final_fraction=0.1)
    rates = [learning_rate(step, 100, 1.0, schedule) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[-1] == pytest.approx(0.145)
    assert rates[79:] == sorted(rates[79:], reverse=True)


def circuit(seed: int, induction: bool) -> float:
    """The share of repeated random tokens that an untrained model predicts."""
    model = decoder(width=256, layers=4)
    initialise(model, seed, induction)
    stream = copying_documents(VOCAB, 8, 128, random.Random(seed))
    documents = [next(stream) for _ in range(4)]
    right = total = 0
    with torch.inference_mode():
        for document in documents:
            tokens = torch.tensor([list(document.tokens)])
            logits = model(tokens, torch.arange(128)[None], DenseAttention(model.config))
            hit = logits[0, :-1].argmax(-1) == tokens[0, 1:]
            trained = torch.tensor(list(document.weights))[1:] == REPLY_WEIGHT
            right += int(hit[trained].sum())
            total += int(trained.sum())
    return right / total


def test_untrained_model_with_the_circuit_copies_and_without_it_does_not() -> None:
    assert circuit(0, induction=True) > 0.7
    assert circuit(0, induction=False) < 0.1


def test_circuit_refuses_shapes_it_does_not_fit() -> None:
    with pytest.raises(InvariantError):
        initialise(decoder(heads=2), 0, induction=True)


def test_exactness_means_what_greedy_generation_gives() -> None:
    model = decoder()
    initialise(model, 2, induction=False)
    prompt = [5, 6, 7, 8]
    reply = greedy(model, prompt, stop=(), max_tokens=6)
    weights = [0] * len(prompt) + [REPLY_WEIGHT] * len(reply)
    wrong = [*reply[:-1], (reply[-1] + 1) % VOCAB]
    documents = [Document(prompt + reply, weights), Document(prompt + wrong, weights)]
    assert exact_replies(model, documents) == [True, False]
    assert share_by_kind(["a", "b"], [True, False]) == {"exact_a": 1.0, "exact_b": 0.0}


def test_generation_ends_before_a_stop_token() -> None:
    model = decoder()
    initialise(model, 2, induction=False)
    free = greedy(model, [5, 6, 7], stop=(), max_tokens=5)
    assert greedy(model, [5, 6, 7], stop=(free[0],), max_tokens=5) == []


def test_uniform_model_needs_log2_vocabulary_bits_for_each_token() -> None:
    model = decoder()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    document = Document(list(range(11)), [100] * 11)
    bits = bits_per_byte(model, [document], text_bytes=10)
    assert bits == pytest.approx(torch.tensor(float(VOCAB)).log2().item())
