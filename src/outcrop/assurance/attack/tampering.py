"""Family: an audit trail changed by somebody who can write its files, and corrects every checksum that needs no key.

The folder is copied to a temporary directory, the log last, so that a writer may go on meanwhile. The twin is the
untouched copy, which must hold. Success is a changed copy that ``verify`` finds nothing wrong with. Not covered: what
needs a signing key, and a log that was replaced as a whole where nobody kept a head.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, unproven
from outcrop.base.errors import OutcropError
from outcrop.trust.audit.segments import PREFIX_BYTES, line, segments
from outcrop.trust.audit.verify import Report, verify
from outcrop.trust.crypto.signatures import SigningKey

FOLDER = "audit"
LOG = "log"
COPIES = 5

Tamper = Callable[[Path], None]
Verify = Callable[[Path], Report]


def run(scene: Scene) -> Iterator[Found]:
    """Eight kinds of tampering, some in two ways."""
    if scene.data is None:
        yield not_applicable("the audit trail", "needs --data, to copy the trail")
        return
    yield from tampered(scene.data / FOLDER)


def tampered(folder: Path, check: Verify = verify) -> Iterator[Found]:
    """Every kind, against the verifier ``check``."""
    with tempfile.TemporaryDirectory(prefix="outcrop-attack-") as name:
        good = Path(name) / "good"
        seen = "it was never whole"
        for _ in range(COPIES):
            shutil.rmtree(good, ignore_errors=True)
            copy(folder, good)
            report = _verified(check, good)
            if report is not None and report.holds and report.records >= 4:
                break
            seen = str(report.findings[:1]) if report is not None else "the copy could not be read"
        else:
            yield unproven("the untouched copy", f"must hold, with four records at least: {seen}")
            return
        for kind, tamper in KINDS.items():
            changed = Path(name) / "changed"
            shutil.rmtree(changed, ignore_errors=True)
            shutil.copytree(good, changed)
            try:
                tamper(changed)
            except LookupError as missing:
                yield not_applicable(kind, f"the trail has none: {missing}")
                continue
            report = _verified(check, changed)
            found = report is None or not report.holds
            told = "it could not be read" if report is None else told_of(report)
            yield judge(kind, not found, told)


def told_of(report: Report) -> str:
    """The first thing that a report found."""
    return str(report.findings[0]) if report.findings else "nothing was found"


def copy(folder: Path, into: Path) -> None:
    """Copy a trail that is perhaps being written: what counts or names records first, the records last."""
    into.mkdir(parents=True)
    for entry in sorted(folder.iterdir(), key=lambda path: path.name == LOG):
        if entry.is_dir():
            shutil.copytree(entry, into / entry.name)
        elif entry.is_file():
            shutil.copy2(entry, into / entry.name)


def _verified(check: Verify, folder: Path) -> Report | None:
    try:
        return check(folder)
    except OutcropError:
        return None


def _lines(folder: Path) -> tuple[Path, list[bytes], list[int]]:
    """The first segment with three records: its lines, and the places of records among them."""
    for segment in segments(folder / LOG):
        found = segment.read_bytes().splitlines(keepends=True)
        records = [at for at, text in enumerate(found) if text.startswith(b"R")]
        if len(records) >= 3:
            return segment, found, records
    raise LookupError("a segment with three records")


def _edit(folder: Path) -> None:
    _rewrite(folder, b'"eventName":"', b'"eventName":"X')


def _edit_unseen(folder: Path) -> None:
    """The same, with every file away that would tell which record it was."""
    _edit(folder)
    shutil.rmtree(folder / "tree", ignore_errors=True)
    (folder / "heads.jsonl").unlink(missing_ok=True)


def _backdate(folder: Path) -> None:
    _rewrite(folder, b'"at":"20', b'"at":"19')


def _rewrite(folder: Path, old: bytes, new: bytes) -> None:
    segment, found, records = _lines(folder)
    text = found[records[1]]
    found[records[1]] = line("R", text[PREFIX_BYTES:-1].replace(old, new, 1))
    segment.write_bytes(b"".join(found))


def _renumbered(found: list[bytes], first: list[int]) -> list[bytes]:
    """Records numbered in their order again, as a careful forger would, from the least number at ``first`` on."""
    index = min(json.loads(found[at][PREFIX_BYTES:-1])["index"] for at in first)
    changed = []
    for text in found:
        if text.startswith(b"R"):
            payload = text[PREFIX_BYTES:-1]
            changed.append(line("R", b'{"index":%d,' % index + payload.partition(b",")[2]))
            index += 1
        else:
            changed.append(text)
    return changed


def _delete(folder: Path) -> None:
    segment, found, records = _lines(folder)
    del found[records[1]]
    segment.write_bytes(b"".join(_renumbered(found, records[:1])))


def _reorder(folder: Path) -> None:
    segment, found, records = _lines(folder)
    one, two = records[0], records[1]
    found[one], found[two] = found[two], found[one]
    segment.write_bytes(b"".join(_renumbered(found, [one, two])))


def _duplicate(folder: Path) -> None:
    segment, found, records = _lines(folder)
    found.insert(records[1], found[records[1]])
    segment.write_bytes(b"".join(_renumbered(found, records[:1])))


def _truncate(folder: Path) -> None:
    last = segments(folder / LOG)[-1]
    found = last.read_bytes().splitlines(keepends=True)
    heads = [at for at, text in enumerate(found) if text.startswith(b"H")]
    if len(heads) < 2:
        raise LookupError("a second head in the last segment")
    # Half of it: the last records of a live trail may be newer than what was copied to count them.
    last.write_bytes(b"".join(found[: heads[len(heads) // 2 - 1] + 1]))


def _fork(folder: Path) -> None:
    """A kept head with another root: two stories of the same records."""
    _, found, _ = _lines(folder)
    head = next((text for text in found if text.startswith(b"H")), None)
    if head is None:
        raise LookupError("a signed head")
    record = json.loads(head[PREFIX_BYTES:-1])
    record["root"] = "0" * len(str(record["root"]))
    with (folder / "heads.jsonl").open("ab") as file:
        file.write(json.dumps(record).encode() + b"\n")


def _keys(folder: Path) -> None:
    path = folder / "keys.json"
    document = json.loads(path.read_bytes())
    other = SigningKey.generate("ed25519").verifying_key
    document["keys"][0]["pem"], document["keys"][0]["id"] = other.public_pem().decode(), other.fingerprint()
    path.write_text(json.dumps(document))


KINDS: dict[str, Tamper] = {
    "a record edited": _edit,
    "a record edited, the tree and the kept heads away": _edit_unseen,
    "a record deleted": _delete,
    "two records in another order": _reorder,
    "a record duplicated": _duplicate,
    "a record backdated": _backdate,
    "the end cut off": _truncate,
    "a fork: another head kept": _fork,
    "another key": _keys,
}
