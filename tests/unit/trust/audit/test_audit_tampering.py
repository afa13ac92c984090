"""Eight kinds of tampering, each found and each named; the same log untouched holds."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from audit_rig import ACCOUNT, NOON, OTHER, KeySealer, event, trail
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuditBroken, UserError
from outcrop.trust.audit.digests import METADATA_SUFFIX, Delivery, Destination, string_to_sign
from outcrop.trust.audit.heads import TreeHead
from outcrop.trust.audit.keys import AuditKeys
from outcrop.trust.audit.segments import line, segments
from outcrop.trust.audit.verify import verify
from outcrop.trust.crypto.hashes import sha256_hex
from outcrop.trust.crypto.signatures import SigningKey


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trail with two segments' worth of records, rotated keys, two digests and a kept head."""
    directory = tmp_path_factory.mktemp("made") / "audit"
    clock = FakeClock(NOON)
    with trail(directory, clock, segment_bytes=6000) as log:
        delivery = Delivery(log, Destination(ACCOUNT, "us-east-1"), clock)
        for number in range(10):
            log.append(event(f"Create{number}", at=clock.now()))
        delivery.deliver_digests()
        log.rotate_keys()
        clock.set(NOON + timedelta(hours=1))
        for number in range(10, 20):
            log.append(event(f"Create{number}", at=clock.now()))
        log.append(event("CreateOther", OTHER, at=clock.now()))
        delivery.deliver_digests()
        assert log.head() is not None
        (directory.parent / "kept.json").write_bytes(log.head().encode())
        log.append(event("CreateLast", at=clock.now()))
    return directory


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "audit"
    shutil.copytree(made, directory, copy_function=shutil.copy)  # as an operator copies: without the files' times
    return directory


def kept(made: Path) -> TreeHead:
    return TreeHead.parse((made.parent / "kept.json").read_bytes())


def lines(directory: Path, segment: int = 0) -> list[bytes]:
    return segments(directory / "log")[segment].read_bytes().splitlines(keepends=True)


def put(directory: Path, content: list[bytes], segment: int = 0) -> None:
    segments(directory / "log")[segment].write_bytes(b"".join(content))


def again(kind: str, text: bytes, old: bytes, new: bytes) -> bytes:
    """A line changed by somebody who also corrects its CRC."""
    assert old in text
    return line(kind, text[11:-1].replace(old, new))


def test_an_untouched_trail_holds(made: Path) -> None:
    report = verify(made, kept(made), kept(made).log[:16])
    assert report.findings == []
    assert report.records > 24
    assert report.digests == 3
    assert report.head is not None
    assert len(segments(made / "log")) > 2


def edit(directory: Path) -> str:
    content = lines(directory)
    content[6] = again("R", content[6], b"Create2", b"Create9")
    put(directory, content)
    return "record 3 was changed"


def edit_without_a_tree(directory: Path) -> str:
    edit(directory)
    shutil.rmtree(directory / "tree")
    return "the records from 3 to 3 are not those that were signed"


def edit_carelessly(directory: Path) -> str:
    content = lines(directory)
    content[6] = content[6].replace(b"Create2", b"Create9")
    put(directory, content)
    return "the line of record 3 was changed"


def delete(directory: Path) -> str:
    content = lines(directory)
    del content[6:8]
    put(directory, content)
    return "record 3 is due here, record 4 stands here"


def delete_a_segment(directory: Path) -> str:
    segments(directory / "log")[1].unlink()
    return "is due here; the file begins with"


def delete_everything_but_keys_and_heads(directory: Path) -> str:
    shutil.rmtree(directory / "log")
    shutil.rmtree(directory / "tree")
    return "cut short"


def reorder(directory: Path) -> str:
    content = lines(directory)
    content[4:8] = content[6:8] + content[4:6]
    put(directory, content)
    return "record 2 is due here, record 3 stands here"


def truncate(directory: Path) -> str:
    last = len(segments(directory / "log")) - 1
    put(directory, lines(directory, last)[:-4], last)
    return "cut short"


def duplicate(directory: Path) -> str:
    content = lines(directory)
    content[6:6] = content[4:6]
    put(directory, content)
    return "record 3 is due here, record 2 stands here"


def backdate_a_record(directory: Path) -> str:
    content = lines(directory)
    content[6] = again("R", content[6], b'"at":"2026-01-01T12', b'"at":"2026-01-01T11')
    put(directory, content)
    return "record 3 is backdated"


def backdate_an_event(directory: Path) -> str:
    content = lines(directory)
    content[6] = again("R", content[6], b'"eventTime":"2026-01-01', b'"eventTime":"2025-12-31')
    put(directory, content)
    return "record 3 is backdated"


def swap_keys(directory: Path) -> str:
    text = json.loads((directory / "keys.json").read_bytes())
    other = SigningKey.generate("ed25519").verifying_key
    text["keys"][0]["pem"], text["keys"][0]["id"] = other.public_pem().decode(), other.fingerprint()
    (directory / "keys.json").write_text(json.dumps(text))
    return "is not vouched for"


def slip_in_a_key(directory: Path) -> str:
    """A further key that nobody vouched for but itself."""
    text = json.loads((directory / "keys.json").read_bytes())
    other = SigningKey.generate("ed25519")
    mine = {
        **text["keys"][-2],
        "pem": other.verifying_key.public_pem().decode(),
        "id": other.verifying_key.fingerprint(),
    }
    mine["from_size"] = 40
    text["keys"].append(mine)
    (directory / "keys.json").write_text(json.dumps(text))
    return "is not vouched for"


