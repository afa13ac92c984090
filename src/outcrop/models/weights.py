"""Weights in and out: safetensors files, single or sharded, to a ``Decoder`` and back.

Tensors are used where they lie in the memory-mapped file when the dtype already fits, so loading needs no second
copy and several processes share the pages. Every name, shape and dtype is checked against the configuration before
anything is built. Formats that can run code when opened (pickle) are never opened.

Not covered: a file that another process truncates while it is mapped kills this process (SIGBUS); import a model
first, then nobody else writes to it. Quantised weights (8 bits and fewer) are not supported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from outcrop.base.errors import ModelRefused
from outcrop.models.config import DecoderConfig
from outcrop.models.decoder import Decoder
from outcrop.models.files import is_lfs_pointer, read_json_object
from outcrop.models.hf_config import CONFIG_FILE, read_config, to_hf
from outcrop.models.rope import RotaryTable

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_INDEX_BYTES_MAX = 64 * 2**20
_SCAN_ELEMENTS = 2**22

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor: where it lies, its dtype as safetensors spells it, and its shape."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The checked contents of a model directory's weight files."""

    files: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]
    dtype: torch.dtype
    """What ``dtype=None`` loads: that of the embedding, except that fp16 widens to fp32."""

    @property
    def parameters(self) -> int:
        """Elements of all tensors; a tied embedding counts once."""
        return sum(torch.Size(info.shape).numel() for info in self.tensors.values())


def weight_paths(directory: Path) -> tuple[Path, ...]:
    """The weight files of ``directory``, index excluded, by name; refuses where there are none that are safe."""
    if (directory / WEIGHTS_FILE).exists():
        return (directory / WEIGHTS_FILE,)
    if (directory / INDEX_FILE).exists():
        return tuple(sorted({directory / name for name in _weight_map(directory / INDEX_FILE).values()}))
    pickles = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLE_SUFFIXES)
    if pickles:
        raise ModelRefused(
            f"{directory / pickles[0]} is a pickle file, which can run code when it is opened.",
            "Get this model's safetensors files, or convert it where nothing can be harmed: "
            "load it with transformers and save it with save_pretrained(..., safe_serialization=True).",
        )
    raise ModelRefused(
        f"{directory} has neither {WEIGHTS_FILE} nor {INDEX_FILE}.", "Point to a Hugging Face model directory."
    )


def inspect_weights(directory: Path, config: DecoderConfig) -> WeightFiles:
    """What the weight files hold, once every name, shape and dtype has been found to fit ``config``.

    Reads headers only. Raises ``ModelRefused`` naming the file for anything missing, left over or misshapen.
    """
    files = weight_paths(directory)
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        for name, info in _header(file).items():
            if name in tensors:
                raise ModelRefused(f"{file} repeats {name}, which {tensors[name].file.name} has.", _COPY_AGAIN)
            tensors[name] = info
    if files[0].name != WEIGHTS_FILE:
        _check_index(directory / INDEX_FILE, tensors)
    tensors = {name: info for name, info in tensors.items() if not name.endswith(".rotary_emb.inv_freq")}
    _check_against(config, tensors, directory, files)
    stored = _DTYPES[tensors[_EMBEDDING].dtype]
    return WeightFiles(files, tensors, torch.float32 if stored is torch.float16 else stored)


def load_decoder(
    directory: Path, dtype: torch.dtype | None = None, *, scan: bool = True, progress: Progress | None = None
) -> Decoder:
    """The decoder in ``directory``, in evaluation mode, on the CPU.

    ``dtype`` fp32 or bf16 converts; ``None`` keeps what the file has (fp16 widens to fp32). Tensors that need no
    conversion stay in the mapped file; writing to one copies only the page written. ``scan`` reads every weight
    once and refuses NaN and infinity.
    """
    config = read_config(directory)
    weights = inspect_weights(directory, config)
    if dtype is None:
        dtype = weights.dtype
    state: dict[str, Tensor] = {}
    total = sum(file.stat().st_size for file in weights.files)
    done = 0
    for file in weights.files:
        for name, tensor in _tensors(file).items():
            if name not in weights.tensors:
                continue
            if scan:
                _refuse_not_finite(tensor, name, file)
            done += tensor.nbytes
            if progress is not None:
                progress(done, total)
            misaligned = tensor.data_ptr() % tensor.element_size() != 0  # a file may start a tensor at any byte
            state[name] = tensor.to(dtype, copy=misaligned)
    return _assemble(config, state, weights)


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
        save_file(state, directory / WEIGHTS_FILE, metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, start=1):
        file_name = f"model-{i:05}-of-{len(shards):05}.safetensors"
        save_file({name: state[name] for name in shard}, directory / file_name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file_name)
    total = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


