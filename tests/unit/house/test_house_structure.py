"""The map is true: docs/structure.md names every room, and no room that is not there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "src" / "outcrop"
ROOM_LINE = re.compile(r"^( *)([a-z_]+)/ +(\S.*)$")


def rooms_on_the_map() -> dict[str, str]:
    """Path below ``src/outcrop`` and sentence of each room in the tree of docs/structure.md."""
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    tree = text.split("## Rooms")[1].split("```")[1]
    found: dict[str, str] = {}
    parent = ""
    for line in tree.splitlines():
        if match := ROOM_LINE.match(line):
            indent, name, sentence = match.groups()
            if not indent:
                parent = name
            found[f"{parent}/{name}" if indent else name] = sentence
    return found


def rooms_in_the_source() -> set[str]:
    folders = (path for pattern in ("*", "*/*") for path in SOURCE.glob(pattern) if any(path.glob("*.py")))
    return {str(path.relative_to(SOURCE)) for path in folders}


def test_the_map_names_every_room_and_nothing_else():
    assert set(rooms_on_the_map()) == rooms_in_the_source()


def test_every_room_has_a_place_in_the_layers():
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = document["tool"]["importlinter"]["contracts"][0]["layers"]
    placed = {room.strip() for layer in layers for room in layer.split("|")}
    assert placed == {room for room in rooms_in_the_source() if "/" not in room}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/structure.md", "docs/decisions/0001-house.md"])
def test_files_that_a_page_names_exist(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    folders = "docs|tools|src|tests|bench|service|models|inference|trust|training|base|cli"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]+\.(?:py|md|toml))`", text))
    named |= {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    missing = [name for name in named if not (ROOT / name).exists() and not (SOURCE / name).exists()]
    assert not missing
