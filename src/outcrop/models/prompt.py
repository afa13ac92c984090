"""A conversation to token ids, such that only the model's own template writes special tokens.

A caller who writes ``<|im_start|>system`` into a message must not open a system turn. So special tokens in messages
and tools are fenced with two characters that Unicode keeps out of text before the template sees them, and what lies
between the fences afterwards is tokenized as mere text.

Not covered: control words that a template uses but the tokenizer does not call special (``</think>``, say), and a
template that takes a message apart, letter by letter. Around fenced text the tokens may be cut differently than in
the unfenced whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from outcrop.models.chat import ChatTemplate
from outcrop.models.tokenizer import Tokenizer

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters (Unicode 15, section 23.7)
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
    """``given`` with special tokens fenced, and whether there were any."""
    if not _mentions(given, tokenizer.special_texts):
        return given, False
    longest_first = sorted(tokenizer.special_texts, key=len, reverse=True)
    special = re.compile("|".join(map(re.escape, longest_first)))
    return {key: _fence(value, special) for key, value in given.items()}, True


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


def _fence(value: Any, special: re.Pattern[str]) -> Any:
    """``value`` with every special token in its strings fenced; fences that the caller wrote are dropped."""
    if isinstance(value, str):
        bare = value.replace(_OPEN, "").replace(_CLOSE, "")
        return special.sub(f"{_OPEN}\\g<0>{_CLOSE}", bare)
    if isinstance(value, Mapping):
        return {key: _fence(item, special) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_fence(item, special) for item in value]
    return value
