"""Rotary positions: frequencies with Llama 3, linear and YaRN scaling, and the rotation itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from outcrop.models.config import DecoderConfig, RopeConfig, RopeKind


def frequencies(rope: RopeConfig, head_dim: int, max_positions: int) -> tuple[Tensor, float]:
    """Inverse frequencies (``[head_dim / 2]``, fp32, on the CPU) and the factor that multiplies cos and sin."""
    steps = torch.arange(0, head_dim, 2, dtype=torch.int64, device="cpu").float() / head_dim
    inverse = 1.0 / rope.theta**steps
    if rope.kind is RopeKind.LINEAR:
        return inverse / rope.factor, 1.0
    if rope.kind is RopeKind.LLAMA3:
        return _llama3(rope, inverse, max_positions), 1.0
    if rope.kind is RopeKind.YARN:
        return _yarn(rope, inverse, head_dim, max_positions)
    return inverse, 1.0


def _llama3(rope: RopeConfig, inverse: Tensor, max_positions: int) -> Tensor:
    """Long wavelengths are slowed by ``factor``, short ones kept, those between blended (Llama 3.1 model code)."""
    original = rope.original_max_positions or max_positions
    wavelength = 2 * math.pi / inverse
    blend = (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return (1 - blend) * inverse / rope.factor + blend * inverse


def _yarn(rope: RopeConfig, inverse: Tensor, head_dim: int, max_positions: int) -> tuple[Tensor, float]:
    """NTK-by-parts interpolation and attention temperature (YaRN, arXiv 2309.00071, sections 3.2 and 3.4)."""
    original = rope.original_max_positions or max_positions

    def dimension(rotations: float) -> float:
        return head_dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001  # the ramp below divides by the difference
    ramp = ((torch.arange(head_dim // 2, dtype=torch.float32, device="cpu") - low) / (high - low)).clamp(0, 1)
    scaled = inverse / rope.factor * ramp + inverse * (1 - ramp)
    return scaled, _yarn_temperature(rope)


def _yarn_temperature(rope: RopeConfig) -> float:
    if rope.attention_factor is not None:
        return rope.attention_factor

    def mscale(scale: float) -> float:
        return 1.0 if rope.factor <= 1 else 0.1 * scale * math.log(rope.factor) + 1.0

    if rope.mscale and rope.mscale_all_dim:
        return mscale(rope.mscale) / mscale(rope.mscale_all_dim)
    return mscale(1.0)


class RotaryTable(nn.Module):
    """Positions to cos and sin, ``[..., 1, head_dim / 2]`` each, computed in fp32 and then cast."""

    inverse: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        inverse, self.scale = frequencies(config.rope, config.head_dim, config.max_positions)
        self.register_buffer("inverse", inverse, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RotaryTable:
        exact = self.inverse
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.inverse.dtype != exact.dtype:
            self.inverse = exact.to(self.inverse.device)  # a model cast to bf16 keeps its frequencies in fp32
        return self

    def forward(self, positions_N: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angles = positions_N.float()[..., None, None] * self.inverse
        return (angles.cos() * self.scale).to(dtype), (angles.sin() * self.scale).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair ``(i, i + D/2)`` of the last axis, the pairing of Hugging Face checkpoints."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
