"""A service for the client tests of one file, and an environment without the credentials of whoever runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_rig import postgres_server, postgres_url
from serving import Running, running_service

__all__ = ["postgres_server", "postgres_url"]  # fixtures, for every test here

CLIENT_PREFIXES = ("AWS_", "ANTHROPIC_", "OPENAI_", "BOTO_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No client finds credentials, endpoints or proxies that a test did not give it."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith(CLIENT_PREFIXES) or name.lower() in PROXIES:
            patch.delenv(name)
    nowhere = tmp_path_factory.mktemp("aws")
    patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield
    patch.undo()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose engine answers ``Hello, world!`` in four tokens."""
    data: Path = tmp_path_factory.mktemp("service") / "data"
    with running_service(data) as running:
        yield running
