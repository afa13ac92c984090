"""The AWS CLI's own ``validate-logs`` code reads what the trail delivers, and refuses what was done to it.

Its classes run unmodified, in a process of their own, over a client that answers from the folder as S3 and CloudTrail
would (``validate_logs_child``).
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from audit_rig import ACCOUNT, NOON, event, trail
from outcrop.base.clock import FakeClock
from outcrop.trust.audit.digests import METADATA_SUFFIX, Delivery, Destination, string_to_sign
from outcrop.trust.crypto.signatures import SigningKey

DESTINATION = Destination(ACCOUNT, "us-east-1")
CHILD = Path(__file__).resolve().parent.parent / "validate_logs_child.py"


def validate(directory: Path) -> tuple[int, ...]:
    """Valid and invalid digests, valid and invalid log files, by the CLI's own code."""
    done = subprocess.run(
        [sys.executable, str(CHILD), str(directory)], capture_output=True, text=True, timeout=60, check=True
    )
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "audit"
    clock = FakeClock(NOON)
    with trail(directory, clock) as log:
        delivery = Delivery(log, DESTINATION, clock)
        for hour in range(3):
            clock.set(NOON + timedelta(hours=hour))
            for number in range(5):
                log.append(event(f"Create{hour}{number}", at=clock.now()))
            delivery.deliver_digests()
            if hour == 1:
                log.rotate_keys()
    return directory


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "audit")
    return tmp_path / "audit"


def files(directory: Path, kind: str) -> list[Path]:
    return sorted(directory.glob(f"delivered/*/AWSLogs/{ACCOUNT}/{kind}/**/*.json.gz"))


def test_chained_digests_are_accepted_across_a_change_of_keys(made: Path) -> None:
    assert validate(made) == (3, 0, 3, 0)


def change_a_byte(directory: Path) -> tuple[int, int, int, int]:
    path = files(directory, "CloudTrail")[0]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"Create00", b"Create09", 1)))
    return (3, 0, 2, 1)


def change_a_digest(directory: Path) -> tuple[int, int, int, int]:
    path = files(directory, "CloudTrail-Digest")[1]
    content = gzip.decompress(path.read_bytes())
    changed = content.replace(b'Time":"2026-01-01T12', b'Time":"2026-01-01T11', 1)
    assert changed != content
    path.write_bytes(gzip.compress(changed))
    return (2, 1, 2, 0)


def remove_a_log_file(directory: Path) -> tuple[int, int, int, int]:
    files(directory, "CloudTrail")[1].unlink()
    return (3, 0, 2, 1)


def remove_a_digest(directory: Path) -> tuple[int, int, int, int]:
    files(directory, "CloudTrail-Digest")[1].unlink()
    return (2, 1, 2, 0)


def sign_a_digest_anew(directory: Path) -> tuple[int, int, int, int]:
    path = files(directory, "CloudTrail-Digest")[2]
    digest = json.loads(gzip.decompress(path.read_bytes()))
    digest["logFiles"] = []
    content = json.dumps(digest).encode()
    path.write_bytes(gzip.compress(content))
    signature = SigningKey.generate("rsa-2048").sign(string_to_sign(digest, content)).hex()
    metadata = {"signature": signature, "signature-algorithm": "SHA256withRSA"}
    Path(f"{path}{METADATA_SUFFIX}").write_text(json.dumps(metadata))
    return (2, 1, 2, 0)


@pytest.mark.parametrize(
    "tamper",
    [change_a_byte, change_a_digest, remove_a_log_file, remove_a_digest, sign_a_digest_anew],
    ids=lambda tamper: tamper.__name__,
)
def test_the_validator_refuses(copy: Path, tamper: Callable[[Path], tuple[int, int, int, int]]) -> None:
    expected = tamper(copy)
    assert validate(copy) == expected