def digests_of(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"delivered/*/AWSLogs/{ACCOUNT}/CloudTrail-Digest/**/*.json.gz"))


def swap_digests(directory: Path) -> str:
    first, second = digests_of(directory)
    for suffix in ("", METADATA_SUFFIX):
        one, two = Path(f"{first}{suffix}"), Path(f"{second}{suffix}")
        content = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)
    return "the digest's signature does not hold|the digest was moved"


def remove_the_newest_digest(directory: Path) -> str:
    digests_of(directory)[-1].unlink()
    return "the log records this digest; the file is missing"


def change_a_log_file(directory: Path) -> str:
    path = sorted(directory.glob(f"delivered/*/AWSLogs/{ACCOUNT}/CloudTrail/**/*.json.gz"))[0]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"Create3", b"Create4")))
    return "the log file was changed"


def sign_a_digest_anew(directory: Path) -> str:
    """With a key of the attacker's, under the true fingerprint."""
    path = digests_of(directory)[-1]
    digest = json.loads(gzip.decompress(path.read_bytes()))
    digest["logFiles"] = []
    content = json.dumps(digest).encode()
    signature = SigningKey.generate("rsa-2048").sign(string_to_sign(digest, content)).hex()
    path.write_bytes(gzip.compress(content))
    metadata = {"signature": signature, "signature-algorithm": "SHA256withRSA"}
    Path(f"{path}{METADATA_SUFFIX}").write_text(json.dumps(metadata))
    return "signature does not hold"


KINDS = [value for value in list(vars().values()) if callable(value) and getattr(value, "__module__", "") == __name__]
KINDS = [one for one in KINDS if one.__annotations__.get("return") == "str"]


@pytest.mark.parametrize("tamper", KINDS, ids=lambda kind: kind.__name__)
def test_tampering_is_found_and_named(copy: Path, tamper: Callable[[Path], str]) -> None:
    what = tamper(copy)
    report = verify(copy)
    assert report.findings
    assert any(part in str(report.findings[0]) for part in what.split("|")), report.findings


@pytest.mark.parametrize(
    "tamper", [truncate, delete_everything_but_keys_and_heads, swap_keys], ids=lambda kind: kind.__name__
)
def test_a_trail_that_does_not_hold_does_not_open(copy: Path, tamper: Callable[[Path], str]) -> None:
    tamper(copy)
    with pytest.raises(AuditBroken):
        trail(copy)


def test_an_untouched_copy_opens_again_and_holds(copy: Path) -> None:
    with trail(copy, FakeClock(NOON + timedelta(hours=2))) as log:
        log.append(event(at=NOON + timedelta(hours=2)))
    assert verify(copy).holds


def test_a_fork_is_found_by_a_head_kept_elsewhere(tmp_path: Path) -> None:
    first, clock = tmp_path / "audit", FakeClock(NOON)
    with trail(first, clock) as log:
        for number in range(5):
            log.append(event(f"True{number}"))
        head = log.head()
    assert head is not None
    second = tmp_path / "fork"
    second.mkdir()
    for path in [*first.glob("*.sealed"), first / "keys.json"]:
        shutil.copy(path, second)
    with trail(second, clock) as log:
        for number in range(9):
            log.append(event(f"False{number}"))
    assert verify(second).holds  # by itself it is a good log
    assert "a fork" in str(verify(second, head).findings[0])
    assert verify(first, head).holds


def test_two_kept_heads_of_one_size_are_a_fork(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    with trail(directory) as log:
        log.append(event())
    other = AuditKeys.load(directory, KeySealer()).sign_head(1, bytes(32), "2026-01-01T12:00:00.000000Z")
    with (directory / "heads.jsonl").open("ab") as file:
        file.write(other.encode() + b"\n")
    assert "a fork: heads.jsonl" in str(verify(directory).findings[0])


def test_a_head_of_another_log_and_a_wrong_log_id_are_told(made: Path, tmp_path: Path) -> None:
    with trail(tmp_path / "other") as log:
        other = log.head()
    assert "of another log" in str(verify(made, other).findings[0])
    assert "were replaced" in str(verify(made, log="0" * 64).findings[0])


def test_a_digest_that_the_log_does_not_know_is_told(copy: Path) -> None:
    """Signed with the true key, by somebody who has it but cannot change the log."""
    keys = AuditKeys.load(copy, KeySealer())
    last = digests_of(copy)[-1]
    content = gzip.decompress(last.read_bytes())
    digest = json.loads(content)
    key = digest["digestS3Object"].replace("130000Z", "140000Z")
    signature = json.loads(Path(f"{last}{METADATA_SUFFIX}").read_bytes())["signature"]
    digest |= {
        "digestS3Object": key,
        "previousDigestS3Object": digest["digestS3Object"],
        "previousDigestHashValue": sha256_hex(content),
        "previousDigestSignature": signature,
        "logFiles": [],
    }
    content = json.dumps(digest).encode()
    path = last.with_name(Path(key).name)
    path.write_bytes(gzip.compress(content))
    metadata = {
        "signature": keys.sign_digest(string_to_sign(digest, content)),
        "signature-algorithm": "SHA256withRSA",
    }
    Path(f"{path}{METADATA_SUFFIX}").write_text(json.dumps(metadata))
    assert [str(finding) for finding in verify(copy).findings] == [f"{key}: the log does not know this digest"]


def test_a_folder_without_a_trail_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no audit trail"):
        verify(tmp_path)
