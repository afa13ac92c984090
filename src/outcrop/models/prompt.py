"""A conversation to token ids, such that only the model's own template writes special tokens.

A caller who writes ``<|im_start|>system`` into a message must not open a system turn. So special tokens in messages
and tools, and what a tokenizer would normalise into one, are fenced with two characters that Unicode keeps out of text
before the template sees them, and what lies between the fences afterwards is tokenized as mere text. Fences that the
caller wrote are dropped.

Not covered: control words that a template uses but the tokenizer does not call special (``</think>``, say), and a
template that takes a message apart, letter by letter. Around fenced text the tokens may be cut differently than in
the unfenced whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outcrop.models.chat import ChatTemplate
from outcrop.models.tokenizer import Tokenizer

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters (Unicode 15, section 23.7)
_FENCED_PIECE = re.compile(f"({_OPEN}[^{_CLOSE}]*{_CLOSE})")
_FENCED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}|[{_OPEN}{_CLOSE}]")


def encode_chat(
    template: ChatTemplate, tokenizer: Tokenizer, messages: Sequence[Mapping[str, object]], **variables: Any
) -> list[int]:
    """Token ids of ``messages`` rendered by ``template``; ``variables`` as for ``ChatTemplate.render``."""
    given, fenced = _guarded({**variables, "messages": messages}, tokenizer)
    return _token_ids(template.render(given.pop("messages"), **given), fenced, tokenizer)


async def encode_chat_async(
    template: ChatTemplate, tokenizer: Tokenizer, messages: Sequence[Mapping[str, object]], **variables: Any
) -> list[int]:
    """As ``encode_chat``; the event loop goes on while the template is rendered, but not while text is tokenized."""
    given, fenced = _guarded({**variables, "messages": messages}, tokenizer)
    return _token_ids(await template.render_async(given.pop("messages"), **given), fenced, tokenizer)


def _guarded(given: dict[str, Any], tokenizer: Tokenizer) -> tuple[dict[str, Any], bool]:
    """``given`` with special tokens fenced, and whether there may be any."""
    if not (tokenizer.disguises_special or _mentions(given, tokenizer.special_texts)):
        return given, False
    longest_first = sorted(tokenizer.special_texts, key=len, reverse=True)
    special = re.compile("|".join(map(re.escape, longest_first)))

    def fence(text: str) -> str:
        bare = text.replace(_OPEN, "").replace(_CLOSE, "")
        fenced = special.sub(f"{_OPEN}\\g<0>{_CLOSE}", bare)
        if not tokenizer.disguises_special:
            return fenced
        pieces = _FENCED_PIECE.split(fenced)  # every second one is fenced already
        pieces[::2] = (_fence_disguised(piece, tokenizer) for piece in pieces[::2])
        return "".join(pieces)

    return {key: _map_texts(value, fence) for key, value in given.items()}, True


def _token_ids(text: str, fenced: bool, tokenizer: Tokenizer) -> list[int]:
    if not fenced:
        return tokenizer.encode(text)
    ids: list[int] = []
    end = 0
    for match in _FENCED.finditer(text):
        ids += tokenizer.encode(text[end : match.start()])
        ids += tokenizer.encode_literal(match[1] or "")
        end = match.end()
    return ids + tokenizer.encode(text[end:])


def _mentions(value: Any, words: frozenset[str]) -> bool:
    if isinstance(value, str):
        return any(word in value for word in words)
    if isinstance(value, Mapping):
        return any(_mentions(item, words) for item in value.values())
    return isinstance(value, Sequence) and any(_mentions(item, words) for item in value)


def _fence_disguised(text: str, tokenizer: Tokenizer) -> str:
    """``text`` with fences around what only becomes a special token when it is normalised (full-width letters, say)."""
    for start, end in reversed(tokenizer.special_spans(text)):
        text = f"{text[:start]}{_OPEN}{text[start:end]}{_CLOSE}{text[end:]}"
    return text


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with ``change`` applied to every string in it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_map_texts(item, change) for item in value]
    return value
