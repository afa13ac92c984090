"""Held-out scores: bits per byte of plain text, and exactness of whole replies.

A reply is exact where the most likely token at each of its positions, given the true ones before it, is the true one:
that is the case exactly when greedy generation gives this reply.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch

from outcrop.models.decoder import Decoder, DenseAttention
from outcrop.training.documents import REPLY_WEIGHT
from outcrop.training.shards import WEIGHT_UNIT, Batch, Document, positions_of


def _single(document: Document) -> Batch:
    tokens = torch.tensor([list(document.tokens)])
    documents = torch.zeros_like(tokens)
    weights = torch.tensor([list(document.weights)], dtype=torch.float32) / WEIGHT_UNIT
    return Batch(tokens, weights, documents, positions_of(documents))


@torch.inference_mode()
def exact_replies(decoder: Decoder, documents: Sequence[Document]) -> list[bool]:
    """For each conversation, whether greedy decoding would give all its replies token for token."""
    exact = []
    for document in documents:
        batch = _single(document)
        logits = decoder(batch.tokens, batch.positions, DenseAttention(decoder.config))
        right = logits[0, :-1].argmax(-1) == batch.tokens[0, 1:]
        reply = batch.weights[0, 1:] >= REPLY_WEIGHT / WEIGHT_UNIT
        exact.append(bool(right[reply].all()))
    return exact


@torch.inference_mode()
def bits_per_byte(decoder: Decoder, documents: Sequence[Document], text_bytes: int) -> float:
    """Information content of plain-text documents, the end-of-text token included, per byte of their UTF-8 text."""
    nats = 0.0
    for document in documents:
        batch = _single(document)
        logits = decoder(batch.tokens, batch.positions, DenseAttention(decoder.config))
        nats += float(torch.nn.functional.cross_entropy(logits[0, :-1].float(), batch.tokens[0, 1:], reduction="sum"))
    return nats / math.log(2) / text_bytes


def share_by_kind(kinds: Sequence[str], exact: Sequence[bool]) -> dict[str, float]:
    """The share of exact replies of each kind, as ``exact_KIND``."""
    total = Counter(kinds)
    right = Counter(kind for kind, is_exact in zip(kinds, exact, strict=True) if is_exact)
    return {f"exact_{kind}": right[kind] / count for kind, count in sorted(total.items())}
