"""Weights in and out: safetensors files, single or sharded, to a ``Decoder`` and back.

Tensors are used where they lie in the memory-mapped file when the dtype already fits, so loading needs no second
copy and several processes share the pages. Every name, shape and dtype is checked against the configuration before
anything is built. Formats that can run code when opened (pickle) are never opened.

Not covered: a file that another process truncates while it is mapped kills this process (SIGBUS); import a model
first, then nobody else writes to it. Quantised weights (8 bits and fewer) are not supported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from outcrop.base.errors import ModelRefused
from outcrop.models.checkpoint import INDEX_FILE, WEIGHTS_FILE, Checkpoint, open_safetensors, read_checkpoint
from outcrop.models.config import DecoderConfig
from outcrop.models.decoder import Decoder
from outcrop.models.hf_config import CONFIG_FILE, read_config, to_hf
from outcrop.models.rope import frequencies
from outcrop.models.sourced import Opener, read_header, read_tensor

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_DERIVED = ".rotary_emb.inv_freq"  # old checkpoints store these frequencies, which follow from the configuration
_SCAN_ELEMENTS = 2**22

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""


def inspect_weights(directory: Path, config: DecoderConfig, opener: Opener | None = None) -> Checkpoint:
    """The checkpoint in ``directory``, once every name, shape and dtype has been found to fit ``config``.

    Reads headers only. Raises ``ModelRefused`` naming the file for anything missing, left over or misshapen.
    """
    checkpoint = read_checkpoint(directory, opener)
    kept = {name: info for name, info in checkpoint.tensors.items() if not name.endswith(_DERIVED)}
    checkpoint = replace(checkpoint, tensors=kept)
    _check_rotary(config, directory / CONFIG_FILE)
    _check_against(config, checkpoint)
    return checkpoint


def natural_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """What ``dtype=None`` loads: the dtype of the embedding, except that fp16 widens to fp32."""
    stored = _DTYPES[checkpoint.tensors[_EMBEDDING].dtype]
    return torch.float32 if stored is torch.float16 else stored


def load_decoder(
    directory: Path,
    dtype: torch.dtype | None = None,
    *,
    scan: bool = True,
    progress: Progress | None = None,
    opener: Opener | None = None,
) -> Decoder:
    """The decoder in ``directory``, in evaluation mode, on the CPU.

    ``dtype`` fp32 or bf16 converts; ``None`` keeps what the file has (fp16 widens to fp32). Tensors that need no
    conversion stay in the mapped file; writing to one copies only the page written. ``scan`` reads every weight
    once and refuses NaN and infinity. ``opener``, where given, reads the weight files instead of mapping them.
    """
    config = read_config(directory)
    checkpoint = inspect_weights(directory, config, opener)
    if dtype is None:
        dtype = natural_dtype(checkpoint)
    state: dict[str, Tensor] = {}
    done = 0
    for file in checkpoint.files:
        for name, tensor in _tensors(file, checkpoint.tensors.keys(), opener):
            if scan:
                _refuse_not_finite(tensor, name, file)
            done += tensor.nbytes
            if progress is not None:
                progress(done, checkpoint.bytes)
            misaligned = tensor.data_ptr() % tensor.element_size() != 0  # a file may start a tensor at any byte
            state[name] = tensor.to(dtype, copy=misaligned)
    return _assemble(config, state, checkpoint)


def save_decoder(
    decoder: Decoder,
    directory: Path,
    *,
    dtype: torch.dtype | None = None,
    extra_config: Mapping[str, Any] | None = None,
    shard_bytes_max: int = 4 * 2**30,
) -> None:
    """Write ``config.json`` and safetensors that transformers, and ``load_decoder``, read.

    ``dtype`` fp32 or bf16 converts on the way. ``extra_config`` adds keys such as ``bos_token_id``. Weights beyond
    ``shard_bytes_max`` are split into shards with an index.
    """
    config = decoder.config
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach() for name, tensor in decoder.state_dict().items()}
    if config.tie_embeddings:
        del state[_HEAD]
    if dtype is not None:
        state = {name: tensor.to(dtype) for name, tensor in state.items()}
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    dtype_name = str(state[_EMBEDDING].dtype).removeprefix("torch.")
    described = to_hf(config, dtype_name) | dict(extra_config or {})
    (directory / CONFIG_FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    shards = _shards(state, shard_bytes_max)
    if len(shards) == 1:
        _write(state, directory / WEIGHTS_FILE)
        (directory / INDEX_FILE).unlink(missing_ok=True)
        return
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, start=1):
        file_name = f"model-{i:05}-of-{len(shards):05}.safetensors"
        _write({name: state[name] for name in shard}, directory / file_name)
        weight_map |= dict.fromkeys(shard, file_name)
    total = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (directory / WEIGHTS_FILE).unlink(missing_ok=True)  # it would go before the shards


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    """Replace ``file``, never write into it: these very tensors may be mapped from it."""
    temporary = file.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(file)


def _tensors(file: Path, wanted: Collection[str], opener: Opener | None) -> Iterator[tuple[str, Tensor]]:
    """The ``wanted`` tensors of one file, mapped, not read; with an ``opener`` read, one after the other."""
    if opener is not None:
        with closing(opener(file)) as source:
            for name, entry in read_header(source, file).items():
                if name in wanted:
                    yield name, read_tensor(source, entry, _DTYPES[entry.dtype])
        return
    with open_safetensors(file, "pt") as opened:
        yield from [(name, opened.get_tensor(name)) for name in opened.keys() if name in wanted]  # noqa: SIM118


def _meta_decoder(config: DecoderConfig) -> Decoder:
    """A decoder whose parameters have shapes and no values; its rotary table is real."""
    with torch.device("meta"):
        return Decoder(config).eval()


def _check_rotary(config: DecoderConfig, path: Path) -> None:
    """Refuse rotary settings, each in bounds, that together overflow or divide by zero."""
    try:
        inverse, scale = frequencies(config.rope, config.head_dim, config.max_positions)
        sound = bool(inverse.isfinite().all()) and math.isfinite(scale)
    except (ArithmeticError, ValueError):
        sound = False
    if not sound:
        raise ModelRefused(
            f"{path}: these rotary settings (rope_parameters, rope_scaling, rope_theta) give no finite frequencies.",
            "Compare them with the original's.",
        )


def _check_against(config: DecoderConfig, checkpoint: Checkpoint) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in _meta_decoder(config).state_dict().items()}
    optional = {_HEAD} if config.tie_embeddings else set()
    fix = f"Check that {CONFIG_FILE} and the weights belong to the same model."
    for name, info in checkpoint.tensors.items():
        if name not in expected:
            raise ModelRefused(f"{info.file} has {name}, for which {CONFIG_FILE} has no place.", fix)
        if info.shape != expected[name]:
            seen, wanted = list(info.shape), list(expected[name])
            raise ModelRefused(f"{info.file}: {name} has shape {seen}, but {CONFIG_FILE} asks for {wanted}.", fix)
        if info.dtype not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise ModelRefused(
                f"{info.file}: {name} has dtype {info.dtype}.", f"Only {known} are supported; convert the weights."
            )
    missing = sorted(expected.keys() - checkpoint.tensors.keys() - optional)
    if missing:
        where = checkpoint.index or checkpoint.files[0]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelRefused(f"{where} lacks {missing[0]}{more}, which {CONFIG_FILE} asks for.", fix)


def _refuse_not_finite(tensor: Tensor, name: str, file: Path) -> None:
    flat = tensor.flatten()
    for start in range(0, flat.numel(), _SCAN_ELEMENTS):
        low, high = torch.aminmax(flat[start : start + _SCAN_ELEMENTS])  # NaN and infinity both show in the extremes
        if not (low.isfinite() and high.isfinite()):
            raise ModelRefused(f"{file}: {name} holds NaN or infinity.", "The weights are damaged or diverged.")


def _assemble(config: DecoderConfig, state: dict[str, Tensor], checkpoint: Checkpoint) -> Decoder:
    decoder = _meta_decoder(config)
    if config.tie_embeddings:
        embedding = state[_EMBEDDING]
        if _HEAD in state and not torch.equal(state[_HEAD], embedding):
            raise ModelRefused(
                f"{checkpoint.tensors[_HEAD].file}: {_HEAD} differs from {_EMBEDDING}, but {CONFIG_FILE} ties them.",
                "Set tie_word_embeddings to false if the head is the model's own.",
            )
        state[_HEAD] = embedding
    decoder.load_state_dict(state, assign=True)
    if config.tie_embeddings:
        decoder.lm_head.weight = decoder.model.embed_tokens.weight
    return decoder


def _shards(state: Mapping[str, Tensor], bytes_max: int) -> list[list[str]]:
    """Names in order, each group as large as fits in ``bytes_max`` (a single larger tensor stands alone)."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, tensor in state.items():
        if groups[-1] and size + tensor.nbytes > bytes_max:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += tensor.nbytes
    return groups
