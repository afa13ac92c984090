"""A PostgreSQL server of the tests' own: made in a temporary folder, on a socket of its own, gone afterwards.

The server's programs come from the Debian package ``postgresql``; it refuses to run as root, so root runs it as the
package's user. Without the programs the tests are skipped, in CI they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pg8000.native
import pytest

USER = "outcrop"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, the newest where there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return Path(named).resolve().parent if named else None


@contextmanager
def running_postgres() -> Iterator[Path]:
    """A server; the value is the folder of its socket."""
    folder = programs()
    if folder is None:
        if os.environ.get("CI"):
            raise AssertionError("PostgreSQL is not installed: apt-get install postgresql")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    root = Path(tempfile.mkdtemp(prefix="outcrop-pg-"))
    if as_user:
        shutil.chown(root, "postgres")

    def run(*command: str) -> None:
        done = subprocess.run(
            [*as_user, *command],
            check=False,
            cwd=root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    try:
        run(str(folder / "initdb"), "-D", str(root / "data"), "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-k {root} -c listen_addresses= -c fsync=off -c max_connections=50"
        run(str(folder / "pg_ctl"), "-D", str(root / "data"), "-o", options, "-l", str(root / "log"), "-w", "start")
        try:
            yield root
        finally:
            run(str(folder / "pg_ctl"), "-D", str(root / "data"), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def new_database(socket_folder: Path) -> str:
    """The URL of an empty database of the server."""
    name = f"t{uuid4().hex}"
    socket = f"{socket_folder}/.s.PGSQL.5432"
    connection = pg8000.native.Connection(USER, unix_sock=socket, database="postgres")
    try:
        connection.run(f"CREATE DATABASE {name}")
    finally:
        connection.close()
    return f"postgresql+pg8000://{USER}@/{name}?unix_sock={socket}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Path]:
    with running_postgres() as socket_folder:
        yield socket_folder


@pytest.fixture
def postgres_url(postgres_server: Path) -> str:
    return new_database(postgres_server)
