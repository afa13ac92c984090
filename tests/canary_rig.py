"""Looking for secrets at rest: each in every spelling that a program is likely to give it, in whatever can be read.

Files are read as they are and, where they are gzip or SQLite, for what they hold; a process's open files (deleted ones
too), its environment and its command line are read through ``/proc``. Not covered: memory, swap, and spellings that
were not thought of: encryption under a key that lies beside it would not be noticed.
"""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import sqlite3
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

T = TypeVar("T", str, bytes)
GREEK = "αβγδεζηθικλμνξοπρστυφχψω"


def random_text() -> str:
    """A text that nothing else contains, with letters that encoders escape."""
    return f'canary "{secrets.token_hex(12)}"\\ é/{"".join(secrets.choice(GREEK) for _ in range(16))}'


@dataclass
class Canaries:
    """Secrets that were said or given out, and metadata that was."""

    secret: dict[str, str | bytes] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A new content to say."""
        return self.keep(name, random_text())

    def keep(self, name: str, value: T) -> T:
        """A secret that the service made."""
        assert name not in self.secret
        self.secret[name] = value
        return value

    def known(self, name: str) -> str:
        """A new name or the like."""
        self.metadata[name] = f"known-{secrets.token_hex(12)}"
        return self.metadata[name]


def spellings(secret: str | bytes) -> dict[str, bytes]:
    """How ``secret`` may stand in a file, by name."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    found = {"raw": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    if isinstance(secret, str):
        found |= {
            "utf-16-le": secret.encode("utf-16-le"),
            "utf-16-be": secret.encode("utf-16-be"),
            "json": json.dumps(secret)[1:-1].encode(),
            "json, not ascii": json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
            "repr": repr(secret)[1:-1].encode(),
            "url": quote(secret, safe="").encode(),
        }
    for offset in range(3):
        # The letters that neighbours have no part in, for each place at which the text may start among three bytes.
        whole = base64.b64encode(bytes(offset) + raw)
        core = whole[-(-8 * offset // 6) : (offset + len(raw)) * 8 // 6]
        found[f"base64+{offset}"] = core
        found[f"base64url+{offset}"] = core.translate(bytes.maketrans(b"+/", b"-_"))
    return found


class Scanner:
    """What to look for: secrets by name, each long and random enough that none is found by chance."""

    def __init__(self, wanted: Mapping[str, str | bytes]) -> None:
        short = [name for name, text in wanted.items() if len(text) < 16]
        assert not short, f"too short to mean anything when found: {short}"
        self._forms: dict[bytes, str] = {}
        for name, secret in wanted.items():
            for spelling, form in spellings(secret).items():
                self._forms.setdefault(form, f"{name} ({spelling})")

    def data(self, where: str, data: bytes) -> set[str]:
        """Secrets in some bytes, as ``NAME (SPELLING) in WHERE``."""
        return {f"{name} in {where}" for form, name in self._forms.items() if form in data}

    def folder(self, folder: Path) -> set[str]:
        """Secrets in the contents and the names of all files below ``folder``."""
        found: set[str] = set()
        for path in sorted(folder.rglob("*")):
            where = str(path.relative_to(folder))
            found |= self.data("a file name", where.encode())
            if path.is_file():
                found |= self.file(path, where)
        return found

    def file(self, path: Path, where: str) -> set[str]:
        """Secrets in one file, and in what it packs."""
        data = path.read_bytes()
        found = self.data(where, data)
        for number, inner in enumerate(_inflated(data)):
            found |= self.data(f"{where}, inflated {number}", inner)
        if data.startswith(b"SQLite format 3\0"):
            found |= self.data(f"rows of {where}", b"\0".join(_values(path)))
        return found

    def process(self, pid: int) -> set[str]:
        """Secrets in a process's environment, its command line, and the files that it has open."""
        here = Path("/proc") / str(pid)
        found = self.data("environ", (here / "environ").read_bytes())
        found |= self.data("cmdline", (here / "cmdline").read_bytes())
        for descriptor in sorted((here / "fd").iterdir()):
            try:
                if stat.S_ISREG(descriptor.stat().st_mode):
                    found |= self.file(descriptor, f"open file {descriptor.readlink()}")
            except FileNotFoundError:
                continue  # closed meanwhile
        return found


def _inflated(data: bytes) -> Iterator[bytes]:
    """What gzip members at the start of ``data`` hold; none for other files."""
    while data.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            yield unpacker.decompress(data)
        except zlib.error:
            return
        data = unpacker.unused_data


def _values(path: Path) -> Iterator[bytes]:
    """Every value of a database: long ones lie in several places of its file."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)


def planted(folder: Path, text: str) -> dict[str, Path]:
    """The twin: files that hold ``text`` in every spelling, packed, as a row and as a name."""
    folder.mkdir()
    found: dict[str, Path] = {}
    for name, form in spellings(text).items():
        found[name] = folder / f"as-{name}"
        found[name].write_bytes(b"xx" + form + b"yy")
    for offset in range(3):
        found[f"encoded at {offset}"] = folder / f"encoded-{offset}"
        found[f"encoded at {offset}"].write_bytes(base64.b64encode(b"z" * offset + text.encode() + b"zz"))
    found["gzip"] = folder / "packed.gz"
    found["gzip"].write_bytes(gzip.compress(b"first") + gzip.compress(text.encode()))
    found["row"] = folder / "rows.db"
    with closing(sqlite3.connect(found["row"])) as database, database:
        database.execute("CREATE TABLE t (a TEXT)")
        database.execute("INSERT INTO t VALUES (?)", ("x" * 4000 + text,))
    return found
