"""The import contracts hold on the source, and each of them bites when it is broken."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "src" / "outcrop"
ROOMS = sorted(path.name for path in SOURCE.iterdir() if any(path.glob("*.py")))


def contracts_broken_by(tmp_path: Path, room: str, statement: str) -> str:
    """What the linter says of a package with the same rooms, all empty but for one import."""
    package = tmp_path / "outcrop"
    for name in (*ROOMS, "trust/crypto", "trust/audit", "trust/keys"):
        (package / name).mkdir(parents=True, exist_ok=True)
        (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / room / "probe.py").write_text(statement, encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_a_house_that_keeps_the_laws_passes(tmp_path: Path):
    assert contracts_broken_by(tmp_path, "trust/crypto", "import hashlib") == ""


@pytest.mark.parametrize(
    ("room", "statement", "law"),
    [
        ("trust", "import outcrop.models", "Law 1: trust knows no tensors"),
        ("trust", "import torch", "Law 1: trust knows no tensors"),
        ("inference", "import outcrop.trust", "Law 1: the model half knows no principals"),
        ("service", "import hashlib", "Law 2"),
        ("trust", "from cryptography import x509", "Law 2"),
        ("base", "import outcrop.trust", "Law 3"),
        ("models", "import outcrop.inference", "Law 3"),
        ("inference", "import outcrop.training", "Law 3"),
        ("service", "import outcrop.cli", "Law 3"),
        ("silicon", "import outcrop.models", "Law 3: a room"),
        ("silicon", "import torch", "Law 3: silicon"),
        ("silicon", "import outcrop.trust", "Law 1: the model half knows no principals"),
        ("trust", "import outcrop.silicon", "Law 1: trust knows no tensors"),
        ("trust/crypto", "import outcrop.trust.audit", "Law 3 inside trust"),
        ("trust/keys", "import outcrop.trust.audit", "Law 3 inside trust"),
        ("assurance", "import outcrop.service", "Law 3: assurance"),
    ],
)
def test_each_law_bites(tmp_path: Path, room: str, statement: str, law: str):
    report = contracts_broken_by(tmp_path, room, statement)
    assert [line for line in report.splitlines() if line.startswith(law) and "BROKEN" in line], report


def test_a_room_without_a_place_in_the_layers_is_refused(tmp_path: Path):
    (tmp_path / "outcrop" / "cellar").mkdir(parents=True)
    (tmp_path / "outcrop" / "cellar" / "__init__.py").touch()
    assert "cellar" in contracts_broken_by(tmp_path, "base", "")


def test_base_imports_nothing_outside_the_standard_library_but_for_its_tables():
    databases = {"sqlalchemy", "alembic"}  # tables.py hides them from everybody above
    for path in sorted((SOURCE / "base").rglob("*.py")):
        allowed = {*sys.stdlib_module_names, "outcrop"}
        if path.name == "tables.py" or "migrations" in path.parts:
            allowed |= databases
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            assert {name.split(".")[0] for name in names} <= allowed, path


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is(room: str):
    entrance = SOURCE / room / "__init__.py"
    assert entrance.exists()
    assert ast.get_docstring(ast.parse(entrance.read_text(encoding="utf-8")))
