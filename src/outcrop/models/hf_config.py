"""A Hugging Face ``config.json`` to a ``DecoderConfig`` and back.

Both spellings are read: transformers 4 (``rope_theta`` + ``rope_scaling``, ``torch_dtype``) and transformers 5
(``rope_parameters``, ``layer_types``, ``dtype``). A key that is absent has the default that transformers gives it;
sizes must be there. Anything that would make the model compute something else than its authors meant is refused, never
ignored: unknown architectures, rotary types and activations, partial rotation, quantised weights.

Not covered: keys that none of the supported architectures reads are ignored, whatever they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outcrop.base.errors import ModelRefused, UserError
from outcrop.models.config import DecoderConfig, LayerConfig, RopeConfig, RopeKind
from outcrop.models.files import read_json_object

CONFIG_FILE = "config.json"

MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "SmolLM3ForCausalLM": "smollm3",
}
"""The supported architectures (SmolLM2 is Llama) and the ``model_type`` of each."""

_OPTIONAL_ATTENTION_BIAS = ("LlamaForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM")
_OPTIONAL_MLP_BIAS = ("LlamaForCausalLM", "SmolLM3ForCausalLM")
_SIZE_MAX = 2**20
_VOCAB_MAX = 2**24
_NUMBER_MAX = 1e30
_LAYERS_MAX = 1024
_FULL, _SLIDING = "full_attention", "sliding_attention"


def read_config(directory: Path) -> DecoderConfig:
    """The configuration in ``directory/config.json``, or ``ModelRefused`` naming the file and the key."""
    path = directory / CONFIG_FILE
    return parse_config(read_json_object(path), path)


def parse_config(raw: Mapping[str, Any], path: Path) -> DecoderConfig:
    """The configuration that ``raw`` spells; ``path`` is named in refusals."""
    keys = _Keys(raw, str(path))
    architecture = _architecture(keys)
    if raw.get("quantization_config") is not None:
        raise keys.refused("quantization_config", "null", "Use the unquantised weights of this model (bf16 or fp32).")
    activation = raw.get("hidden_act", "silu")
    if activation != "silu":
        raise keys.refused("hidden_act", "'silu'", "Models with other activations are not supported.")

    hidden_size = keys.size("hidden_size")
    num_heads = keys.size("num_attention_heads")
    same_as_heads = architecture == "LlamaForCausalLM" or "num_key_value_heads" in raw  # null says so too
    num_kv_heads = keys.size("num_key_value_heads", num_heads if same_as_heads else None)
    if num_heads % num_kv_heads:
        raise keys.refused("num_key_value_heads", f"a divisor of num_attention_heads ({num_heads})")
    head_dim = _head_dim(keys, architecture, hidden_size, num_heads)
    bias = architecture in _OPTIONAL_ATTENTION_BIAS and keys.flag("attention_bias", False)
    max_positions = keys.size("max_position_embeddings", maximum=2**31 - 1)
    return DecoderConfig(
        architecture=architecture,
        vocab_size=keys.size("vocab_size", maximum=_VOCAB_MAX),
        hidden_size=hidden_size,
        intermediate_size=keys.size("intermediate_size"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_positions=max_positions,
        layers=_layers(keys, architecture),
        norm_eps=keys.number("rms_norm_eps", 1e-6, minimum=0.0),
        rope=_rope(keys, architecture, max_positions),
        tie_embeddings=keys.flag("tie_word_embeddings", architecture == "SmolLM3ForCausalLM"),
        qkv_bias=bias or architecture == "Qwen2ForCausalLM",
        output_bias=bias,
        mlp_bias=architecture in _OPTIONAL_MLP_BIAS and keys.flag("mlp_bias", False),
        qk_norm=architecture == "Qwen3ForCausalLM",
    )


def to_hf(config: DecoderConfig, dtype: str = "float32") -> dict[str, Any]:
    """What ``config.json`` says for ``config``, readable by transformers 4 and 5.

    Raises ``UserError`` where the architecture's own ``config.json`` cannot express ``config``.
    """
    if config.architecture not in MODEL_TYPES:
        raise UserError(f"{config.architecture!r} is not an architecture.", f"Known: {', '.join(MODEL_TYPES)}.")
    rope = _rope_to_hf(config.rope)
    out: dict[str, Any] = {
        "architectures": [config.architecture],
        "model_type": MODEL_TYPES[config.architecture],
        "dtype": dtype,
        "torch_dtype": dtype,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": config.output_bias,
        "mlp_bias": config.mlp_bias,
        "rope_theta": config.rope.theta,
        "rope_scaling": None if config.rope.kind is RopeKind.DEFAULT else rope,
        "rope_parameters": {**rope, "rope_theta": config.rope.theta},
        "use_cache": True,
        "bos_token_id": None,  # absent, transformers would assume those of the architecture's first model
        "eos_token_id": None,
        "pad_token_id": None,
    } | _layers_to_hf(config)
    if parse_config(out, Path(CONFIG_FILE)) != config:
        raise UserError(
            f"A {config.architecture} cannot be made like this: its config.json has no words for it.",
            "Choose the architecture whose features (biases, QK-norm, windows, NoPE layers, rotary scaling) these are.",
        )
    return out


class _Keys:
    """Typed access to a parsed ``config.json``; ``prefix`` is the path of a nested object."""

    def __init__(self, raw: Mapping[str, Any], path: str, prefix: str = "") -> None:
        self.raw = raw
        self._path = path
        self._prefix = prefix

    def refused(self, key: str, expected: str, remedy: str = "") -> ModelRefused:
        seen = repr(self.raw[key])[:200] if key in self.raw else "nothing"
        return ModelRefused(f"{self._path}: {self._prefix}{key} should be {expected}, but is {seen}.", remedy)

    def size(self, key: str, default: int | None = None, minimum: int = 1, maximum: int = _SIZE_MAX) -> int:
        """A whole number within bounds; absent or null means ``default``, and no default means required."""
        value = self.raw.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise self.refused(key, f"a whole number from {minimum} to {maximum}")
        return value

    def number(self, key: str, default: float | None = None, minimum: float | None = None) -> float:
        """A finite number greater than ``minimum``."""
        value = self.raw.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _NUMBER_MAX:
            raise self.refused(key, "a finite number")
        if minimum is not None and value <= minimum:
            raise self.refused(key, f"a number above {minimum:g}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.raw.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refused(key, "true or false")
        return value

    def inside(self, key: str) -> _Keys | None:
        """The nested object under ``key``, or ``None`` where it is absent, null or empty."""
        value = self.raw.get(key)
        if value is None or value == {}:
            return None
        if not isinstance(value, dict):
            raise self.refused(key, "an object")
        return _Keys(value, self._path, f"{self._prefix}{key}.")


def _architecture(keys: _Keys) -> str:
    named = keys.raw.get("architectures")
    if isinstance(named, list) and len(named) == 1 and named[0] in list(MODEL_TYPES):
        return str(named[0])
    raise keys.refused("architectures", f"a list of one of {', '.join(MODEL_TYPES)}", "Other models are not supported.")


def _head_dim(keys: _Keys, architecture: str, hidden_size: int, num_heads: int) -> int:
    if keys.raw.get("head_dim") is None:
        if architecture == "Qwen3ForCausalLM":
            return 128
        if hidden_size % num_heads:
            raise keys.refused("num_attention_heads", f"a divisor of hidden_size ({hidden_size}), or head_dim given")
    head_dim = keys.size("head_dim", hidden_size // num_heads)
    if head_dim % 2:
        raise keys.refused("head_dim", f"even, since rotary positions turn pairs (here it comes to {head_dim})")
    if num_heads * head_dim > _SIZE_MAX:
        raise keys.refused("num_attention_heads", f"at most {_SIZE_MAX // head_dim} with heads of {head_dim}")
    return head_dim


def _layers(keys: _Keys, architecture: str) -> tuple[LayerConfig, ...]:
    count = keys.size("num_hidden_layers", maximum=_LAYERS_MAX)
    kinds = _layer_types(keys, count)
    if architecture == "LlamaForCausalLM":
        if kinds is not None and _SLIDING in kinds:
            raise keys.refused("layer_types", "full attention everywhere, as a Llama has it")
        return (LayerConfig(),) * count
    if architecture == "MistralForCausalLM":
        window = _window(keys, 4096)
        if kinds is not None and kinds != [_FULL if window is None else _SLIDING] * count:
            raise keys.refused("layer_types", "the same for all layers and in line with sliding_window")
        return (LayerConfig(sliding_window=window),) * count
    return _mixed_layers(keys, architecture, count, kinds)


def _mixed_layers(keys: _Keys, architecture: str, count: int, kinds: list[str] | None) -> tuple[LayerConfig, ...]:
    """Layers of Qwen2, Qwen3 and SmolLM3, where the window and rotary positions may differ from layer to layer."""
    smollm3 = architecture == "SmolLM3ForCausalLM"
    window = _window(keys, None if smollm3 else 4096) if keys.flag("use_sliding_window", False) else None
    uses_rope = _rope_layers(keys, count) if smollm3 else [True] * count
    if kinds is None:
        first = 0 if smollm3 else keys.size("max_window_layers", 28, minimum=0)
        slides = [not rope for rope in uses_rope] if smollm3 else [i >= first for i in range(count)]
        kinds = [_SLIDING if window is not None and slide else _FULL for slide in slides]
    if window is None and _SLIDING in kinds:
        raise keys.refused("layer_types", "without sliding_attention, since no sliding window is in use")
    return tuple(
        LayerConfig(sliding_window=window if kind == _SLIDING else None, use_rope=rope)
        for kind, rope in zip(kinds, uses_rope, strict=True)
    )


def _window(keys: _Keys, default: int | None) -> int | None:
    """The sliding window; null switches it off, only an absent key has a default."""
    if "sliding_window" not in keys.raw:
        return default
    return None if keys.raw["sliding_window"] is None else keys.size("sliding_window")


def _layer_types(keys: _Keys, count: int) -> list[str] | None:
    kinds = keys.raw.get("layer_types")
    if kinds is None:
        return None
    if not isinstance(kinds, list) or len(kinds) != count or not all(kind in (_FULL, _SLIDING) for kind in kinds):
        raise keys.refused("layer_types", f"a list of {count} names, each {_FULL} or {_SLIDING}")
    return [str(kind) for kind in kinds]


def _rope_layers(keys: _Keys, count: int) -> list[bool]:
    """Which layers of a SmolLM3 turn positions: ``no_rope_layers`` holds 1 for those that do, 0 for NoPE."""
    flags = keys.raw.get("no_rope_layers")
    if flags is None:
        interval = keys.size("no_rope_layer_interval", 4)
        return [(i + 1) % interval != 0 for i in range(count)]
    if not isinstance(flags, list) or len(flags) < count or not all(flag in (0, 1) for flag in flags):
        raise keys.refused("no_rope_layers", f"a list of at least {count} numbers, each 0 or 1")
    return [flag == 1 for flag in flags[:count]]


def _rope(keys: _Keys, architecture: str, max_positions: int) -> RopeConfig:
    default_theta = 2_000_000.0 if architecture == "SmolLM3ForCausalLM" else 10_000.0
    outer_theta = keys.number("rope_theta", default_theta, minimum=1.0)
    inner = keys.inside("rope_scaling") or keys.inside("rope_parameters")
    if inner is None:
        _refuse_partial(keys)
        return RopeConfig(theta=outer_theta)
    for name, value in inner.raw.items():
        if isinstance(value, dict):
            raise inner.refused(name, "a number or a name", "Rotary settings that differ by layer are not supported.")
    _refuse_partial(keys)
    _refuse_partial(inner)
    theta = inner.number("rope_theta", outer_theta, minimum=1.0)
    type_key = "rope_type" if "rope_type" in inner.raw else "type"
    kind = inner.raw.get(type_key, "default")
    if kind not in list(RopeKind):
        raise inner.refused(type_key, f"one of {', '.join(RopeKind)}", "Other rotary scalings are not supported.")
    return _scaled_rope(keys, inner, RopeKind(kind), theta, max_positions)


def _scaled_rope(outer: _Keys, keys: _Keys, kind: RopeKind, theta: float, max_positions: int) -> RopeConfig:
    if kind is RopeKind.DEFAULT:
        return RopeConfig(theta=theta)
    if kind is RopeKind.LINEAR:
        return RopeConfig(theta=theta, kind=kind, factor=keys.number("factor", minimum=0.0))
    inner_original = keys.size("original_max_position_embeddings", max_positions, maximum=2**31 - 1)
    original = outer.size("original_max_position_embeddings", inner_original, maximum=2**31 - 1)
    if kind is RopeKind.LLAMA3:
        low = keys.number("low_freq_factor", minimum=0.0)
        return RopeConfig(
            theta=theta,
            kind=kind,
            factor=keys.number("factor", minimum=0.0),
            original_max_positions=original,
            low_freq_factor=low,
            high_freq_factor=keys.number("high_freq_factor", minimum=low),
        )
    return RopeConfig(
        theta=theta,
        kind=kind,
        factor=keys.number("factor", max_positions / original, minimum=0.0),
        original_max_positions=original,
        beta_fast=keys.number("beta_fast", 32.0, minimum=0.0),
        beta_slow=keys.number("beta_slow", 1.0, minimum=0.0),
        attention_factor=_optional(keys, "attention_factor"),
        mscale=_optional(keys, "mscale"),
        mscale_all_dim=_optional(keys, "mscale_all_dim"),
        truncate=keys.flag("truncate", True),
    )


def _optional(keys: _Keys, key: str) -> float | None:
    return None if keys.raw.get(key) is None else keys.number(key)


def _refuse_partial(keys: _Keys) -> None:
    if keys.number("partial_rotary_factor", 1.0) != 1.0:
        raise keys.refused("partial_rotary_factor", "1.0", "Models that rotate only part of a head are not supported.")


def _rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    out: dict[str, Any] = {"rope_type": str(rope.kind)}
    if rope.kind is RopeKind.DEFAULT:
        return out
    out["factor"] = rope.factor
    if rope.kind is RopeKind.LINEAR:
        return out
    out["original_max_position_embeddings"] = rope.original_max_positions
    if rope.kind is RopeKind.LLAMA3:
        return out | {"low_freq_factor": rope.low_freq_factor, "high_freq_factor": rope.high_freq_factor}
    out |= {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow, "truncate": rope.truncate}
    optional = {
        "attention_factor": rope.attention_factor,
        "mscale": rope.mscale,
        "mscale_all_dim": rope.mscale_all_dim,
    }
    return out | {name: value for name, value in optional.items() if value is not None}


def _layers_to_hf(config: DecoderConfig) -> dict[str, Any]:
    windows = {layer.sliding_window for layer in config.layers} - {None}
    window = next(iter(windows), None)
    if config.architecture == "LlamaForCausalLM":
        return {}
    if config.architecture == "MistralForCausalLM":
        return {"sliding_window": window}
    out: dict[str, Any] = {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": [_FULL if layer.sliding_window is None else _SLIDING for layer in config.layers],
    }
    if config.architecture == "SmolLM3ForCausalLM":
        out["no_rope_layers"] = [int(layer.use_rope) for layer in config.layers]
    return out
