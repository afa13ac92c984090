"""Models made and saved by transformers, loaded by us: the same logits, the same chats, and back again.

Weights are drawn with a standard deviation of 0.15: at the default 0.02 a small model's attention is flat, and
wrong rotary positions or a missing window would hide below any tolerance.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from outcrop.models.config import DecoderConfig
from outcrop.models.decoder import DenseAttention
from outcrop.models.hf_config import read_config
from outcrop.models.weights import load_decoder, save_decoder

VOCAB, TIME, TOLERANCE = 96, 48, 1e-4

COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 2048}
LONG = COMMON | {"max_position_embeddings": 8192}

FAMILIES = {
    "llama-2": transformers.LlamaConfig(**COMMON | {"num_key_value_heads": 4}),
    "llama-with-biases": transformers.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True),
    "llama-3": transformers.LlamaConfig(**COMMON, rope_parameters=LLAMA3_ROPE),
    "llama-linear-rope": transformers.LlamaConfig(
        **COMMON, rope_parameters={"rope_type": "linear", "rope_theta": 10_000.0, "factor": 3.0}
    ),
    "llama-yarn": transformers.LlamaConfig(**LONG, rope_parameters=YARN_ROPE),
    "llama-yarn-all-options": transformers.LlamaConfig(
        **LONG,
        rope_parameters=YARN_ROPE | {"beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.7, "mscale_all_dim": 0.4},
    ),
    "llama-yarn-attention-factor": transformers.LlamaConfig(
        **COMMON, rope_parameters=YARN_ROPE | {"attention_factor": 1.3, "truncate": False}
    ),
    "smollm-2": transformers.LlamaConfig(**COMMON, tie_word_embeddings=True),
    "mistral-window": transformers.MistralConfig(**COMMON, sliding_window=9),
    "mistral-window-of-one-and-one-kv-head": transformers.MistralConfig(
        **COMMON | {"num_key_value_heads": 1}, sliding_window=1
    ),
    "mistral-no-window": transformers.MistralConfig(**COMMON, sliding_window=None, head_dim=24),
    "qwen-2": transformers.Qwen2Config(**COMMON),
    "qwen-2.5-sliding-layers": transformers.Qwen2Config(
        **COMMON, use_sliding_window=True, sliding_window=7, max_window_layers=1
    ),
    "qwen-2.5-window-as-long-as-the-text": transformers.Qwen2Config(
        **COMMON, use_sliding_window=True, sliding_window=TIME, max_window_layers=0
    ),
    "qwen-2.5-yarn-tied": transformers.Qwen2Config(**LONG, rope_parameters=YARN_ROPE, tie_word_embeddings=True),
    "qwen-3": transformers.Qwen3Config(**COMMON, head_dim=24),
    "qwen-3-sliding-biases": transformers.Qwen3Config(
        **COMMON,
        head_dim=16,
        attention_bias=True,
        use_sliding_window=True,
        sliding_window=11,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "smollm-3": transformers.SmolLM3Config(**COMMON, no_rope_layer_interval=2),
    "smollm-3-list-sliding": transformers.SmolLM3Config(
        **COMMON, no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=6, mlp_bias=True
    ),
}


class GrowingCache:
    """Attention over all keys and values seen so far: one token at a time, as an engine decodes."""

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if layer in self._keys:
            k, v = torch.cat((self._keys[layer], k)), torch.cat((self._values[layer], v))
        self._keys[layer], self._values[layer] = k, v
        window = self._config.layers[layer].sliding_window
        if window is not None:
            k, v = k[-window:], v[-window:]
        groups = q.shape[-2] // k.shape[-2]
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        scores = torch.einsum("nhd,mhd->hnm", q, k) * q.shape[-1] ** -0.5
        return torch.einsum("hnm,mhd->nhd", scores.softmax(-1), v)


def make_reference(config: transformers.PreTrainedConfig, directory: Path, **how: object) -> torch.nn.Module:
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre, spread = (1.0, 0.3) if "norm" in name else (0.0, 0.15)
            parameter.normal_(centre, spread)
    model.save_pretrained(directory, **how)
    return model


def prompt() -> Tensor:
    return torch.randint(0, VOCAB, (TIME,), generator=torch.Generator().manual_seed(3))


def reference_logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model(prompt()[None]).logits[0].float()


def prefill(directory: Path, dtype: torch.dtype | None = None) -> Tensor:
    decoder = load_decoder(directory, dtype)
    with torch.no_grad():
        return decoder(prompt()[None], torch.arange(TIME)[None], DenseAttention(decoder.config))[0]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> transformers.PreTrainedConfig:
    return FAMILIES[request.param]


def test_prefill_gives_the_logits_of_transformers(family: transformers.PreTrainedConfig, tmp_path: Path) -> None:
    expected = reference_logits(make_reference(family, tmp_path))
    assert expected.abs().max() > 1
    torch.testing.assert_close(prefill(tmp_path), expected, atol=TOLERANCE, rtol=0)


def test_token_by_token_gives_the_logits_of_transformers(family: transformers.PreTrainedConfig, tmp_path: Path) -> None:
    expected = reference_logits(make_reference(family, tmp_path))
    decoder = load_decoder(tmp_path)
    cache = GrowingCache(decoder.config)
    with torch.no_grad():
        rows = [decoder(prompt()[i : i + 1], torch.tensor([i]), cache) for i in range(TIME)]
    torch.testing.assert_close(torch.cat(rows), expected, atol=TOLERANCE, rtol=0)


def test_a_sharded_checkpoint_gives_the_same_logits(family: transformers.PreTrainedConfig, tmp_path: Path) -> None:
    expected = reference_logits(make_reference(family, tmp_path, max_shard_size="40KB"))
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(prefill(tmp_path), expected, atol=TOLERANCE, rtol=0)


def test_bf16_weights_stay_bf16_and_come_close(family: transformers.PreTrainedConfig, tmp_path: Path) -> None:
    model = make_reference(family, tmp_path / "fp32")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "bf16")
    logits = prefill(tmp_path / "bf16")
    assert logits.dtype == torch.bfloat16
    expected = prefill(tmp_path / "bf16", torch.float32)
    assert torch.nn.functional.cosine_similarity(logits.float(), expected, dim=-1).min() > 0.98


@pytest.mark.parametrize("shard_bytes_max", [2**32, 40_000], ids=["one-file", "shards"])
def test_what_we_save_transformers_loads(
    family: transformers.PreTrainedConfig, tmp_path: Path, shard_bytes_max: int
) -> None:
    expected = reference_logits(make_reference(family, tmp_path / "theirs"))
    decoder = load_decoder(tmp_path / "theirs")
    save_decoder(decoder, tmp_path / "ours", shard_bytes_max=shard_bytes_max, extra_config={"eos_token_id": 2})
    again, notes = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    torch.testing.assert_close(reference_logits(again.eval()), expected, atol=TOLERANCE, rtol=0)


def test_the_spelling_of_transformers_4_means_the_same(family: transformers.PreTrainedConfig, tmp_path: Path) -> None:
    make_reference(family, tmp_path)
    modern = read_config(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["torch_dtype"] = config.pop("dtype")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path) == modern
    if config["rope_scaling"]:
        rope["type"] = rope.pop("rope_type")
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert read_config(tmp_path) == modern
