"""Examples to tokens, each with whether it is trained: what the assistant says and the token that ends its turn.

The tokens before a reply are exactly those that the service sends when it asks for that reply, and the trained ones
are what the model should then say. Turns of one conversation share a document as long as the template only ever
appends; where it rewrites earlier turns (it drops an old turn's reasoning, say), each reply gets a document of its own.
A model without a chat template learns ``prompt`` and ``completion`` as they stand.

Text in examples never becomes a special token (see ``models.prompt``).

Not covered: training on the caller's turns, or on some replies of a conversation only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from outcrop.base.errors import TemplateRefused, UserError
from outcrop.models.chat import ChatTemplate
from outcrop.models.prompt import encode_chat
from outcrop.models.tokenizer import Tokenizer
from outcrop.training.shards import WEIGHT_UNIT, Document
from outcrop.training.tuning.examples import Example, Message, Problem


class LongDocuments(StrEnum):
    """What becomes of a document with more tokens than a row has."""

    REFUSE = "refuse"
    CUT = "cut"
    """Its beginning goes, so that the end of the last reply, with its stop token, is learned in any case."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as documents (at least one); ``cut_tokens`` were dropped from their beginnings."""

    line: int
    documents: tuple[Document, ...]
    cut_tokens: int = 0

    @property
    def tokens(self) -> int:
        return sum(len(document.tokens) for document in self.documents)

    @property
    def trained_tokens(self) -> int:
        return sum(1 for document in self.documents for weight in document.weights[1:] if weight)


class _NotEncodedError(Exception):
    """An example that cannot be learned; the text is the reason."""


class Encoder:
    """Encodes examples for one model. ``row_tokens`` bounds a document."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        row_tokens: int,
        long_documents: LongDocuments = LongDocuments.REFUSE,
    ) -> None:
        if row_tokens < 2:
            raise UserError(f"Rows of {row_tokens} tokens teach nothing.", "A row has at least 2 tokens.")
        if not tokenizer.eos_token_ids:
            raise UserError("The model's tokenizer names no token that ends an answer.", "Set eos_token_id.")
        self._tokenizer = tokenizer
        self._template = template
        self._row_tokens = row_tokens
        self._long = long_documents

    def encode_all(self, examples: Sequence[Example]) -> tuple[list[Encoded], list[Problem]]:
        """Every example, as tokens or as a problem with its line."""
        made, problems = [], []
        for example in examples:
            try:
                made.append(self._encode(example))
            except _NotEncodedError as error:
                problems.append(Problem(example.line, str(error)))
        return made, problems

    def _encode(self, example: Example) -> Encoded:
        try:
            whole = self._plain(example) if self._template is None else self._chat(self._template, example)
        except TemplateRefused as error:
            raise _NotEncodedError(f"the model's chat template refuses it: {error.what}") from error
        cut = 0
        documents = []
        for tokens, weights in whole:
            too_many = len(tokens) - self._row_tokens
            if too_many > 0 and self._long is LongDocuments.REFUSE:
                raise _NotEncodedError(f"has {len(tokens)} tokens, more than the {self._row_tokens} of a row")
            cut += max(0, too_many)
            documents.append(Document(tokens[max(0, too_many) :], weights[max(0, too_many) :]))
        return Encoded(example.line, tuple(documents), cut)

    def _plain(self, example: Example) -> list[tuple[list[int], list[int]]]:
        if [message.role for message in example.messages] != ["user", "assistant"]:
            raise _NotEncodedError("is a conversation, but the model has no chat template; use prompt and completion")
        prompt = self._tokenizer.encode(example.messages[0].text, add_special_tokens=True)
        reply = [*self._tokenizer.encode_literal(example.messages[1].text), min(self._tokenizer.eos_token_ids)]
        if prompt and prompt[-1] in self._tokenizer.eos_token_ids:
            prompt.pop()  # some tokenizers end every text
        return [(prompt + reply, [0] * len(prompt) + [WEIGHT_UNIT] * len(reply))]

    def _chat(self, template: ChatTemplate, example: Example) -> list[tuple[list[int], list[int]]]:
        documents: list[tuple[list[int], list[int]]] = []
        tokens: list[int] = []
        weights: list[int] = []
        for index, message in enumerate(example.messages):
            if message.role != "assistant":
                continue
            before = [{"role": m.role, "content": m.text} for m in example.messages[:index]]
            prompt = encode_chat(template, self._tokenizer, before, add_generation_prompt=True)
            turn = [*before, {"role": "assistant", "content": message.text}]
            after = encode_chat(template, self._tokenizer, turn, add_generation_prompt=False)
            reply = self._reply(prompt, after, message)
            if tokens and prompt[: len(tokens)] == tokens:
                weights += [0] * (len(prompt) - len(tokens))
            else:
                if tokens:
                    documents.append((tokens, weights))
                weights = [0] * len(prompt)
            tokens = prompt + reply
            weights = weights + [WEIGHT_UNIT] * len(reply)
        return [*documents, (tokens, weights)]

    def _reply(self, prompt: list[int], after: list[int], message: Message) -> list[int]:
        """The tokens of a reply with its stop token, as they follow ``prompt``."""
        stops = self._tokenizer.eos_token_ids
        end = max((at for at, token in enumerate(after) if token in stops), default=-1)
        if after[: len(prompt)] == prompt and end >= len(prompt):
            return after[len(prompt) : end + 1]
        if end < 0:
            raise _NotEncodedError("the model's chat template writes no stop token after a reply")
        # The prompt asks in other words than the turn is told (an opened thought, say), or the cut falls elsewhere.
        return [*self._tokenizer.encode_literal(message.text), after[end]]
