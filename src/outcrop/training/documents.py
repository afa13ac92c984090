"""Training documents: conversations, plain text and copying drills, as token ids with a loss weight for each.

``chat_documents`` shows exactly which tokens are trained: replies with full weight, the prompt with a small one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer

from outcrop.training.shards import Document

TEXT_END = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
CITATION_START = "\u0120["
"""The token of a space and a bracket, as byte-level BPE writes it."""
RESERVED = tuple(f"<|reserved_{i}|>" for i in range(5))
SPECIAL_TOKENS = (TEXT_END, TURN_START, TURN_END, *RESERVED)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

REPLY_WEIGHT = 100
DECISION_WEIGHT = 250
"""Of a reply's first two tokens (quote or refuse, and which sentence) and of those after its last bracket opens."""
PROMPT_WEIGHT = 10
TEXT_WEIGHT = 25


def render(messages: Sequence[dict[str, str]], add_generation_prompt: bool = False) -> str:
    """What ``CHAT_TEMPLATE`` gives for these messages."""
    text = "".join(f"{TURN_START}{m['role']}\n{m['content']}{TURN_END}\n" for m in messages)
    return text + f"{TURN_START}assistant\n" if add_generation_prompt else text


def chat_documents(tokenizer: Tokenizer, conversations: Iterable[Sequence[dict[str, str]]]) -> Iterator[Document]:
    """One document for each conversation. A reply's weight covers its text and the token that ends the turn."""
    for messages in conversations:
        tokens: list[int] = []
        weights: list[int] = []
        for message in messages:
            reply = message["role"] == "assistant"
            head = tokenizer.encode(f"{TURN_START}{message['role']}\n").ids
            body = tokenizer.encode(message["content"] + TURN_END).ids
            tail = tokenizer.encode("\n").ids
            tokens += head + body + tail
            middle = _reply_weights(tokenizer, body) if reply else [PROMPT_WEIGHT] * len(body)
            weights += [0] * len(head) + middle + [0] * len(tail)
        yield Document(tokens, weights)


def _reply_weights(tokenizer: Tokenizer, body: list[int]) -> list[int]:
    bracket = tokenizer.token_to_id(CITATION_START)
    cited = max((i for i, token in enumerate(body) if token == bracket), default=len(body))
    return [DECISION_WEIGHT if i < 2 or i > cited else REPLY_WEIGHT for i in range(len(body))]


def text_documents(tokenizer: Tokenizer, texts: Iterable[str], max_tokens: int) -> Iterator[Document]:
    """Plain text between end-of-text tokens, cut into pieces of at most ``max_tokens``."""
    end = tokenizer.token_to_id(TEXT_END)
    assert end is not None, "the tokenizer has an end-of-text token"
    for text in texts:
        ids = tokenizer.encode(text).ids
        for start in range(0, len(ids), max_tokens - 2):
            piece: list[int] = [end, *ids[start : start + max_tokens - 2], end]
            yield Document(piece, [TEXT_WEIGHT] * len(piece))


def copying_documents(vocab_size: int, first_token: int, tokens: int, rng: random.Random) -> Iterator[Document]:
    """Endless drills of about ``tokens`` tokens: stretches of random tokens that come again, in another order.

    Only what can be predicted is trained: the later copies, without their first token.
    """
    while True:
        stretches = [
            [rng.randrange(first_token, vocab_size) for _ in range(rng.randint(4, 40))]
            for _ in range(rng.randint(1, 4))
        ]
        ids = [token for stretch in stretches for token in stretch]
        weights = [0] * len(ids)
        while len(ids) < tokens:
            stretch = rng.choice(stretches)
            ids += stretch
            weights += [0] + [REPLY_WEIGHT] * (len(stretch) - 1)
        yield Document(ids[:tokens], weights[:tokens])
