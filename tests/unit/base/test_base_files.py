"""Atomic writes leave the old content or the new, never a part; private files are private from the start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outcrop.base.errors import UserError
from outcrop.base.files import exclusive_lock, make_private_directory, write_atomic


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_never_readable_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    replace = os.replace

    def watch(source: str, target: Path) -> None:
        seen.append(os.stat(source).st_mode & 0o777)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_atomic(tmp_path / "key", b"secret", private=True)
    assert seen == [0o600]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_directory_is_flushed_after_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.path.isdir(f"/proc/self/fd/{descriptor}")))
    write_atomic(tmp_path / "f", b"x")
    assert flushed == [False, True]


def test_a_private_directory_that_cannot_be_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"taken cannot be made and closed to others \(File exists\)\. Choose"):
        make_private_directory(tmp_path / "taken")


def test_a_private_directory_is_closed_even_if_it_was_open(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    make_private_directory(directory)
    directory.chmod(0o755)
    make_private_directory(directory)
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_lock_is_held_once_and_freed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive_lock(path):
        with pytest.raises(UserError, match="in use by another Outcrop process"), exclusive_lock(path):
            pass
        assert path.exists()
    with exclusive_lock(path):
        pass
