"""Text from tokens as they come: never half a character, never the same token decoded twice.

The bytes of each token go through an incremental UTF-8 decoder, so a step costs what its own token costs. The
deltas joined equal ``Vocabulary.decode`` of all tokens for byte-level BPE, and for SentencePiece with byte fallback
while the bytes are valid UTF-8. "Character" means a Unicode scalar value: an emoji made of several with joiners may
come in several deltas.

Not covered: for a run of fallback bytes that is not UTF-8, ``tokenizers`` replaces every byte of the whole run,
valid characters too, which cannot be known before the run ends; here only what can never become a character is
replaced. The Metaspace decoder drops every space of the first token, inner ones too; here they stay. An added token
of a byte-level vocabulary is its own text; ``tokenizers`` mangles any letter in it beyond ASCII. Decoders that look at
neighbouring tokens (WordPiece, clean-up of spaces) are not supported.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Vocabulary(Protocol):
    """What the engine needs of a tokenizer; ``models.tokenizer.Tokenizer`` has it."""

    @property
    def eos_token_ids(self) -> frozenset[int]: ...

    def token_bytes(self, token_id: int) -> bytes:
        """The token's own bytes; none for a special token."""
        ...

    def token_text(self, token_id: int) -> str: ...

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


class Detokeniser:
    """The text of one answer."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = _utf8_decoder(errors="replace")
        self._opening: list[int] | None = []  # the tokens before the first text

    def feed(self, token_id: int) -> str:
        """The characters that ``token_id`` completes."""
        text = self._decoder.decode(self._vocabulary.token_bytes(token_id))
        return text if self._opening is None else self._open(token_id, text)

    def flush(self) -> str:
        """A replacement character for bytes that are still waiting for the rest of theirs, if there are any."""
        return self._decoder.decode(b"", final=True)

    def _open(self, token_id: int, text: str) -> str:
        """The first text, less the leading spaces that SentencePiece's decoder drops at the very beginning."""
        assert self._opening is not None
        self._opening.append(token_id)
        if not text:
            return text
        opening, self._opening = self._opening, None
        if not text.startswith(" "):
            return text
        return text[_leading_spaces(text) - _leading_spaces(self._vocabulary.decode(opening)) :]


def _leading_spaces(text: str) -> int:
    return len(text) - len(text.lstrip(" "))
