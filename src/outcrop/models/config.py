"""What a decoder is made of, as one frozen record read from a Hugging Face ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RopeKind(StrEnum):
    """How rotary frequencies are scaled for contexts longer than the model was first trained on."""

    DEFAULT = "default"
    LINEAR = "linear"
    LLAMA3 = "llama3"
    YARN = "yarn"


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864) and its scaling.

    ``low_freq_factor``/``high_freq_factor`` belong to Llama 3; ``beta_*``, ``attention_factor``, ``mscale*`` and
    ``truncate`` to YaRN (Peng et al. 2023, arXiv 2309.00071).
    """

    theta: float = 10_000.0
    kind: RopeKind = RopeKind.DEFAULT
    factor: float = 1.0
    original_max_positions: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """What may differ from layer to layer."""

    sliding_window: int | None = None
    """Keys older than this many positions are invisible; ``None`` sees all."""
    use_rope: bool = True
    """False for the NoPE layers of SmolLM3."""


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """One decoder of the Llama family. Sizes in elements; ``layers`` has one record per layer."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    layers: tuple[LayerConfig, ...]
    norm_eps: float = 1e-6
    rope: RopeConfig = RopeConfig()
    tie_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    @property
    def num_layers(self) -> int:
        return len(self.layers)
