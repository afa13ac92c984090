"""The decoder family in one readable definition: Llama 2/3, Mistral, Qwen2/2.5, Qwen3, SmolLM2/3.

Shape suffixes: N tokens (any leading shape: ``[batch, time]`` in training, ``[tokens]`` in the engine),
H query heads, K key/value heads, D head_dim, C hidden_size, F intermediate_size, V vocab_size.

How tokens see one another is not decided here: every layer hands its queries, keys and values to an
``Attention``. Training passes ``DenseAttention``; the engine passes one that reads and writes a paged KV cache.
Module names equal the Hugging Face tensor names, so a checkpoint's names need no translation.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from outcrop.models.config import DecoderConfig
from outcrop.models.rope import RotaryTable, rotate


class Attention(Protocol):
    """How one layer's queries meet keys and values.

    Called once per layer and forward pass, layers in order. ``q`` is ``[..., H, D]``, ``k`` and ``v`` are
    ``[..., K, D]``, rotary positions already applied; the answer is ``[..., H, D]``, in the dtype of ``q``.
    Scores are scaled by ``D ** -0.5``. The implementation honours ``config.layers[layer].sliding_window``.
    """

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


class DenseAttention:
    """Causal attention within each row of a ``[batch, time]`` block, optionally only within one document.

    ``document_ids`` (``[batch, time]`` integers), where given, keeps packed documents from seeing each other.
    """

    def __init__(self, config: DecoderConfig, document_ids: Tensor | None = None) -> None:
        self._config = config
        self._document_ids = document_ids
        self._masks: dict[tuple[int | None, int, torch.dtype], Tensor | None] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = self._mask(self._config.layers[layer].sliding_window, q.shape[1], q)
        out = functional.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=q.shape[2] != k.shape[2],
        )
        return out.transpose(1, 2)

    def _mask(self, window: int | None, time: int, q: Tensor) -> Tensor | None:
        if window is not None and window >= time:
            window = None
        if window is None and self._document_ids is None:
            return None
        if (window, time, q.dtype) not in self._masks:
            at = torch.arange(time, device=q.device)
            distance = at[:, None] - at[None, :]
            mask = distance >= 0
            if window is not None:
                mask &= distance < window
            if self._document_ids is not None:
                same = self._document_ids[:, :, None] == self._document_ids[:, None, :]
                mask = (mask & same)[:, None]
            # As numbers: of a boolean mask every layer's backward pass would keep such a copy of its own.
            numbers = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, -torch.inf)
            self._masks[(window, time, q.dtype)] = numbers
        return self._masks[(window, time, q.dtype)]


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis, in fp32 (Zhang & Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * y.to(x.dtype)


class SelfAttention(nn.Module):
    """Projections, optional QK-norm and rotary positions around an ``Attention``."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        c = config
        self.layer = layer
        self.head_dim = c.head_dim
        self.use_rope = c.layers[layer].use_rope
        self.q_proj = nn.Linear(c.hidden_size, c.num_heads * c.head_dim, bias=c.qkv_bias)
        self.k_proj = nn.Linear(c.hidden_size, c.num_kv_heads * c.head_dim, bias=c.qkv_bias)
        self.v_proj = nn.Linear(c.hidden_size, c.num_kv_heads * c.head_dim, bias=c.qkv_bias)
        self.o_proj = nn.Linear(c.num_heads * c.head_dim, c.hidden_size, bias=c.output_bias)
        self.q_norm = RMSNorm(c.head_dim, c.norm_eps) if c.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(c.head_dim, c.norm_eps) if c.qk_norm else nn.Identity()

    def forward(self, x_NC: Tensor, cos_ND: Tensor, sin_ND: Tensor, attention: Attention) -> Tensor:
        lead = x_NC.shape[:-1]
        q = self.q_norm(self.q_proj(x_NC).view(*lead, -1, self.head_dim))
        k = self.k_norm(self.k_proj(x_NC).view(*lead, -1, self.head_dim))
        v = self.v_proj(x_NC).view(*lead, -1, self.head_dim)
        if self.use_rope:
            q, k = rotate(q, cos_ND, sin_ND), rotate(k, cos_ND, sin_ND)
        out: Tensor = self.o_proj(attention(self.layer, q, k, v).reshape(*lead, -1))
        return out


class MLP(nn.Module):
    """SwiGLU feed-forward (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        c = config
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=c.mlp_bias)

    def forward(self, x_NC: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x_NC)) * self.up_proj(x_NC))
        return out


class Embedding(nn.Embedding):
    """An embedding that draws no first values on the meta device, where doing so would import all of TorchDynamo."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Layer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x_NC: Tensor, cos_ND: Tensor, sin_ND: Tensor, attention: Attention) -> Tensor:
        x_NC = x_NC + self.self_attn(self.input_layernorm(x_NC), cos_ND, sin_ND, attention)
        out: Tensor = x_NC + self.mlp(self.post_attention_layernorm(x_NC))
        return out


class Backbone(nn.Module):
    """Embedding, layers and the last norm: tokens in, hidden states out."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.rotary = RotaryTable(config)

    def forward(self, token_ids_N: Tensor, positions_N: Tensor, attention: Attention) -> Tensor:
        x_NC: Tensor = self.embed_tokens(token_ids_N)
        cos_ND, sin_ND = self.rotary(positions_N, x_NC.dtype)
        for layer in self.layers:
            x_NC = layer(x_NC, cos_ND, sin_ND, attention)
        out: Tensor = self.norm(x_NC)
        return out


class Decoder(nn.Module):
    """A whole model. ``hidden`` and ``logits`` are apart so that the engine projects only rows it samples from."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def hidden(self, token_ids_N: Tensor, positions_N: Tensor, attention: Attention) -> Tensor:
        """Hidden states ``[N, C]`` after the last norm."""
        out: Tensor = self.model(token_ids_N, positions_N, attention)
        return out

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """Scores ``[N, V]`` of the next token."""
        out: Tensor = self.lm_head(hidden_NC)
        return out

    def forward(self, token_ids_N: Tensor, positions_N: Tensor, attention: Attention) -> Tensor:
        return self.logits(self.hidden(token_ids_N, positions_N, attention))
