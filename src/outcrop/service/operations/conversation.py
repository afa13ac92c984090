"""What every family's request comes down to: turns of text, how to sample, and one running generation."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal

from outcrop.base.errors import NotFound, check
from outcrop.inference.base import Completed, Generation, GenerationRequest, SamplingParams, TextDelta, TokenLogprob
from outcrop.service.admission import Visit
from outcrop.service.faults import INVALID_MODEL, invalid
from outcrop.service.hosting import ModelHost, ServedModel
from outcrop.service.operations.base import Caller


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, its text blocks already joined."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a request asked for; ``None`` takes the model's own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop_sequences: tuple[str, ...] = ()
    logprobs: int | None = None

    def params(self, model: ServedModel) -> SamplingParams:
        defaults = model.defaults
        return SamplingParams(
            max_tokens=model.engine.max_context_tokens if self.max_tokens is None else self.max_tokens,
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=defaults.top_p if self.top_p is None else self.top_p,
            top_k=defaults.top_k if self.top_k is None else self.top_k,
            seed=self.seed,
            stop_sequences=self.stop_sequences,
            logprobs=self.logprobs,
        )


async def find_model(host: ModelHost, name: str, caller: Caller) -> ServedModel:
    """The model that ``name`` is to ``caller``, or the real service's answer to an unknown one.

    The call counts as one request to it from here on, whatever becomes of it.
    """
    try:
        model = await host.get(name, caller.principal.account)
    except NotFound:
        raise invalid(INVALID_MODEL) from None
    caller.visit.begin(model.info.model_id)
    return model


async def prompt_of(model: ServedModel, turns: Sequence[Turn]) -> tuple[int, ...]:
    """Token ids of a conversation that the model is to answer."""
    return await model.prompt([{"role": turn.role, "content": turn.text} for turn in turns])


class Running:
    """A generation whose first event is in: what can be refused has been, so a stream may begin.

    Iterate it once. ``aclose`` cancels the engine's work, also before the first iteration.
    """

    def __init__(self, generation: Generation, first: TextDelta | Completed) -> None:
        self._generation = generation
        self._first: TextDelta | Completed | None = first

    def __aiter__(self) -> Running:
        return self

    def __anext__(self) -> Awaitable[TextDelta | Completed]:
        # Not a coroutine itself, which would be one more to resume with every event of every stream.
        return self._generation.__anext__() if self._first is None else self._take_first(self._first)

    async def _take_first(self, first: TextDelta | Completed) -> TextDelta | Completed:
        self._first = None
        return first

    async def aclose(self) -> None:
        await self._generation.aclose()


async def start(model: ServedModel, caller: Caller, prompt: tuple[int, ...], sampling: Sampling) -> Running:
    """Begin to generate; returns with the first event, or raises what the gate or the engine refuses."""
    scope = model.cache_scope(caller.principal.account)
    params = sampling.params(model)
    request = GenerationRequest(caller.request_id, prompt, params, cache_scope=scope)
    room = max(0, model.engine.max_context_tokens - len(prompt))
    await caller.visit.reserve(len(prompt), min(params.max_tokens, room))
    generation = _metered(model.engine.generate(request), caller.visit)
    return Running(generation, await anext(generation))


async def _metered(generation: Generation, visit: Visit) -> Generation:
    """The same events, counted; what was reserved is settled at the end, also where nobody reads on."""
    try:
        async for event in generation:
            if isinstance(event, TextDelta):
                visit.spent(event.tokens)
            yield event
    finally:
        await generation.aclose()
        visit.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole generation."""

    text: str
    completed: Completed
    logprobs: tuple[TokenLogprob, ...] = ()


async def answer(model: ServedModel, caller: Caller, prompt: tuple[int, ...], sampling: Sampling) -> Answer:
    """Generate to the end."""
    running = await start(model, caller, prompt, sampling)
    texts: list[str] = []
    logprobs: list[TokenLogprob] = []
    completed: Completed | None = None
    try:
        async for event in running:
            if isinstance(event, Completed):
                completed = event
            else:
                texts.append(event.text)
                logprobs.extend(event.logprobs)
    finally:
        await running.aclose()
    check(completed is not None, "a generation ends with Completed")
    assert completed is not None
    return Answer("".join(texts), completed, tuple(logprobs))
