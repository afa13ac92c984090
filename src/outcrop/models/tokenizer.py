"""Text to token ids and back, with a ``tokenizer.json`` of the ``tokenizers`` library.

``token_bytes`` gives what one token stands for, byte by byte, so that a streamed answer can be cut into whole
characters. Two kinds of vocabulary are known: byte-level BPE (GPT-2's printable alphabet for the 256 bytes) and
SentencePiece style (a mark for the space, and ``<0xNN>`` for bytes if the decoder has ``ByteFallback``).

Not covered: a ``tokenizer.json`` may carry regular expressions; a hostile one can make ``encode`` slow. Import only
tokenizers whose source you trust with your CPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from outcrop.base.errors import ModelRefused
from outcrop.models.files import read_json_object

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
GENERATION_CONFIG_FILE = "generation_config.json"

_TOKENIZER_BYTES_MAX = 256 * 2**20
_ANCHOR = "a"
_SENTENCE_PIECE_STEPS = {"ByteFallback", "Fuse", "Metaspace", "Replace", "Strip"}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class _Kind(StrEnum):
    BYTE_LEVEL = "byte-level"
    SENTENCE_PIECE = "sentence-piece"


class Tokenizer:
    """One model's tokenizer. Safe to share between threads."""

    def __init__(
        self,
        rust: RustTokenizer,
        kind: str,
        *,
        bos_token_id: int | None,
        eos_token_ids: frozenset[int],
        strips_leading_space: bool,
        byte_fallback: bool = True,
    ) -> None:
        self._rust = rust
        self._kind = _Kind(kind)
        self._byte_fallback = byte_fallback
        self.bos_token_id = bos_token_id
        self.eos_token_ids = eos_token_ids
        """Any of these ends an answer: what tokenizer, model and generation configuration name, together."""
        self.strips_leading_space = strips_leading_space
        """Whether ``decode`` drops one space at the very start, as SentencePiece tokenizers do."""
        added = rust.get_added_tokens_decoder()
        self._special = frozenset(i for i, token in added.items() if token.special)
        self._added = {i: token.content for i, token in added.items()}
        self.special_texts = frozenset(self._added[i] for i in self._special)
        """How the special tokens are written."""
        self.disguises_special = rust.normalizer is not None and any(added[i].normalized for i in self._special)
        """Whether other writings than ``special_texts`` may become special tokens, since text is normalised first."""
        vocabulary = rust.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        """One more than the highest token id."""

    @classmethod
    def load(cls, directory: Path) -> Tokenizer:
        """The tokenizer in ``directory``, or ``ModelRefused`` naming the file."""
        path = directory / TOKENIZER_FILE
        description = read_json_object(path, _TOKENIZER_BYTES_MAX)
        steps = _steps(description.get("decoder"))
        kind = _kind(steps, path)
        try:
            rust = RustTokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelRefused(f"{path} is not a tokenizer ({error}).", "Copy it again from the original.") from error
        rust.no_truncation()  # a file may carry the settings of its training
        rust.no_padding()
        return cls(
            rust,
            kind,
            bos_token_id=_bos(directory, rust),
            eos_token_ids=_eos(directory, rust),
            strips_leading_space=kind is _Kind.SENTENCE_PIECE and any(map(_strips_start, steps)),
            byte_fallback=any(step.get("type") == "ByteFallback" for step in steps),
        )

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of ``text``. Special tokens written out in ``text`` become their ids."""
        ids: list[int] = self._rust.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def special_spans(self, text: str) -> list[tuple[int, int]]:
        """From and to which character ``encode`` sees special tokens in ``text``."""
        encoding = self._rust.encode(text, add_special_tokens=False)
        return [span for i, span in zip(encoding.ids, encoding.offsets, strict=True) if i in self._special]

    def encode_literal(self, text: str) -> list[int]:
        """Token ids of ``text`` as mere text: what looks like a special token is spelled, never meant."""
        ids: list[int] = self._literal.encode(text, add_special_tokens=False).ids
        if self._special.isdisjoint(ids):
            return ids
        return [i for character in text for i in self._literal.encode(character, add_special_tokens=False).ids]

    @cached_property
    def _literal(self) -> RustTokenizer:
        """A second tokenizer, made when first needed, that is blind to special tokens."""
        literal = RustTokenizer.from_str(self._rust.to_str())
        literal.encode_special_tokens = True
        return literal

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of ``ids``; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._rust.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that ``token_id`` adds to the text; none for special tokens and unknown ids."""
        token: str | None = self._rust.id_to_token(token_id)
        if token is None or token_id in self._special:
            return b""
        if self._kind is _Kind.BYTE_LEVEL:
            if token_id in self._added:  # the library takes its letters for bytes, and so mangles any beyond ASCII
                return self._added[token_id].encode()
            if all(character in _BYTE_OF for character in token):
                return bytes(_BYTE_OF[character] for character in token)
            return token.encode()
        byte = _BYTE_TOKEN.fullmatch(token) if self._byte_fallback else None
        if byte is not None:
            return bytes([int(byte[1], 16)])
        text: str = self._rust.decoder.decode([_ANCHOR, token])  # what starts a text may lose its space
        return text.removeprefix(_ANCHOR).encode()

    def token_text(self, token_id: int) -> str:
        """``token_id`` for people: special tokens by name, others by their bytes (U+FFFD where not UTF-8)."""
        if token_id in self._special:
            return self._added[token_id]
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special


