"""One request while the engine works on it: its tokens, its text so far, and how it ends."""

from __future__ import annotations

import asyncio
import random

from outcrop.inference.base import Completed, FinishReason, GenerationRequest, TextDelta, TokenLogprob
from outcrop.inference.detokenise import Detokeniser, Vocabulary
from outcrop.inference.sampling import Choice
from outcrop.inference.scheduler import Sequence
from outcrop.inference.stops import TextStream

Item = TextDelta | Completed | Exception


class Answer(Sequence):
    """A sequence with everything that is its request's own, and where its results go.

    Output tokens count every token chosen, the end-of-sequence token too.
    """

    def __init__(
        self, request: GenerationRequest, vocabulary: Vocabulary, max_context_tokens: int, started_s: float
    ) -> None:
        prompt, sampling = request.prompt_token_ids, request.sampling
        longest = min(len(prompt) + sampling.max_tokens, max_context_tokens)
        super().__init__(list(prompt), longest, request.cache_scope, request.adapter)
        self.sampling = sampling
        self.random = random.Random(sampling.seed)  # noqa: S311 - sampling is no secret
        self.loop = asyncio.get_running_loop()
        self.items: asyncio.Queue[Item] = asyncio.Queue()
        self._input_tokens = len(prompt)
        self._output_tokens = 0
        self._vocabulary = vocabulary
        self._detokeniser = Detokeniser(vocabulary)
        self._stream = TextStream(sampling.stop_sequences)
        self._started_s = started_s
        self._first_token_s = 0.0

    def accept(self, choice: Choice, now_s: float) -> list[TextDelta | Completed]:
        """Take the next token; what the caller gets to see. The last item of an answer is ``Completed``."""
        self._output_tokens += 1
        if self._output_tokens == 1:
            self._first_token_s = now_s - self._started_s
        items: list[TextDelta | Completed | None] = []
        if choice.token_id in self._vocabulary.eos_token_ids:
            reason: FinishReason | None = FinishReason.END_TURN
        else:
            self.token_ids.append(choice.token_id)
            items.append(self._stream.feed(self._detokeniser.feed(choice.token_id), self._logprob(choice)))
            reason = self._reason()
        if reason is not None:
            if reason is not FinishReason.STOP_SEQUENCE:
                items.append(self._stream.finish(self._detokeniser.flush()))
            items.append(self._completed(reason, now_s))
        return [item for item in items if item is not None]

    def _reason(self) -> FinishReason | None:
        if self._stream.stopped is not None:
            return FinishReason.STOP_SEQUENCE
        if self._output_tokens == self.sampling.max_tokens:
            return FinishReason.MAX_TOKENS
        return FinishReason.CONTEXT_WINDOW if len(self.token_ids) == self.max_length else None

    def _completed(self, reason: FinishReason, now_s: float) -> Completed:
        return Completed(
            reason,
            self._input_tokens,
            self._output_tokens,
            self._stream.stopped,
            first_token_s=self._first_token_s,
            total_s=now_s - self._started_s,
            cached_tokens=self.cached_tokens or 0,
        )

    def _logprob(self, choice: Choice) -> TokenLogprob | None:
        if choice.logprob is None:
            return None
        top = tuple(self._token_logprob(token_id, logprob) for token_id, logprob in choice.top)
        return self._token_logprob(choice.token_id, choice.logprob, top)

    def _token_logprob(self, token_id: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        text, raw = self._vocabulary.token_text(token_id), self._vocabulary.token_bytes(token_id)
        return TokenLogprob(token_id, text, raw, logprob, top)
