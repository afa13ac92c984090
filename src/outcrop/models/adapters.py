"""LoRA adapters on a decoder's projections: attached, merged, and in and out of PEFT's format.

An adapter adds ``scale * B A dropout(x)`` to the output of chosen projections (Hu et al. 2021, arXiv 2106.09685);
``scale`` is ``alpha / rank``, or ``alpha / sqrt(rank)`` with ``rslora`` (Kalajdzievski 2023, arXiv 2312.03732). Its
parameters are its own: the decoder's modules, names and weights stay as they are, and several adapters can share one.
A directory holds ``adapter_config.json`` and ``adapter_model.safetensors`` as PEFT writes and reads them.

Not covered: adapters of embeddings and of the output head, biases, DoRA, ranks that differ from layer to layer,
initialisations that change the base weights, and PEFT's other methods: all refused by name. ``adapter_model.bin`` is
never opened, since it can run code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from outcrop.base.errors import ModelRefused, UserError, check
from outcrop.base.files import write_atomic
from outcrop.models.checkpoint import open_safetensors
from outcrop.models.decoder import Decoder
from outcrop.models.files import read_json_object

ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"

ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_TARGETS = ("gate_proj", "up_proj", "down_proj")
ALL_TARGETS = ATTENTION_TARGETS + MLP_TARGETS

_PREFIX = "base_model.model."
_RANK_MAX = 1024
_USED = {"peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "bias", "init_lora_weights"}
_HARMLESS = {
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "megatron_core",
    "qalora_group_size",
    "ensure_weight_tying",
}
"""Keys that change nothing about what the tensors mean. Any other key may only say that its feature is off."""
_PLAIN_INITIALISATIONS = (True, False, "gaussian", "orthogonal")


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """What an adapter is. ``targets`` are names of projections, the same ones in every layer."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ALL_TARGETS
    rslora: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= _RANK_MAX:
            raise UserError(f"A LoRA rank of {self.rank} is not possible.", f"Choose 1 to {_RANK_MAX}.")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise UserError(f"A LoRA alpha of {self.alpha:g} is not possible.", "Choose a positive number.")
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"A LoRA dropout of {self.dropout:g} is not possible.", "Choose 0 or more, below 1.")
        unknown = sorted(set(self.targets) - set(ALL_TARGETS))
        if unknown or not self.targets:
            seen = ", ".join(unknown) or "nothing"
            raise UserError(f"LoRA cannot target {seen}.", f"Choose of {', '.join(ALL_TARGETS)}.")

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class _LowRank(nn.Module):
    """The two matrices of one projection, named as PEFT names them."""

    def __init__(self, inputs: int, outputs: int, config: LoraConfig) -> None:
        super().__init__()
        self.lora_A = nn.Linear(inputs, config.rank, bias=False)
        self.lora_B = nn.Linear(config.rank, outputs, bias=False)
        self._scale = config.scale
        self._dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.lora_A.weight.dtype)
        if self._dropout:
            x = functional.dropout(x, self._dropout, self.training)
        out: Tensor = self.lora_B(self.lora_A(x) * self._scale)  # scaled where it is narrowest
        return out

    def delta(self) -> Tensor:
        """What the adapter adds to the projection's weight, in fp32."""
        return self.lora_B.weight.detach().float() @ self.lora_A.weight.detach().float() * self._scale


