"""Reads a whole trail without a server, a database or a private key, and names the first place where it does not hold.

Every line's CRC, every record's index and time, every signed head against the root that the records before it give,
every head kept beside the log or elsewhere, the line of keys, and the digests (``verify_digests``). It writes nothing.

Needs ``cryptography`` for Ed25519 and RSA. Not covered: a log that was replaced as a whole, keys included, where nobody
kept a head or the log's id elsewhere; a log cut back to an earlier signed head together with everything that counts or
names later ones. Give ``--head`` or ``--log`` for those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from outcrop.base.errors import AuditBroken, UserError
from outcrop.trust.audit.digests import DELIVERED
from outcrop.trust.audit.event import SERVICE_SOURCE
from outcrop.trust.audit.heads import TreeHead, kept_heads
from outcrop.trust.audit.keys import PublicKeys
from outcrop.trust.audit.merkle import HASH_BYTES, Frontier, leaf_hash
from outcrop.trust.audit.segments import PREFIX_BYTES, Line, first_index, segments, whole_lines
from outcrop.trust.audit.segments import line as line_of
from outcrop.trust.audit.verify_digests import verify_digests
from outcrop.trust.audit.writer import LOG_FOLDER, TREE_FOLDER

EVENT_AGE_MAX = timedelta(hours=1)
"""An event older than its record by more was put in later; no call waits that long for its record."""
EVENT_AHEAD_MAX = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold: where, and what."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(slots=True)
class Report:
    """What a verification found. It holds when there are no findings."""

    log: str = ""
    records: int = 0
    heads: int = 0
    digests: int = 0
    head: TreeHead | None = None
    unsigned_bytes: int = 0
    """Bytes behind the last head: a commit under way, or one that a crash tore. They count for nothing."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.findings


class _Broken(Exception):
    def __init__(self, place: str, what: str) -> None:
        super().__init__(what)
        self.finding = Finding(place, what)


def verify(directory: Path, head: TreeHead | None = None, log: str | None = None) -> Report:
    """Check the trail in ``directory``; ``head`` and ``log`` (its id) are what somebody kept elsewhere.

    Raises ``UserError`` where there is no trail at all.
    """
    if not segments(directory / LOG_FOLDER) and not (directory / "keys.json").exists():
        raise UserError(f"{directory} holds no audit trail.", "Name a data directory, or a copy of its audit folder.")
    report = Report()
    try:
        keys = PublicKeys.load(directory)
    except AuditBroken as error:
        report.findings.append(Finding("keys.json", error.what))
        return report
    report.log = keys.log
    if log is not None and not (len(log) >= 16 and keys.log.startswith(log)):
        report.findings.append(Finding("keys.json", f"this is log {keys.log}, not {log}: keys and log were replaced"))
        return report
    walk = _Walk(directory, keys, report)
    try:
        walk.expect(head)
        walk.run()
    except _Broken as broken:
        report.findings.append(broken.finding)
    complete = report.holds
    found, report.digests = verify_digests(directory, keys, walk.digests if complete else None)
    report.findings += [Finding(place, what) for place, what in found]
    return report