_COPY_AGAIN = "Copy the model again from its source."


def _header(file: Path) -> dict[str, TensorInfo]:
    """Names, dtypes and shapes in one safetensors file; safetensors itself checks offsets and the file's length."""
    with _open(file) as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        return {name: TensorInfo(file, s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}


def _tensors(file: Path) -> dict[str, Tensor]:
    """Every tensor of one file, mapped, not read."""
    with _open(file) as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping


def _open(file: Path) -> Any:
    if not file.exists():
        raise ModelRefused(f"{file} is missing.", f"A shard did not arrive: {_COPY_AGAIN}")
    if not file.is_file():
        raise ModelRefused(f"{file} is not a regular file.", _COPY_AGAIN)
    if is_lfs_pointer(file):
        raise ModelRefused(f"{file} is a Git LFS pointer, not the weights.", "Run `git lfs pull` in its directory.")
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelRefused(f"{file} is not a whole safetensors file ({error}).", _COPY_AGAIN) from error


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name to shard name, from an index whose shards are plain safetensors names beside it."""
    weight_map = read_json_object(index, _INDEX_BYTES_MAX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelRefused(f"{index} has no weight_map.", _COPY_AGAIN)
    for name in weight_map.values():
        if not isinstance(name, str) or "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise ModelRefused(
                f"{index} points to {str(name)[:200]!r}.", "Shards must be *.safetensors files beside the index."
            )
    return weight_map


def _check_index(index: Path, tensors: Mapping[str, TensorInfo]) -> None:
    promised = _weight_map(index)
    for name, file in promised.items():
        if name not in tensors:
            raise ModelRefused(f"{index.parent / file} lacks {name}, which {index.name} promises.", _COPY_AGAIN)
        if tensors[name].file.name != file:
            raise ModelRefused(f"{index} places {name} in {file}, but {tensors[name].file.name} has it.", _COPY_AGAIN)
    for name, info in tensors.items():
        if name not in promised:
            raise ModelRefused(f"{info.file} has {name}, which {index.name} does not list.", _COPY_AGAIN)


def _meta_decoder(config: DecoderConfig) -> Decoder:
    with torch.device("meta"):
        return Decoder(config).eval()


def _check_against(
    config: DecoderConfig, tensors: Mapping[str, TensorInfo], directory: Path, files: tuple[Path, ...]
) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in _meta_decoder(config).state_dict().items()}
    optional = {_HEAD} if config.tie_embeddings else set()
    fix = f"Check that {CONFIG_FILE} and the weights belong to the same model."
    for name, info in tensors.items():
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
    missing = sorted(expected.keys() - tensors.keys() - optional)
    if missing:
        where = files[0] if len(files) == 1 else directory / INDEX_FILE
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelRefused(f"{where} lacks {missing[0]}{more}, which {CONFIG_FILE} asks for.", fix)


def _refuse_not_finite(tensor: Tensor, name: str, file: Path) -> None:
    flat = tensor.flatten()
    for start in range(0, flat.numel(), _SCAN_ELEMENTS):
        low, high = torch.aminmax(flat[start : start + _SCAN_ELEMENTS])  # NaN and infinity both show in the extremes
        if not (low.isfinite() and high.isfinite()):
            raise ModelRefused(f"{file}: {name} holds NaN or infinity.", "The weights are damaged or diverged.")


def _assemble(config: DecoderConfig, state: dict[str, Tensor], weights: WeightFiles) -> Decoder:
    decoder = _meta_decoder(config)
    if config.tie_embeddings:
        head = state.setdefault(_HEAD, state[_EMBEDDING])
        if not torch.equal(head, state[_EMBEDDING]):
            raise ModelRefused(
                f"{weights.tensors[_HEAD].file}: {_HEAD} differs from {_EMBEDDING}, but {CONFIG_FILE} ties them.",
                "Set tie_word_embeddings to false if the head is the model's own.",
            )
        state[_HEAD] = state[_EMBEDDING]
    decoder.load_state_dict(state, assign=True)
    if config.tie_embeddings:
        decoder.lm_head.weight = decoder.model.embed_tokens.weight
    decoder.model.rotary = RotaryTable(config)  # the one made on the meta device has no values
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
