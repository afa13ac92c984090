from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from model_files import edit_json, make_model

from outcrop.base.errors import ModelRefused, UserError
from outcrop.models.config import DecoderConfig, LayerConfig, RopeConfig, RopeKind
from outcrop.models.hf_config import parse_config, read_config, to_hf

SIZES = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def parsed(architecture: str = "LlamaForCausalLM", **keys: object) -> DecoderConfig:
    raw = SIZES | {"architectures": [architecture]} | keys
    return parse_config({key: value for key, value in raw.items() if value is not ...}, Path("config.json"))


def windows(config: DecoderConfig) -> list[int | None]:
    return [layer.sliding_window for layer in config.layers]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ({"architectures": "LlamaForCausalLM"}, "architectures"),
        ({"architectures": [["LlamaForCausalLM"]]}, "architectures"),
        ({"architectures": ...}, "architectures should be .* but is nothing"),
        ({"hidden_act": "gelu"}, "hidden_act should be 'silu', but is 'gelu'"),
        ({"vocab_size": ...}, "vocab_size .* nothing"),
        ({"vocab_size": "320"}, "vocab_size .* '320'"),
        ({"vocab_size": True}, "vocab_size"),
        ({"hidden_size": 16.0}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"intermediate_size": -1}, "intermediate_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers should be a whole number from 1 to 1024"),
        ({"num_key_value_heads": 3}, "num_key_value_heads should be a divisor"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
        ({"rms_norm_eps": "tiny"}, "rms_norm_eps"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rope_theta": 10**400}, "rope_theta"),
        ({"num_attention_heads": 2**20, "num_key_value_heads": 1, "head_dim": 64}, "at most 16384 with heads of 64"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings should be true or false"),
        ({"attention_bias": 1}, "attention_bias"),
        ({"head_dim": 7}, "head_dim should be even"),
        ({"head_dim": None, "hidden_size": 15}, "divisor of hidden_size"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config .* unquantised"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rope_scaling.rope_type .* default, linear, llama3, yarn"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope_scaling.type .*'dynamic'"),
        ({"rope_scaling": {"type": ["linear"], "factor": 2}}, "rope_scaling.type"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor .* nothing"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "rope_scaling.factor"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "rope_scaling.low_freq_factor"),
        ({"rope_scaling": [1]}, "rope_scaling should be an object"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"rope_scaling": None, "rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
        ({"layer_types": ["full_attention"]}, "layer_types should be a list of 2"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "layer_types"),
    ],
)
def test_what_cannot_be_computed_as_meant_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    path = make_model(tmp_path) / "config.json"
    edit_json(path, **changes)
    with pytest.raises(ModelRefused, match=f"{path}: .*{said}"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "a JSON list, not an object"),
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b'{"architectures": ["LlamaForCausalLM"], "hidden_size": 1e999}', "hidden_size .* is inf"),
        (b'{"rms_norm_eps": NaN}', "NaN, which is not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "Git LFS pointer.*git lfs pull"),
        (b" " * (9 * 2**20), "more than the"),
    ],
)
def test_a_damaged_config_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelRefused, match=rf"{tmp_path}/config.json.*{said}"):
        read_config(tmp_path)


def test_a_missing_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"config.json is missing"):
        read_config(tmp_path)


def test_absent_keys_have_the_defaults_of_transformers() -> None:
    assert parsed(num_key_value_heads=...).num_kv_heads == 4
    assert parsed("Qwen2ForCausalLM", num_key_value_heads=None).num_kv_heads == 4
    with pytest.raises(ModelRefused, match="num_key_value_heads should be"):
        parsed("Qwen2ForCausalLM", num_key_value_heads=...)
    assert parsed("Qwen3ForCausalLM").head_dim == 128
    assert windows(parsed("MistralForCausalLM")) == [4096] * 4
    assert windows(parsed("MistralForCausalLM", sliding_window=None)) == [None] * 4
    assert windows(parsed("Qwen2ForCausalLM", sliding_window=32)) == [None] * 4
    assert windows(parsed("Qwen2ForCausalLM", use_sliding_window=True, max_window_layers=3)) == [None] * 3 + [4096]
    smollm = parsed("SmolLM3ForCausalLM")
    assert [layer.use_rope for layer in smollm.layers] == [True, True, True, False]
    assert smollm.rope.theta == 2_000_000
    assert smollm.tie_embeddings
    assert not parsed().tie_embeddings


def test_a_window_that_is_switched_off_contradicts_sliding_layers() -> None:
    with pytest.raises(ModelRefused, match="no sliding window is in use"):
        parsed("Qwen2ForCausalLM", layer_types=["sliding_attention"] * 4, sliding_window=8)


def test_nope_layers_need_a_number_for_every_layer() -> None:
    with pytest.raises(ModelRefused, match="no_rope_layers"):
        parsed("SmolLM3ForCausalLM", no_rope_layers=[1, 0])


def test_a_mistral_with_mixed_layers_is_refused() -> None:
    with pytest.raises(ModelRefused, match="layer_types"):
        parsed("MistralForCausalLM", sliding_window=8, layer_types=["sliding_attention", "full_attention"] * 2)


def test_rope_scaling_goes_before_rope_parameters() -> None:
    rope = parsed(
        rope_theta=500.0, rope_scaling={"type": "linear", "factor": 2}, rope_parameters={"rope_type": "default"}
    ).rope
    assert rope == RopeConfig(theta=500.0, kind=RopeKind.LINEAR, factor=2.0)


@pytest.mark.parametrize(
    "rope",
    [
        RopeConfig(theta=5e5),
        RopeConfig(kind=RopeKind.LINEAR, factor=2.5),
        RopeConfig(kind=RopeKind.LLAMA3, factor=8.0, original_max_positions=64, high_freq_factor=3.0),
        RopeConfig(kind=RopeKind.YARN, factor=4.0, original_max_positions=64, beta_fast=16.0, truncate=False),
        RopeConfig(kind=RopeKind.YARN, factor=4.0, original_max_positions=64, mscale=0.7, mscale_all_dim=0.4),
        RopeConfig(kind=RopeKind.YARN, factor=4.0, original_max_positions=64, attention_factor=1.2),
    ],
)
@pytest.mark.parametrize(
    "base",
    [
        parsed(attention_bias=True, mlp_bias=True),
        parsed("MistralForCausalLM", sliding_window=8),
        parsed("Qwen2ForCausalLM", use_sliding_window=True, sliding_window=8, max_window_layers=2),
        parsed("Qwen3ForCausalLM", head_dim=24, tie_word_embeddings=True),
        parsed("SmolLM3ForCausalLM", use_sliding_window=True, sliding_window=8, no_rope_layers=[1, 0, 0, 1]),
    ],
    ids=lambda config: config.architecture,
)
def test_a_configuration_survives_the_way_out_and_back(base: DecoderConfig, rope: RopeConfig) -> None:
    config = replace(base, rope=rope)
    assert parse_config(to_hf(config), Path("config.json")) == config


def test_what_an_architecture_cannot_express_is_not_written() -> None:
    with pytest.raises(UserError, match="no words for it"):
        to_hf(replace(parsed(), layers=(LayerConfig(sliding_window=8),) * 4))
    with pytest.raises(UserError, match="not an architecture"):
        to_hf(replace(parsed(), architecture="GPT2LMHeadModel"))
