"""Initial weights that already hold an induction circuit, so that copying need not be discovered.

A decoder that sees few tokens fails to learn copying from context. Its mechanism is well known: a first layer that
tells each token its predecessor, and a later head that looks for the place whose predecessor equals the current
token and copies what stands there (Olsson et al. 2022, arXiv 2209.11895). Both are written into the initial weights;
training is free to change everything. The residual stream starts out divided:

    0 .. C/2        token identity (embeddings are zero elsewhere)
    C/2 .. 3C/4     identity of the previous token, written by layer 0
    3C/4 .. C - 1   identity of the token before that
    C - 1           a constant, which gives position-only heads something to read

Needs QK-norm, tied embeddings, as many key heads as query heads (two or more) and ``head_dim`` = C / 4, at least 12.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from outcrop.base.errors import check
from outcrop.models.decoder import Decoder, SelfAttention

PLAIN_STD = 0.02
CONSTANT = 0.5
WRITE_GAIN = 0.1
SHARPNESS = 2.2
"""Gain of the query and key norms in the layers that hold the circuit; scores grow with its square."""
POSITION_PAIRS = 6
"""Rotary pairs, fastest first, that a position-only head uses."""


def initialise(decoder: Decoder, seed: int, induction: bool = True) -> None:
    """Fill all weights from ``seed``; with ``induction`` off, a plain normal initialisation."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in decoder.named_parameters():
        if parameter.ndim == 2:
            std = PLAIN_STD / (2 * decoder.config.num_layers) ** 0.5 if name.endswith(_WRITERS) else PLAIN_STD
            nn.init.normal_(parameter, std=std, generator=generator)
        else:
            nn.init.ones_(parameter)
    if induction:
        with torch.no_grad():
            _write_circuit(decoder, generator)


_WRITERS = ("o_proj.weight", "down_proj.weight")


def _write_circuit(decoder: Decoder, generator: torch.Generator) -> None:
    config = decoder.config
    width, head = config.hidden_size, config.head_dim
    check(config.qk_norm and config.tie_embeddings, "the induction circuit needs QK-norm and tied embeddings")
    fits = config.num_kv_heads == config.num_heads >= 2 and head * 4 == width and head >= 2 * POSITION_PAIRS
    check(fits, "the induction circuit needs C = 4 D, K = H >= 2 and D >= 12")
    identity = width // 2
    embedding = decoder.model.embed_tokens.weight
    embedding.normal_(std=identity**-0.5, generator=generator)
    embedding[:, identity:] = 0.0
    embedding[:, width - 1] = CONSTANT
    mix = _orthogonal(identity, generator)

    first = _attention(decoder, 0)
    _sharpen(first)
    for index, back in enumerate((1, 2)):
        _look_back(first, index, back, config.rope.theta)
        rows = slice(index * head, (index + 1) * head)
        used = head - 1 if index else head  # the last residual dimension stays the constant
        start = identity + index * head
        first.v_proj.weight[rows] = 0.0
        first.v_proj.weight[rows, :identity] = mix[:head]
        first.o_proj.weight[:, rows] = 0.0
        first.o_proj.weight[start : start + used, rows] = WRITE_GAIN * torch.eye(head)[:used]

    for layer in (1, config.num_layers - 2):
        later = _attention(decoder, layer)
        _sharpen(later)
        for index in range(2):
            _match_previous(later, index, mix, identity, bigram=layer > 1)
            _copy(later, index, head)


def _attention(decoder: Decoder, layer: int) -> SelfAttention:
    found = decoder.model.layers[layer].self_attn
    assert isinstance(found, SelfAttention)
    return found


def _sharpen(attention: SelfAttention) -> None:
    for norm in (attention.q_norm, attention.k_norm):
        assert isinstance(norm.weight, Tensor)
        norm.weight.fill_(SHARPNESS)


def _look_back(attention: SelfAttention, index: int, back: int, theta: float) -> None:
    """Make a head attend ``back`` positions to the left, whatever the tokens are."""
    head = attention.head_dim
    rows = slice(index * head, (index + 1) * head)
    inverse = theta ** -(torch.arange(0, head, 2).float() / head)
    query, key = torch.zeros(head), torch.zeros(head)
    for pair in range(POSITION_PAIRS):
        angle = inverse[pair] * back
        key[pair] = 1.0
        query[pair], query[pair + head // 2] = torch.cos(angle), -torch.sin(angle)
    for weight, vector in ((attention.q_proj.weight, query), (attention.k_proj.weight, key)):
        weight[rows] = 0.0
        weight[rows, -1] = vector


def _match_previous(attention: SelfAttention, index: int, mix: Tensor, identity: int, bigram: bool) -> None:
    """Make a head attend to places whose previous token equals the current one (and the one before, if ``bigram``)."""
    head = attention.head_dim
    slow = head // 4
    start = index * head
    for weight in (attention.q_proj.weight, attention.k_proj.weight):
        weight[start : start + head] = 0.0
    # The slowest quarter of the rotary pairs hardly turns within the context: content is compared there.
    for half in (0, 1):
        rows = slice(start + half * head // 2 + slow, start + (half + 1) * head // 2)
        previous = half if bigram else 0
        part = slice(half * slow, (half + 1) * slow)
        if previous == 0:
            attention.q_proj.weight[rows, :identity] = mix[:head][part]
        else:
            attention.q_proj.weight[rows, identity : identity + head] = torch.eye(head)[part] / WRITE_GAIN / 16
        offset = identity + previous * head
        scale = 1.0 / WRITE_GAIN / 16 if bigram else 1.0
        attention.k_proj.weight[rows, offset : offset + head] = torch.eye(head)[part] * scale


def _copy(attention: SelfAttention, index: int, head: int) -> None:
    """Make a head write one half of the token identity it reads to where the next token is predicted."""
    rows = slice(index * head, (index + 1) * head)
    attention.v_proj.weight[rows] = 0.0
    attention.v_proj.weight[rows, rows] = torch.eye(head)
    attention.o_proj.weight[:, rows] = 0.0
    attention.o_proj.weight[rows, rows] = WRITE_GAIN * torch.eye(head)


def _orthogonal(size: int, generator: torch.Generator) -> Tensor:
    q: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
    return q
