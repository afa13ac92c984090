"""What every test shares: a test is marked by the folder it lies in, so that no file has to say so."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MARKED_FOLDERS = ("contract", "crash", "slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)
