"""The wheel as it would be published: everything the package needs, nothing else, of an honest size."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ENDINGS = {".py", ".json", ".toml", ".safetensors", ".md", ".typed", ".txt", ".html", ".css", ".js"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_default_model_and_is_between_10_and_25_megabytes(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("outcrop/models/bundled/") and name.endswith(".safetensors")]
    assert 10e6 <= wheel.stat().st_size <= 25e6


def test_the_wheel_holds_every_file_of_the_package_that_git_does_not_ignore_and_no_other(wheel: Path):
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "src/outcrop"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = {line.removeprefix("src/") for line in listed.stdout.splitlines()}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert {Path(name).suffix for name in held} <= ENDINGS


def test_the_wheel_carries_licence_and_notice_and_the_command(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        told = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        assert {"LICENSE", "NOTICE", "METADATA"} <= told.keys()
        assert "outcrop = outcrop.cli.main:main" in archive.read(told["entry_points.txt"]).decode()
        assert "License-Expression: Apache-2.0" in archive.read(told["METADATA"]).decode()