class _Walk:
    """One pass over the log."""

    def __init__(self, directory: Path, keys: PublicKeys, report: Report) -> None:
        self._directory = directory
        self._keys = keys
        self._report = report
        self._frontier = Frontier()
        self._expected: dict[int, list[tuple[str, TreeHead]]] = {}
        self._since_head: list[tuple[str, bytes]] = []
        self._signed = 0
        self._last_at = ""
        self._stepped_at = -(10**9)
        self.digests: dict[str, str] = {}
        """The digests that the log says were delivered: S3 key to SHA-256."""

    def expect(self, given: TreeHead | None) -> None:
        """Check the signatures of the heads kept beside the log and of the ``given`` one, and note their roots."""
        try:
            kept = kept_heads(self._directory)
        except UserError:
            raise _Broken("heads.jsonl", "a line is no signed head") from None
        sources = [("heads.jsonl", one) for one in kept] + ([("the head given", given)] if given else [])
        for source, one in sources:
            if wrong := self._keys.check_head(one):
                raise _Broken(source, wrong)
            self._expected.setdefault(one.tree_size, []).append((source, one))

    def run(self) -> None:
        every = segments(self._directory / LOG_FOLDER)
        for number, segment in enumerate(every):
            self._segment(segment, last=number + 1 == len(every))
        self._check_length()

    def _segment(self, segment: Path, *, last: bool) -> None:
        try:
            first = first_index(segment)
        except AuditBroken as error:
            raise _Broken(segment.name, error.what) from None
        if first != self._frontier.size:
            raise _Broken(segment.name, f"record {self._frontier.size} is due here; the file begins with {first}")
        end = signed_end = 0
        for line in whole_lines(segment):
            end = line.end
            if line.kind == "R":
                self._record(line)
            else:
                self._head(line)
                signed_end = end
        size = segment.stat().st_size
        # What stands behind the last head may be torn only where nothing signed follows.
        if end < size and (not last or _head_after(segment, end)):
            raise _Broken(f"{segment.name}, byte {end}", f"the line of record {self._frontier.size} was changed")
        if not last and signed_end < size:
            raise _Broken(f"{segment.name}, byte {signed_end}", "records that no head covers, and a later file")
        self._report.unsigned_bytes = size - signed_end

    def _record(self, line: Line) -> None:
        index = self._frontier.size
        try:
            found = line.parsed()
        except AuditBroken as error:
            raise _Broken(line.place, error.what) from None
        if found.get("index") != index:
            raise _Broken(line.place, f"record {index} is due here, record {found.get('index')} stands here")
        self._check_times(line, str(found.get("at")), found.get("event"))
        self._frontier.append(leaf_hash(line.payload))
        self._since_head.append((line.place, leaf_hash(line.payload)))
        for source, head in self._expected.get(self._frontier.size, ()):
            if head.root != self._frontier.root().hex():
                self._localise()
                raise _Broken(
                    f"record {index}", f"a fork: {source} has another root for the first {head.tree_size} records"
                )

    def _check_times(self, line: Line, at: str, event: object) -> None:
        if not isinstance(event, dict):
            raise _Broken(line.place, "the record holds no event")
        index = self._frontier.size
        own = event.get("eventSource") == SERVICE_SOURCE and event.get("eventType") == "AwsServiceEvent"
        if own and event.get("eventName") == "ClockSteppedBack":
            self._stepped_at = index
        elif own and event.get("eventName") == DELIVERED:
            details = event.get("serviceEventDetails") or {}
            self.digests[str(details.get("s3Object"))] = str(details.get("sha256"))
        try:
            taken, happened = datetime.fromisoformat(at), datetime.fromisoformat(str(event.get("eventTime")))
            before = datetime.fromisoformat(self._last_at) if self._last_at else taken
            age = taken - happened
        except (ValueError, TypeError):
            raise _Broken(line.place, f"record {index} has no time") from None
        if taken < before and self._stepped_at != index:
            raise _Broken(line.place, f"record {index} is backdated: taken at {at}, the one before at {self._last_at}")
        near_step = index - self._stepped_at < 10_000
        if not near_step and not -EVENT_AHEAD_MAX <= age <= EVENT_AGE_MAX:
            raise _Broken(line.place, f"record {index} is backdated: its event says {event.get('eventTime')}, at {at}")
        self._last_at = at

    def _head(self, line: Line) -> None:
        try:
            head = TreeHead.parse(line.payload)
        except UserError:
            raise _Broken(line.place, "this is no signed head") from None
        if wrong := self._keys.check_head(head):
            raise _Broken(line.place, wrong)
        if head.tree_size != self._frontier.size:
            raise _Broken(
                line.place, f"a head over {head.tree_size} records stands behind {self._frontier.size} of them"
            )
        if head.root != self._frontier.root().hex():
            self._localise()
            raise _Broken(
                self._since_head[0][0] if self._since_head else line.place,
                f"the records from {self._signed} to {head.tree_size - 1} are not those that were signed",
            )
        self._signed = head.tree_size
        self._since_head.clear()
        self._report.records, self._report.head = head.tree_size, head
        self._report.heads += 1

    def _localise(self) -> None:
        """Name the one record that was changed, where the tree's own files still tell."""
        first = self._frontier.size - len(self._since_head)
        for offset, (place, leaf) in enumerate(self._since_head):
            if _stored_leaf(self._directory, first + offset) not in (leaf, b""):
                raise _Broken(place, f"record {first + offset} was changed")

    def _check_length(self) -> None:
        end = f"the end of the log, record {self._signed}"
        for size, sources in sorted(self._expected.items()):
            if size > self._signed:
                source, head = sources[0]
                raise _Broken(end, f"cut short: {source} has a head over {size} records, signed at {head.at}")
        try:
            stored = (self._directory / TREE_FOLDER / "level-00").stat().st_size // HASH_BYTES
        except FileNotFoundError:
            stored = 0
        if stored > self._frontier.size:
            raise _Broken(end, f"cut short: {stored} records were acknowledged")


def _head_after(segment: Path, offset: int) -> bool:
    """Whether a whole head stands anywhere behind the broken line at ``offset``: then it was not torn by a crash."""
    with segment.open("rb") as file:
        file.seek(offset)
        return any(text == line_of("H", text[PREFIX_BYTES:-1]) for text in file)


def _stored_leaf(directory: Path, index: int) -> bytes:
    try:
        with (directory / TREE_FOLDER / "level-00").open("rb") as file:
            file.seek(index * HASH_BYTES)
            return file.read(HASH_BYTES)
    except FileNotFoundError:
        return b""
