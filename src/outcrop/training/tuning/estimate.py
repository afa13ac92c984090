"""What a tuning run takes, told before it starts: steps, tokens, memory and, from one timed step, seconds.

Memory is counted, not measured: weights, gradients and optimiser state exactly; activations by the tensors that one
layer keeps for its backward pass, which is right to some tens of percent. PyTorch itself and its allocator's slack
come on top. The time is that of a real forward and backward pass on this machine now, times the tokens.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from outcrop.models.adapters import LoraAdapter
from outcrop.models.decoder import Decoder
from outcrop.training.shards import Document
from outcrop.training.tuning.batches import Plan, documents_of, micro_batches
from outcrop.training.tuning.encoding import Encoded
from outcrop.training.tuning.loop import batch_loss
from outcrop.training.tuning.records import TuneConfig

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one run with all its epochs. ``memory_bytes`` is the peak of tensors on the device."""

    steps: int
    tokens: int
    trained_tokens: int
    trainable_parameters: int
    memory_bytes: int
    seconds: float | None
    """``None`` where it was not timed."""


def estimate(decoder: Decoder, config: TuneConfig, training: Sequence[Encoded], *, timed: bool = True) -> Estimate:
    """What tuning ``decoder`` on ``training`` takes. The decoder is left as it was."""
    plan = Plan(len(training), config.batch_examples, config.epochs, config.seed)
    adapter = None if config.lora is None else LoraAdapter(decoder, config.lora)
    all_parameters = sum(parameter.numel() for parameter in decoder.parameters())
    trainable = all_parameters if adapter is None else adapter.parameter_count
    tokens = sum(example.tokens for example in training)
    return Estimate(
        steps=plan.steps,
        tokens=tokens * config.epochs,
        trained_tokens=sum(example.trained_tokens for example in training) * config.epochs,
        trainable_parameters=trainable,
        memory_bytes=_memory_bytes(decoder, config, training, trainable, adapter),
        seconds=_seconds_per_token(decoder, config, training, adapter) * tokens * config.epochs if timed else None,
    )


def _memory_bytes(
    decoder: Decoder, config: TuneConfig, training: Sequence[Encoded], trainable: int, adapter: LoraAdapter | None
) -> int:
    c = decoder.config
    weights = sum(parameter.numel() * parameter.element_size() for parameter in decoder.parameters())
    own = trainable * _FP32_BYTES if adapter is not None else 0
    states = trainable * _FP32_BYTES * 3  # gradient and AdamW's two moments
    longest = max(len(document.tokens) for example in training for document in example.documents)
    step_tokens = max(example.tokens for example in training) * config.batch_examples
    at_once = max(longest, min(config.micro_tokens, step_tokens))
    attention = c.head_dim * (3 * c.num_heads + 4 * c.num_kv_heads)
    per_layer = 8 * c.hidden_size + attention + 4 * c.intermediate_size
    activations = at_once * (c.num_layers * per_layer + 4 * c.hidden_size) * _FP32_BYTES
    masks = 5 * at_once * min(config.row_tokens, at_once)  # packed rows: a boolean and an fp32 mask
    share = sum(e.trained_tokens for e in training) / max(1, sum(e.tokens for e in training))
    logits = int(at_once * share) * c.vocab_size * _FP32_BYTES * 3
    return weights + own + states + activations + masks + logits


def _seconds_per_token(
    decoder: Decoder, config: TuneConfig, training: Sequence[Encoded], adapter: LoraAdapter | None
) -> float:
    device = decoder.model.embed_tokens.weight.device
    documents: list[Document] = []
    tokens = 0
    for document in documents_of(training):
        documents.append(document)
        tokens += len(document.tokens)
        if tokens >= config.micro_tokens:
            break
    wanted = {name: parameter.requires_grad for name, parameter in decoder.named_parameters()}
    decoder.requires_grad_(adapter is None)
    attached = contextlib.nullcontext() if adapter is None else adapter.attached(decoder)
    taken = 0.0
    try:
        with attached:
            for _ in range(2):  # the first one warms up
                since = time.perf_counter()
                for batch in micro_batches(documents, config.row_tokens, config.micro_tokens, device):
                    with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                        loss = batch_loss(decoder, batch)
                    loss.backward()
                    loss.item()
                taken = time.perf_counter() - since
    finally:
        for name, parameter in decoder.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(wanted[name])
    return taken / tokens
