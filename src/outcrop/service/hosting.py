"""Models at work: which id means which model, and one engine for each model that is in use.

Of a caller nothing is known here but the account: a model with an owner exists for that account only, and is to all
others what an unknown name is, found out in the same way. A model is loaded at its first use (the default one at
start), in a worker thread, once however many ask at the same time.

Not covered: a model id that is taken cannot be imported again, which tells an operator that there is such a model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.base.arn import AccountId, Arn, Scope
from outcrop.base.clock import Clock
from outcrop.base.errors import ModelRefused, NotFound, PromptTooLong, UserError
from outcrop.inference.base import Engine, EngineConfig
from outcrop.models.prompt import encode_chat, encode_chat_async
from outcrop.models.registry import LoadedModel, ModelInfo, ModelRegistry
from outcrop.service.isolation import CacheScopes

DEFAULT_MODEL_ID = "outcrop.pebble-v1:0"
GEOGRAPHIES = {"us": "us", "eu": "eu", "ap": "apac"}
"""Region prefixes and the prefix of the inference profiles that serve them (Bedrock user guide, "Supported
Regions and models for inference profiles"); any other region's own first part stands for itself."""

LONG_PROMPT_CHARACTERS = 32_768
"""Prompts longer than this are tokenised in a thread, so that other requests are not held up."""

KNOWN_FOR_S = 1.0
KNOWN_NAMES_MAX = 1024


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What a request leaves open; read from the model's ``generation_config.json``."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    @classmethod
    def read(cls, directory: Path) -> GenerationDefaults:
        path = directory / "generation_config.json"
        config = json.loads(path.read_bytes()) if path.is_file() else {}
        if not config.get("do_sample", True):
            return cls(temperature=0.0)
        return cls(
            temperature=float(config.get("temperature") or 1.0),
            top_p=float(config.get("top_p") or 1.0),
            top_k=int(config.get("top_k") or 0),
        )


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model with its engine: messages to token ids, token ids to text."""

    loaded: LoadedModel
    engine: Engine
    scopes: CacheScopes
    defaults: GenerationDefaults
    prompt_characters_max: int
    """What the context window holds where every token is the longest one. Longer text is refused unseen: a tokenizer
    spends minutes, and gigabytes, on the 25 MB that a body may have."""

    @property
    def info(self) -> ModelInfo:
        return self.loaded.info

    def cache_scope(self, account: AccountId) -> bytes:
        """Whose prefixes a request of ``account`` may share in the engine's cache."""
        return self.scopes.scope(account, self.info.model_id)

    async def prompt(self, messages: Sequence[Mapping[str, object]]) -> tuple[int, ...]:
        """Token ids of a conversation, ready for the model to answer. May raise ``TemplateRefused``."""
        if self.loaded.template is None:
            raise UserError(
                f"Model {self.info.model_id} has no chat template.",
                "Import it again with a chat_template, or send a plain prompt to its InvokeEndpoint.",
            )
        characters = sum(len(str(message["content"])) for message in messages)
        self._check_length(characters)
        if characters > LONG_PROMPT_CHARACTERS:
            return tuple(await asyncio.to_thread(encode_chat, self.loaded.template, self.loaded.tokenizer, messages))
        return tuple(await encode_chat_async(self.loaded.template, self.loaded.tokenizer, messages))

    def plain_prompt(self, text: str) -> tuple[int, ...]:
        """Token ids of text to continue as it is."""
        self._check_length(len(text))
        return tuple(self.loaded.tokenizer.encode(text, add_special_tokens=True))

    def _check_length(self, characters: int) -> None:
        if characters > self.prompt_characters_max:
            raise PromptTooLong(
                f"The prompt has {characters} characters; {self.prompt_characters_max} is the most that can fit.",
                "Shorten the prompt.",
            )


EngineFactory = Callable[[LoadedModel], Engine]


def paged_engines(config: EngineConfig) -> EngineFactory:
    """Engines that compute; imported here so that a service over other engines needs no PyTorch."""

    def make(loaded: LoadedModel) -> Engine:
        from outcrop.inference.engine import PagedEngine  # noqa: PLC0415

        return PagedEngine(loaded.decoder, loaded.tokenizer, config)

    return make


class ModelHost:
    """Resolves the names that callers use and keeps one engine per model."""

    def __init__(
        self,
        registry: ModelRegistry,
        scope: Scope,
        engines: EngineFactory,
        clock: Clock,
        *,
        keeps: Callable[[AccountId], bool] = lambda account: True,
    ) -> None:
        """``keeps`` says of an account whether what was computed for its prompts may outlast the request."""
        self._registry = registry
        self._scope = scope
        self._engines = engines
        self._clock = clock
        self._scopes = CacheScopes(keeps)
        self._served: dict[tuple[str, int], asyncio.Task[ServedModel]] = {}
        self._known: dict[tuple[str, AccountId | None], tuple[float, ModelInfo, int]] = {}

    @property
    def scope(self) -> Scope:
        return self._scope

    def models(self, account: AccountId | None = None) -> list[ModelInfo]:
        """Every model that ``account`` can use, the bundled ones first; without one, those that are for everybody."""
        return [info for info in self._registry.list() if info.owner is None or info.owner == account]

    def model_arn(self, info: ModelInfo) -> Arn:
        """The ARN of a model: an imported model of its owner's account, or a foundation model."""
        if info.owner is None:
            return self._scope.foundation_model_arn(info.model_id)
        return Arn(
            self._scope.partition, "bedrock", self._scope.region, info.owner, f"imported-model/{info.resource_id}"
        )

    def profile_id(self, model_id: str) -> str:
        """The id of the system-defined inference profile of a model: its id behind this region's geography."""
        first = self._scope.region.partition("-")[0]
        return f"{GEOGRAPHIES.get(first, first)}.{model_id}"

    def profile_arn(self, model_id: str) -> str:
        return str(self._scope.arn("bedrock", f"inference-profile/{self.profile_id(model_id)}"))

    def resolve(self, name: str, account: AccountId | None = None) -> ModelInfo:
        """The model that ``name`` stands for to ``account``, or ``NotFound``.

        ``name`` is a model id, an alias, an inference profile id, or the ARN of a foundation model or an inference
        profile of this partition, region and account; or the ARN of an imported model. Somebody else's model is looked
        up as a name that nobody has is, and ends in the same error.
        """
        info = self._of_arn(name) if name.startswith("arn:") else self._of_id(name)
        if info is None or info.owner not in (None, account):
            raise NotFound(f"There is no model {name!r}.", "`outcrop models list` shows what there is.")
        return info

    def _of_id(self, text: str) -> ModelInfo | None:
        return self._of_profile(text) or self._registry.find(text)

    def _of_profile(self, text: str) -> ModelInfo | None:
        """Every model for everybody has an inference profile; a model with an owner has none."""
        model_id = text.removeprefix(self.profile_id(""))
        info = self._registry.find(model_id)
        return info if info is not None and info.owner is None else None

    def _of_arn(self, text: str) -> ModelInfo | None:
        arn = Arn.parse(text)
        if arn.resource_type == "imported-model":
            owned = (info for info in self._registry.list() if info.owner is not None)
            return next((info for info in owned if self.model_arn(info) == arn), None)
        here = {
            "foundation-model": self._scope.foundation_model_arn(arn.resource_id),
            "inference-profile": self._scope.arn("bedrock", arn.resource),
        }
        return self._of_profile(arn.resource_id) if here.get(arn.resource_type) == arn else None

    async def get(self, name: str, account: AccountId | None = None) -> ServedModel:
        """The model that ``name`` is to ``account``, loaded. ``NotFound`` for unknown names.

        A model removed and imported anew under its old id is loaded anew; what the old one was answering goes on,
        and its memory is held until the service ends.
        """
        info, version = await self._recently_resolved(name, account)
        task = self._served.get((info.model_id, version))
        if task is None or (task.done() and task.exception() is not None):
            task = asyncio.create_task(asyncio.to_thread(self._load, info), name=f"load {info.model_id}")
            self._served[(info.model_id, version)] = task
        # Shielded: a caller that goes away must not stop the load that others wait for.
        return await asyncio.shield(task)

    async def _recently_resolved(self, name: str, account: AccountId | None) -> tuple[ModelInfo, int]:
        """As ``resolve``, but the disk is asked once a second at most: names are resolved with every request.

        The number tells imports of one id apart. The key of a sealed model must be usable each time. Only what was
        found is remembered, and for its account only: what does not exist and what is somebody else's take the same
        way every time.
        """
        now_s = self._clock.monotonic_s()
        known = self._known.get((name, account))
        if known is None or known[0] < now_s:
            if len(self._known) >= KNOWN_NAMES_MAX:
                self._known.clear()
            info = self.resolve(name, account)
            if info.sealed:
                await asyncio.to_thread(self._registry.check_unsealed, info)
            known = self._known[(name, account)] = (now_s + KNOWN_FOR_S, info, info.directory.stat().st_mtime_ns)
        return known[1:]

    def _load(self, info: ModelInfo) -> ServedModel:
        loaded = self._registry.load(info.model_id)
        try:
            defaults = GenerationDefaults.read(info.directory)
        except (ValueError, TypeError) as error:
            raise ModelRefused(
                f"{info.directory / 'generation_config.json'} cannot be read: {error}.", "Mend or delete the file."
            ) from error
        engine, tokenizer = self._engines(loaded), loaded.tokenizer
        longest_token = max(len(tokenizer.token_text(token_id)) for token_id in range(tokenizer.vocab_size))
        return ServedModel(loaded, engine, self._scopes, defaults, engine.max_context_tokens * longest_token)

    async def close(self) -> None:
        """Stop every engine."""
        for task in self._served.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                await task.result().engine.close()
        self._served.clear()
