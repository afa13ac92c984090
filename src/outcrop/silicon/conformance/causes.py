"""From the many ways in which cases fail to a few causes: messages with what differs from case to case taken out."""

from __future__ import annotations

import re

_LONGEST = 300
_DIFFERING = (
    (re.compile(r"/[^\s:'\"]+/"), ""),  # folders
    (re.compile(r"0x[0-9a-fA-F]+"), "#"),
    (re.compile(r"\b(tensor|t|tile|buf|sbuf|psum)_?\d+\b"), "tensor"),
    (re.compile(r"\[[\d, ]*\]|\([\d, ]*\)"), "[…]"),
    (re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?"), "#"),
)


def first_line(message: str) -> str:
    """The first line that says something; of a message that pytest marks with E, the one after the mark."""
    for line in message.splitlines():
        text = line.removeprefix("E ").strip()
        if text:
            return text[:_LONGEST]
    return ""


def cause(reason: str) -> str:
    """What cases with the same cause share: the rule where one was broken, else the message without its numbers."""
    if broken := re.search(r"\[([a-z][a-z0-9-]+)\] (\S+)", reason):
        word = broken[2].rstrip(":,.")
        return f"rule {broken[1]}" + (f": {word}" if word.isidentifier() else "")
    text = reason
    for pattern, instead in _DIFFERING:
        text = pattern.sub(instead, text)
    return text[:120]