def special_tokens(directory: Path) -> dict[str, str]:
    """The named special tokens of ``directory/tokenizer_config.json``, such as ``bos_token``; absent ones left out."""
    path = directory / TOKENIZER_CONFIG_FILE
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for key, value in read_json_object(path).items():
        if not key.endswith("_token"):
            continue
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[key] = content
    return found


def _byte_of() -> dict[str, int]:
    """GPT-2's alphabet: bytes that print stand for themselves, the others for characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_of()


def _kind(steps: Sequence[Mapping[str, Any]], path: Path) -> _Kind:
    """How the vocabulary spells bytes."""
    types = {str(step.get("type")) for step in steps}
    if "ByteLevel" in types:
        return _Kind.BYTE_LEVEL
    if types & {"ByteFallback", "Metaspace"} and types <= _SENTENCE_PIECE_STEPS:
        return _Kind.SENTENCE_PIECE
    raise ModelRefused(
        f"{path} decodes with {sorted(types) or 'nothing'}.",
        "Byte-level (ByteLevel) and SentencePiece-style (ByteFallback, Metaspace) tokenizers are supported.",
    )


def _steps(decoder: Any) -> list[Mapping[str, Any]]:
    if not isinstance(decoder, dict):
        return []
    nested = decoder.get("decoders") if decoder.get("type") == "Sequence" else [decoder]
    return [step for step in nested if isinstance(step, dict)] if isinstance(nested, list) else []


def _strips_start(step: Mapping[str, Any]) -> bool:
    if step.get("type") == "Strip":
        return bool(step.get("start"))
    return step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never"


def _bos(directory: Path, rust: RustTokenizer) -> int | None:
    token = special_tokens(directory).get("bos_token")
    return None if token is None else rust.token_to_id(token)


def _eos(directory: Path, rust: RustTokenizer) -> frozenset[int]:
    found: set[int] = set()
    for name in (GENERATION_CONFIG_FILE, "config.json"):
        path = directory / name
        if not path.exists():
            continue
        value = read_json_object(path).get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for token_id in ids:
            if not isinstance(token_id, int) or isinstance(token_id, bool) or token_id < 0:
                raise ModelRefused(f"{path}: eos_token_id should be a token id or a list, but is {value!r:.200}.")
            found.add(token_id)
    token = special_tokens(directory).get("eos_token")
    if token is not None and (token_id := rust.token_to_id(token)) is not None:
        found.add(token_id)
    return frozenset(found)
