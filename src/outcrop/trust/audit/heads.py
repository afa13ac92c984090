"""Signed tree heads: a statement, signed by the log's key, of how many records there are and what their root is.

Whoever keeps a head elsewhere can later prove that the log still begins with what it held then, or that it does not.

Not covered: a head that nobody kept. Someone who holds the signing key can write another log and sign it; only heads
and key ids kept out of reach show that.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from outcrop.base.errors import UserError

FILE = "heads.jsonl"

_FIELDS = {"tree_size": int, "root": str, "at": str, "log": str, "key": str, "signature": str}


@dataclass(frozen=True, slots=True)
class TreeHead:
    """One head. ``log`` is the id of the log's first key, ``key`` that of the one that signed; hashes are hex."""

    tree_size: int
    root: str
    at: str
    log: str
    key: str
    signature: str = ""

    def message(self) -> bytes:
        """What is signed: everything but the signature, each on a line of its own."""
        return (
            f"outcrop audit tree head v1\n{self.log}\n{self.key}\n{self.tree_size}\n{self.root}\n{self.at}\n".encode()
        )

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, text: bytes | str) -> TreeHead:
        """The head that ``text`` (JSON) holds, or a ``UserError``."""
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if (
            not isinstance(found, dict)
            or found.keys() != _FIELDS.keys()
            or any(type(found[name]) is not kind for name, kind in _FIELDS.items())
        ):
            raise UserError("This is not a signed tree head.", "Give a file written by `outcrop audit head --json`.")
        return cls(**found)


def kept_heads(directory: Path) -> list[TreeHead]:
    """The heads kept beside the log, oldest first; a last line that a crash tore is left out."""
    try:
        text = (directory / FILE).read_bytes()
    except FileNotFoundError:
        return []
    return [TreeHead.parse(one) for one in text.split(b"\n")[:-1]]
