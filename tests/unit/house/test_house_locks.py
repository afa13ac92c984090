"""The locks: fresh, hashed, silent about where packages come from, and in agreement with each other."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path

import pytest

import lock

ROOT = Path(__file__).resolve().parents[3]
PIN = re.compile(r"^([a-z0-9][a-z0-9-]*)==(\S+)", re.MULTILINE)
PYTHON_LOCKS = [entry.path for entry in lock.LOCKS]


def pins(path: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / path).read_text(encoding="utf-8")))


def test_locks_were_made_from_the_present_project_file():
    assert lock.stale_locks() == []


def test_a_changed_dependency_makes_every_lock_stale(tmp_path: Path):
    for name in ("pyproject.toml", *PYTHON_LOCKS):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    assert lock.stale_locks(tmp_path) == []
    project = tmp_path / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace('"safetensors>=', '"safetensors>=0.0.1,>='), encoding="utf-8")
    assert lock.stale_locks(tmp_path) == PYTHON_LOCKS


@pytest.mark.parametrize("path", PYTHON_LOCKS)
def test_every_package_is_pinned_with_hashes_and_no_address(path: str):
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / path).read_text(encoding="utf-8"))
    assert all("--hash=sha256:" in entry for entry in entries if PIN.match(entry))
    assert sum(bool(PIN.match(entry)) for entry in entries) == len(pins(path))
    assert not re.search(r"://|--index-url|--find-links", "".join(entries))


def test_the_narrower_locks_agree_with_the_widest():
    widest = pins("requirements-dev.lock")
    for path in PYTHON_LOCKS:
        assert pins(path).items() <= widest.items()


@pytest.mark.parametrize("path", PYTHON_LOCKS)
def test_locks_hold_what_pytorch_needs_but_neither_it_nor_cuda(path: str):
    held = pins(path)
    required = importlib.metadata.requires("torch") or []
    always = {re.split(r"[^A-Za-z0-9-]", line)[0] for line in required if ";" not in line}
    assert always <= held.keys()
    assert not [name for name in held if name == "torch" or name.startswith(("nvidia-", "cuda-", "triton"))]


def test_the_node_lock_has_hashes_and_no_registry_host():
    document = json.loads((ROOT / "tests/contract/node/package-lock.json").read_text(encoding="utf-8"))
    packages = {name: entry for name, entry in document["packages"].items() if name}
    assert packages
    assert all("integrity" in entry for entry in packages.values())
    assert not [name for name, entry in packages.items() if "resolved" in entry]
