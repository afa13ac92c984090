"""``kill -9`` at every fault point of puts, deletes and log delivery: objects are whole, old or new, and open.

Not covered: power loss below the file system (a kill leaves the page cache intact).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from objects_child import BUCKET, NEW, OLD, OWNER, open_objects

from outcrop.base.errors import NotFound
from outcrop.service.invocations import log_files, records_in
from outcrop.service.objects.sealed import OBJECTS_FOLDER, ORPHANS_KEPT_S

CHILD = Path(__file__).with_name("objects_child.py")
PUT = ("objects.put.sealed", "objects.put.named")
PASSED = (
    *(5 * PUT),
    "invocations.batch.made",
    *PUT,
    "invocations.batch.written",
    *("objects.delete.begun", "objects.delete.unnamed"),
)
"""The points of objects and logs that the child passes, in order; the first test holds this list to it."""


def run_child(directory: Path, fault: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(CHILD), str(directory)],
        env={**os.environ, "OUTCROP_FAULT": fault},
        capture_output=True,
        timeout=60,
        check=False,
    )


def content(directory: Path, key: str) -> bytes | None:
    objects, _ = open_objects(directory)
    try:
        with objects.get(BUCKET, key, OWNER) as reader:
            return b"".join(reader.chunks())
    except NotFound:
        return None


def test_the_child_passes_these_points(tmp_path: Path):
    counted = tmp_path / "points"
    assert run_child(tmp_path, f"count:{counted}").returncode == 0
    points = counted.read_text().split()
    assert tuple(one for one in points if one.startswith(("objects.", "invocations."))) == PASSED


@pytest.mark.parametrize(("name", "nth"), [(name, PASSED[: at + 1].count(name)) for at, name in enumerate(PASSED)])
def test_what_is_opened_again_is_whole(tmp_path: Path, name: str, nth: int):
    assert run_child(tmp_path, f"kill:{name}:{nth}").returncode == -signal.SIGKILL
    journal = tmp_path / "journal"
    done = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    found = content(tmp_path, "k")
    if "deleted" in done:
        assert found is None
    elif "new" in done:
        assert found in (NEW, None) if "delivered" in done else found == NEW
    else:
        assert found in ((OLD, NEW) if "old" in done else (None, OLD))

    objects, _ = open_objects(tmp_path)
    records = [
        record
        for file in log_files(objects, BUCKET, OWNER, "us-east-1")
        for record in records_in(objects, file, OWNER, bodies=True)
    ]
    if "delivered" in done:
        assert [record["requestId"] for record in records] == ["r0", "r1", "r2"]
    assert len(records) in (0, 3)
    for record in records:
        assert record["input"]["inputBodyJson"]["text"].startswith("canary-")

    names = {info.etag for info in objects.list(BUCKET, OWNER)}
    files = [path for path in (tmp_path / OBJECTS_FOLDER).rglob("*") if path.is_file()]
    assert names <= {path.name for path in files}
    assert len(files) - len(names) <= 1
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"canary-" not in path.read_bytes()
    long_ago = time.time() - ORPHANS_KEPT_S - 60
    for path in files:
        os.utime(path, (long_ago, long_ago))
    objects.sweep()
    assert {path.name for path in (tmp_path / OBJECTS_FOLDER).rglob("*") if path.is_file()} == names
