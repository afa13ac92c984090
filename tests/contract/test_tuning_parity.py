"""Tuning here and with transformers and PEFT: the same losses, gradients and adapters on a tiny Llama.

The other side is a plain loop over ``transformers`` and ``peft``: one example at a time, its labels masked, no packing,
the mean over the step's trained tokens, clipping and AdamW. Where TRL is installed its own SFTTrainer is compared too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import tokenizers
import torch
import transformers

from outcrop.models.adapters import ALL_TARGETS, LoraAdapter, LoraConfig, load_adapter, save_adapter
from outcrop.models.decoder import Decoder, DenseAttention
from outcrop.models.weights import load_decoder, save_decoder
from outcrop.training.optimizer import learning_rate
from outcrop.training.records import ScheduleConfig
from outcrop.training.shards import Document
from outcrop.training.tuning import Encoded, TuneConfig, Tuner
from outcrop.training.tuning.batches import Plan
from outcrop.training.tuning.loop import METRICS_FILE

VOCAB, STEPS = 96, 50
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
LLAMA = transformers.LlamaConfig(**COMMON)
DEFAULT_ARCHITECTURE = transformers.Qwen3Config(**COMMON, head_dim=16, tie_word_embeddings=True)
FAMILIES = {"llama": LLAMA, "qwen3-tied": DEFAULT_ARCHITECTURE}
LORA = LoraConfig(rank=4, alpha=8.0)


def base(folder: Path, config: Any) -> Path:
    torch.manual_seed(11)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.08)
    model.save_pretrained(folder)
    return folder


def theirs(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def examples(count: int) -> list[Encoded]:
    """Questions and replies of different lengths, in which the reply follows from the question."""
    generator = torch.Generator().manual_seed(4)

    def draw(high: int) -> int:
        return int(torch.randint(3, high, (), generator=generator))

    made = []
    for line in range(1, count + 1):
        question = [draw(VOCAB) for _ in range(draw(20))]
        reply = [question[0], *(draw(20) for _ in range(draw(14))), 2]
        tokens = [1, *question, *reply]
        made.append(Encoded(line, (Document(tokens, [0] * (1 + len(question)) + [100] * len(reply)),)))
    return made


def logits(decoder: Decoder, tokens: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    with torch.no_grad():
        return decoder(tokens, positions, DenseAttention(decoder.config))


def reference_losses(model: Any, config: TuneConfig, data: list[Encoded]) -> list[float]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.peak_lr, betas=(config.beta1, config.beta2), weight_decay=0.0)
    plan = Plan(len(data), config.batch_examples, config.epochs, config.seed)
    schedule = ScheduleConfig(config.warmup_steps, plan.steps - config.warmup_steps, config.final_lr_fraction)
    losses = []
    for step in range(plan.steps):
        chosen = [data[number].documents[0] for number in plan.chosen(step)]
        trained = sum(1 for document in chosen for weight in document.weights if weight)
        total = 0.0
        for document in chosen:
            tokens = torch.tensor([list(document.tokens)])
            labels = torch.where(torch.tensor([list(document.weights)]) > 0, tokens, -100)
            loss = model(input_ids=tokens, labels=labels, num_items_in_batch=trained).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan.steps, config.peak_lr, schedule)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


def our_losses(run: Path) -> list[float]:
    return [json.loads(line)["training_loss"] for line in (run / METRICS_FILE).read_text().splitlines()]


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_losses_of_fifty_steps_equal_those_of_transformers_and_peft(tmp_path: Path, lora: LoraConfig | None):
    config = TuneConfig(lora, epochs=5, batch_examples=4, row_tokens=64, micro_tokens=96, peak_lr=2e-3, warmup_steps=5)
    data = examples(40)
    folder = base(tmp_path / "base", LLAMA)
    tuner = Tuner(load_decoder(folder), config, tmp_path / "run", data)
    assert tuner.plan.steps == STEPS
    model = theirs(folder).eval()
    if tuner.adapter is not None:
        save_adapter(tuner.adapter, tmp_path / "first", str(folder))
        model = peft.PeftModel.from_pretrained(model, tmp_path / "first", is_trainable=True).eval()
    expected = reference_losses(model, config, data)
    tuner.run()
    ours = our_losses(tmp_path / "run")
    assert len(ours) == STEPS
    assert ours[-1] < ours[0] - 0.3
    assert max(abs(a - b) for a, b in zip(ours, expected, strict=True)) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_written_here_computes_the_same_in_peft(tmp_path: Path, family: str, rslora: bool):
    folder = base(tmp_path / "base", FAMILIES[family])
    decoder = load_decoder(folder)
    adapter = LoraAdapter(decoder, LoraConfig(rank=4, alpha=8.0, rslora=rslora), seed=3).eval()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.1)
    save_adapter(adapter, tmp_path / "adapter", str(folder))
    model = peft.PeftModel.from_pretrained(theirs(folder), tmp_path / "adapter").eval()
    tokens = torch.arange(60)[None] % VOCAB
    with torch.no_grad():
        expected = model(tokens).logits
        merged = model.merge_and_unload()(tokens).logits
    plain = logits(decoder, tokens)
    with adapter.attached(decoder):
        ours = logits(decoder, tokens)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    assert (ours - plain).abs().max() > 0.1
    adapter.merge(decoder)
    torch.testing.assert_close(logits(decoder, tokens), merged, rtol=0, atol=1e-4)
    save_decoder(decoder, tmp_path / "merged")
    with torch.no_grad():
        again = theirs(tmp_path / "merged")(tokens).logits
    torch.testing.assert_close(again, merged, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], list(ALL_TARGETS), "all-linear"])
def test_an_adapter_written_by_peft_computes_the_same_here(tmp_path: Path, family: str, targets: list[str] | str):
    folder = base(tmp_path / "base", FAMILIES[family])
    settings = peft.LoraConfig(r=6, lora_alpha=9, target_modules=targets, task_type="CAUSAL_LM")
    model = peft.get_peft_model(theirs(folder), settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    decoder = load_decoder(folder)
    adapter = load_adapter(tmp_path / "adapter", decoder)
    tokens = torch.arange(60)[None] % VOCAB
    with torch.no_grad():
        expected = model(tokens).logits
    with adapter.attached(decoder):
        torch.testing.assert_close(logits(decoder, tokens), expected, rtol=0, atol=1e-4)
    assert (logits(decoder, tokens) - expected).abs().max() > 0.1


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_losses_of_fifty_steps_equal_those_of_trl(tmp_path: Path, lora: LoraConfig | None):
    """Opt-in: ``pip install trl`` brings some 20 packages, which no lock of this project has."""
    trl = pytest.importorskip("trl", reason="TRL is not installed: pip install trl")
    import datasets
    import pyarrow

    config = TuneConfig(
        lora, epochs=1, batch_examples=4, row_tokens=64, micro_tokens=96, peak_lr=2e-3, final_lr_fraction=1.0
    )
    data = examples(4 * STEPS)
    folder = base(tmp_path / "base", LLAMA)
    tuner = Tuner(load_decoder(folder), config, tmp_path / "run", data)
    model = theirs(folder)
    if tuner.adapter is not None:
        save_adapter(tuner.adapter, tmp_path / "first", str(folder))
        model = peft.PeftModel.from_pretrained(model, tmp_path / "first", is_trainable=True)
    documents = [data[n].documents[0] for step in range(STEPS) for n in tuner.plan.chosen(step)]
    rows = [
        {
            "input_ids": list(document.tokens),
            "labels": [
                token if weight else -100 for token, weight in zip(document.tokens, document.weights, strict=True)
            ],
        }
        for document in documents
    ]
    vocabulary = tokenizers.models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token="t0")
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        learning_rate=config.peak_lr,
        lr_scheduler_type="constant",
        max_grad_norm=config.gradient_clip,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        max_length=64,
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
    )
    trainer = trl.SFTTrainer(
        model=model,
        args=arguments,
        # Not from_list: its fingerprint pickles pyarrow, which dill 0.4 does not manage with pyarrow 26.
        train_dataset=datasets.Dataset(
            datasets.table.InMemoryTable(pyarrow.Table.from_pylist(rows)), fingerprint="tiny"
        ),
        processing_class=transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer(vocabulary), pad_token="t0", eos_token="t2"
        ),
    )
    trainer.train()
    expected = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tuner.run()
    ours = our_losses(tmp_path / "run")
    assert len(ours) == STEPS
    assert max(abs(a - b) for a, b in zip(ours, expected, strict=True)) < 1e-5