class LoraAdapter(nn.Module):
    """One adapter, made for one shape of decoder. fp32; B starts at zero, so a new one changes nothing.

    ``seed`` draws A as PEFT does (uniform, Kaiming's bound for a = sqrt 5), though not the same numbers.
    """

    def __init__(self, decoder: Decoder, config: LoraConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self._at: dict[str, _LowRank] = {}
        generator = torch.Generator().manual_seed(seed)
        device = decoder.model.embed_tokens.weight.device
        for path, linear in _projections(decoder, config.targets):
            with torch.device("meta"):
                pair = _LowRank(linear.in_features, linear.out_features, config)
            pair.to_empty(device="cpu")
            nn.init.kaiming_uniform_(pair.lora_A.weight, a=math.sqrt(5), generator=generator)
            nn.init.zeros_(pair.lora_B.weight)
            self._at[path] = pair.to(device)
            self.add_module(path.replace(".", "/"), self._at[path])  # a module's name may have no dot

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @contextmanager
    def attached(self, decoder: Decoder) -> Iterator[None]:
        """The decoder computes with this adapter inside the block, and without it after."""
        handles = [_linear(decoder, path).register_forward_hook(_adding(pair)) for path, pair in self._paired(decoder)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def merged(self, decoder: Decoder) -> Iterator[None]:
        """The adapter is part of the decoder's weights inside the block; after it the very same weights are back.

        The first weights are kept, not computed back: unmerging is exact, and costs the memory of the targets.
        """
        before = {path: _linear(decoder, path).weight for path, _ in self._paired(decoder)}
        try:
            self.merge(decoder)
            yield
        finally:
            for path, weight in before.items():
                _linear(decoder, path).weight = weight

    def merge(self, decoder: Decoder) -> None:
        """Add the adapter to the decoder's weights for good. The old tensors are replaced, never written to.

        Raises ``ModelRefused``, with the decoder untouched, where a sum is not finite.
        """
        made: dict[str, Tensor] = {}
        for path, pair in self._paired(decoder):
            weight = _linear(decoder, path).weight
            made[path] = (weight.detach().float() + pair.delta()).to(weight.dtype)
            if not bool(made[path].isfinite().all()):
                raise ModelRefused(f"{path} with the adapter merged holds NaN or infinity.", "The adapter diverged.")
        for path, value in made.items():
            linear = _linear(decoder, path)
            linear.weight = nn.Parameter(value, requires_grad=linear.weight.requires_grad)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by PEFT's names."""
        return {
            f"{_PREFIX}{path}.{name}.weight": getattr(pair, name).weight.detach()
            for path, pair in self._at.items()
            for name in ("lora_A", "lora_B")
        }

    def _paired(self, decoder: Decoder) -> list[tuple[str, _LowRank]]:
        for path, pair in self._at.items():
            linear = _linear(decoder, path)
            fits = pair.lora_A.in_features == linear.in_features and pair.lora_B.out_features == linear.out_features
            check(fits, f"the adapter was made for a decoder of this shape ({path})")
        return list(self._at.items())


def merge_error(decoder: Decoder, adapter: LoraAdapter, logits_of: Callable[[Decoder], Tensor]) -> float:
    """The largest difference of a logit between the attached and the merged adapter; ``logits_of(decoder)`` computes.

    What rounding to the decoder's dtype costs. In fp32 about 1e-5 for logits of the size of 10.
    """
    with torch.inference_mode(False), torch.no_grad():
        with adapter.attached(decoder):
            apart: Tensor = logits_of(decoder)
        with adapter.merged(decoder):
            together: Tensor = logits_of(decoder)
    return float((apart.float() - together.float()).abs().max())


def save_adapter(adapter: LoraAdapter, directory: Path, base_model: str | None = None) -> None:
    """Write the adapter as PEFT would. ``base_model`` is named in the configuration; nothing reads it here."""
    c = adapter.config
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": c.rank,
        "lora_alpha": int(c.alpha) if c.alpha == int(c.alpha) else c.alpha,
        "lora_dropout": c.dropout,
        "target_modules": list(c.targets),
        "use_rslora": c.rslora,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in adapter.tensors().items()}
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / ADAPTER_WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    write_atomic(directory / ADAPTER_CONFIG_FILE, (json.dumps(described, indent=2) + "\n").encode())


def load_adapter(directory: Path, decoder: Decoder) -> LoraAdapter:
    """The adapter in ``directory``, in evaluation mode, or ``ModelRefused`` naming what does not fit ``decoder``."""
    path = directory / ADAPTER_CONFIG_FILE
    raw = read_json_object(path)
    file = directory / ADAPTER_WEIGHTS_FILE
    with open_safetensors(file, "pt") as opened:
        stored: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    config = _parse(raw, path, stored)
    adapter = LoraAdapter(decoder, config).eval()
    fix = f"Check that {ADAPTER_CONFIG_FILE}, the weights and the base model belong together."
    wanted = adapter.tensors()
    for name, tensor in stored.items():
        if name not in wanted:
            raise ModelRefused(f"{file} has {name}, for which the base model and {path.name} have no place.", fix)
        if tensor.shape != wanted[name].shape:
            seen, asked = list(tensor.shape), list(wanted[name].shape)
            raise ModelRefused(f"{file}: {name} has shape {seen}, but {asked} is needed.", fix)
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise ModelRefused(f"{file}: {name} holds something else than finite numbers.", "The adapter is damaged.")
    if missing := sorted(wanted.keys() - stored.keys()):
        raise ModelRefused(f"{file} lacks {missing[0]}, and {len(missing) - 1} more.", fix)
    for name, tensor in stored.items():
        wanted[name].copy_(tensor)
    return adapter


def _parse(raw: Mapping[str, Any], path: Path, stored: Mapping[str, Tensor]) -> LoraConfig:
    if raw.get("peft_type") != "LORA":
        raise ModelRefused(f"{path}: peft_type is {raw.get('peft_type')!r:.40}.", "Only LORA is supported.")
    for key, value in raw.items():
        is_off = value in (None, False, "none") or value in ({}, [])
        if key == "bias":
            is_off = value == "none"
        elif key == "init_lora_weights":
            is_off = value in _PLAIN_INITIALISATIONS
        elif key in _USED or key in _HARMLESS:
            continue
        if not is_off:
            raise ModelRefused(f"{path}: {key} is {value!r:.80}.", "This feature of PEFT is not supported.")
    numbers = {key: raw.get(key, default) for key, default in (("r", 8), ("lora_alpha", 8), ("lora_dropout", 0.0))}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or (key == "r" and not isinstance(value, int)):
            raise ModelRefused(f"{path}: {key} is {value!r:.40}, not a number.", "Compare it with the original's.")
    named = {name.removeprefix(_PREFIX).split(".")[-3] for name in stored if name.count(".") >= 3}
    targets = tuple(target for target in ALL_TARGETS if target in named)
    try:
        return LoraConfig(
            int(numbers["r"]), float(numbers["lora_alpha"]), float(numbers["lora_dropout"]), targets,
            rslora=raw.get("use_rslora") is True,
        )  # fmt: skip
    except UserError as error:
        raise ModelRefused(f"{path}: {error.what}", error.remedy) from error


def _projections(decoder: Decoder, targets: tuple[str, ...]) -> Iterator[tuple[str, nn.Linear]]:
    for path, module in decoder.named_modules():
        if isinstance(module, nn.Linear) and path.startswith("model.layers.") and path.rpartition(".")[2] in targets:
            yield path, module


def _linear(decoder: Decoder, path: str) -> nn.Linear:
    module = decoder.get_submodule(path)
    assert isinstance(module, nn.Linear)
    return module


def _adding(pair: _LowRank) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added: Tensor = pair(inputs[0])
        return output + added.to(output.dtype)

    return add
