"""A service for the tests of one file, whose engine the tests may hold up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving import Running, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose engine answers ``Hello, world!`` in four tokens."""
    with running_service(tmp_path_factory.mktemp("service") / "data") as running:
        yield running
