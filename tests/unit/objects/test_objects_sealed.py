"""Sealed objects on the disk: whose key, which names, what a crash and an exchanged file come to."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from objects_rig import ACCOUNT, OTHER, ObjectsRig, objects_rig
from outcrop.base.errors import KeyRefused, NotFound, Unsealable
from outcrop.service.objects.sealed import ORPHANS_KEPT_S

CANARY = b"canary-7f31c0"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ObjectsRig]:
    with objects_rig(tmp_path / "data") as made:
        yield made


@pytest.mark.parametrize(
    "key", ["../../escape", "/etc/passwd", "a/../../b", "..", ".", "a\x00b", "CON", "a" * 1024, "~/.ssh"]
)
def test_a_key_never_becomes_a_path(rig: ObjectsRig, key: str, tmp_path: Path):
    rig.objects.create_bucket("things", ACCOUNT)
    before = {path for path in tmp_path.rglob("*") if "objects" not in path.parts}
    info = rig.objects.put("things", key, CANARY, ACCOUNT)
    after = {path for path in tmp_path.rglob("*") if "objects" not in path.parts}
    assert after == before
    assert [path.relative_to(rig.data).parts for path in rig.files()] == [
        ("objects", ACCOUNT, info.etag[:2], info.etag)
    ]
    with rig.objects.get("things", key, ACCOUNT) as reader:
        assert reader.read(0, 99) == CANARY


def test_content_is_sealed_private_and_nowhere_in_the_database(rig: ObjectsRig):
    rig.objects.create_bucket("things", ACCOUNT)
    rig.objects.put("things", "k", CANARY, ACCOUNT)
    for path in rig.data.rglob("*"):
        if path.is_file():
            assert CANARY not in path.read_bytes()
    assert {path.stat().st_mode & 0o777 for path in rig.files()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (rig.data / "objects").rglob("*") if path.is_dir()} == {0o700}


def test_a_bucket_under_a_key_of_the_tenant_closes_and_opens_with_it(rig: ObjectsRig):
    key = rig.key()
    assert rig.objects.create_bucket("things", ACCOUNT, key.key_id).kms_key == str(key.arn)
    rig.objects.put("things", "k", CANARY, ACCOUNT)
    with rig.objects.get("things", "k", ACCOUNT) as held:
        rig.keys.lifecycle.disable(key.key_id)
        for act in (
            lambda: rig.objects.get("things", "k", ACCOUNT),
            lambda: rig.objects.put("things", "k", b"new", ACCOUNT),
            lambda: held.read(0, 4),
        ):
            with pytest.raises(KeyRefused):
                act()
    assert len(rig.files()) == 1
    assert rig.objects.head("things", "k", ACCOUNT).size_bytes == len(CANARY)
    rig.keys.lifecycle.enable(key.key_id)
    with rig.objects.get("things", "k", ACCOUNT) as reader:
        assert reader.read(0, 99) == CANARY


def test_a_bucket_takes_no_key_of_another_account_and_none_that_is_disabled(rig: ObjectsRig):
    foreign, disabled = rig.key(OTHER), rig.key()
    rig.keys.lifecycle.disable(disabled.key_id)
    for key_id in (foreign.key_id, str(foreign.arn), disabled.key_id, "alias/none"):
        with pytest.raises(KeyRefused):
            rig.objects.create_bucket("things", ACCOUNT, key_id)
    assert rig.objects.buckets(ACCOUNT) == []


def test_files_that_were_exchanged_or_brought_back_do_not_open(rig: ObjectsRig):
    rig.objects.create_bucket("things", ACCOUNT)
    rig.objects.put("things", "a", b"of a", ACCOUNT)
    old = rig.files()[0]
    kept = shutil.copyfile(old, rig.data / "kept")
    rig.objects.put("things", "b", b"of b", ACCOUNT)
    rig.objects.put("things", "a", b"of a, newer", ACCOUNT)
    for key in ("a", "b"):
        path = next(one for one in rig.files() if one.name == rig.objects.head("things", key, ACCOUNT).etag)
        good = path.read_bytes()
        shutil.copyfile(kept, path)
        with pytest.raises(Unsealable):
            rig.objects.get("things", key, ACCOUNT)
        path.write_bytes(good)
        with rig.objects.get("things", key, ACCOUNT) as reader:
            assert reader.read(0, 4) == f"of {key}".encode()


def test_a_replaced_or_deleted_object_leaves_no_file(rig: ObjectsRig):
    rig.objects.create_bucket("things", ACCOUNT)
    for number in range(3):
        rig.objects.put("things", "k", f"{number}".encode(), ACCOUNT)
    assert len(rig.files()) == 1
    rig.objects.delete("things", "k", ACCOUNT)
    assert rig.files() == []


def test_a_put_that_fails_leaves_the_object_as_it_was_and_no_file(rig: ObjectsRig):
    class Broken:
        def __init__(self) -> None:
            self.left = [b"x" * 100_000, b"y" * 100_000]

        def read(self, size: int) -> bytes:
            if not self.left:
                raise OSError("the source broke off")
            return self.left.pop()

    rig.objects.create_bucket("things", ACCOUNT)
    rig.objects.put("things", "k", b"old", ACCOUNT)
    with pytest.raises(OSError, match="broke off"):
        rig.objects.put("things", "k", Broken(), ACCOUNT)
    assert len(rig.files()) == 1
    with rig.objects.get("things", "k", ACCOUNT) as reader:
        assert reader.read(0, 9) == b"old"


def test_a_bucket_deleted_while_content_is_written_takes_nothing(rig: ObjectsRig):
    class Deleting:
        def read(self, size: int) -> bytes:
            if rig.objects.buckets(ACCOUNT):
                rig.objects.delete_bucket("things", ACCOUNT)
                return b"late"
            return b""

    rig.objects.create_bucket("things", ACCOUNT)
    with pytest.raises(NotFound):
        rig.objects.put("things", "k", Deleting(), ACCOUNT)
    assert rig.files() == []


def test_the_sweep_takes_old_files_that_no_object_names_and_no_others(rig: ObjectsRig):
    rig.objects.create_bucket("things", ACCOUNT)
    rig.objects.put("things", "k", CANARY, ACCOUNT)
    named = rig.files()[0]
    left = named.with_name("0" * 32)
    torn = named.with_name(".0000.abc.tmp")
    young = named.with_name("1" * 32)
    long_ago = time.time() - ORPHANS_KEPT_S - 60
    for path in (left, torn, young):
        path.write_bytes(b"sealed")
    for path in (left, torn, named):
        os.utime(path, (long_ago, long_ago))
    assert rig.objects.sweep() == 2
    assert rig.files() == sorted([named, young])
    with rig.objects.get("things", "k", ACCOUNT) as reader:
        assert reader.read(0, 99) == CANARY
