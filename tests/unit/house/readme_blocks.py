"""The fenced blocks of the README, for the tests that check or run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The blocks fenced as ``language``, in order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [body for fence, body in FENCED.findall(text) if fence == language]
