"""Adapters: attached, merged and unmerged, written and read; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from outcrop.base.errors import ModelRefused, UserError
from outcrop.models.adapters import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    LoraAdapter,
    LoraConfig,
    load_adapter,
    merge_error,
    save_adapter,
)
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder, DenseAttention

TOKENS = torch.arange(24)[None] % 50


def decoder(width: int = 32) -> Decoder:
    torch.manual_seed(3)
    config = DecoderConfig(
        architecture="LlamaForCausalLM",
        vocab_size=64,
        hidden_size=width,
        intermediate_size=48,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        max_positions=64,
        layers=(LayerConfig(),) * 2,
    )
    return Decoder(config).eval()


def logits(model: Decoder) -> Tensor:
    return model(TOKENS, torch.arange(24)[None], DenseAttention(model.config))


def trained(model: Decoder, **changes: Any) -> LoraAdapter:
    adapter = LoraAdapter(model, LoraConfig(**{"rank": 4, "alpha": 8.0} | changes), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for name, tensor in adapter.tensors().items():
        if "lora_B" in name:
            tensor.normal_(std=0.2, generator=generator)
    return adapter


@torch.no_grad()
def test_a_new_adapter_changes_nothing_and_a_trained_one_does():
    model = decoder()
    plain = logits(model)
    with LoraAdapter(model, LoraConfig(rank=4)).attached(model):
        assert torch.equal(logits(model), plain)
    with trained(model).attached(model):
        assert (logits(model) - plain).abs().max() > 1e-2
    assert torch.equal(logits(model), plain)


@torch.no_grad()
@pytest.mark.parametrize("rslora", [False, True])
def test_merged_computes_the_same_and_unmerged_is_the_very_same_decoder(rslora: bool):
    model = decoder()
    adapter = trained(model, rslora=rslora)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert merge_error(model, adapter, logits) < 1e-5
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    adapter.merge(model)
    assert not torch.equal(
        model.state_dict()["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"]
    )


def test_merge_error_shows_what_bf16_rounds_away():
    model = decoder().to(torch.bfloat16)
    assert merge_error(model, trained(model), logits) > 1e-3


def test_merging_an_adapter_that_diverged_is_refused_and_leaves_the_decoder():
    model = decoder()
    adapter = trained(model)
    adapter.tensors()["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"].fill_(float("inf"))
    before = model.state_dict()["model.layers.0.self_attn.q_proj.weight"].clone()
    with pytest.raises(ModelRefused, match="NaN or infinity"):
        adapter.merge(model)
    assert torch.equal(model.state_dict()["model.layers.0.self_attn.q_proj.weight"], before)


@torch.no_grad()
def test_written_and_read_again_is_equal(tmp_path: Path):
    model = decoder()
    adapter = trained(model, targets=("q_proj", "v_proj"), dropout=0.1, rslora=True)
    save_adapter(adapter, tmp_path, "local.some-v1:0")
    again = load_adapter(tmp_path, model)
    assert again.config == adapter.config
    assert all(torch.equal(a, b) for a, b in zip(again.tensors().values(), adapter.tensors().values(), strict=True))


def test_dropout_acts_in_training_only():
    model = decoder()
    adapter = trained(model, dropout=0.5)
    with torch.no_grad(), adapter.attached(model):
        assert torch.equal(logits(model), logits(model))
        adapter.train()
        assert not torch.equal(logits(model), logits(model))


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"something_new": {"x": 1}}, "something_new"),
        ({"r": 5}, "has shape"),
        ({"r": "4"}, "not a number"),
        ({"r": 0}, "rank"),
    ],
)
def test_configurations_that_mean_something_else_are_refused(tmp_path: Path, change: dict[str, Any], seen: str):
    model = decoder()
    save_adapter(trained(model), tmp_path)
    path = tmp_path / ADAPTER_CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelRefused, match=seen):
        load_adapter(tmp_path, model)


def test_tensors_that_are_missing_or_left_over_or_not_finite_are_refused(tmp_path: Path):
    model = decoder()
    save_adapter(trained(model), tmp_path)
    file = tmp_path / ADAPTER_WEIGHTS_FILE
    good = load_file(file)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    for bad, seen in (
        ({k: v for k, v in good.items() if k != name}, "lacks"),
        (good | {"base_model.model.lm_head.lora_A.weight": torch.ones(2, 2)}, "no place"),
        (good | {name: torch.full_like(good[name], float("nan"))}, "finite"),
    ):
        save_file(bad, file)
        with pytest.raises(ModelRefused, match=seen):
            load_adapter(tmp_path, model)
    save_file(good, file)
    load_adapter(tmp_path, model)
    with pytest.raises(ModelRefused, match="has shape"):
        load_adapter(tmp_path, decoder(width=64))


@pytest.mark.parametrize(
    "bad", [{"rank": 0}, {"alpha": float("nan")}, {"dropout": 1.0}, {"targets": ("lm_head",)}, {"targets": ()}]
)
def test_settings_out_of_their_domain_are_refused(bad: dict[str, Any]):
    with pytest.raises(UserError):
        LoraConfig(**bad)
