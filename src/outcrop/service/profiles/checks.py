"""What can be checked of a deployment before it serves: one function for each row of the table.

Not covered: that what holds at the start still holds later (a debugger allowed by root, a swap device added), and
what the operating system is told about us elsewhere (service files, containers).
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import resource
import site
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from outcrop.base.errors import OutcropError, UserError
from outcrop.service.config import ServiceConfig
from outcrop.service.profiles import outbound
from outcrop.service.profiles.table import Level, Row, rows
from outcrop.service.settings import Settings
from outcrop.trust.crypto import module
from outcrop.trust.crypto.keystores.config import find_passphrase

SWAPS = Path("/proc/swaps")

# What setuptools, a dependency of PyTorch, brings.
KNOWN_PTH = frozenset({"distutils-precedence.pth"})
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4


@dataclass(frozen=True, slots=True)
class Situation:
    """What the checks look at; what is ``None`` is not known, and the checks that need it are left out.

    ``root_keys`` are the active access keys of accounts' roots.
    """

    settings: Settings
    data: Path
    config: ServiceConfig | None = None
    root_keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw; ``remedy`` is empty where all is well."""

    row: Row
    level: Level
    ok: bool
    seen: str
    remedy: str = ""


Seen = tuple[bool, str, str]


def examine(situation: Situation, *, enforcing: bool) -> list[Finding]:
    """Every check of the profile. ``enforcing`` also does what the profile asks of this process, for good."""
    if enforcing:
        _enforce(situation)
    findings = []
    for row in rows():
        level = row.levels.get(situation.settings.profile)
        if level is None or (row.id in _ENFORCED and not enforcing) or not _known(row.id, situation):
            continue
        ok, seen, remedy = CHECKS[row.id](situation)
        findings.append(Finding(row, level, ok, seen, "" if ok else remedy))
    return findings


def require(findings: Iterable[Finding]) -> None:
    """Raise ``UserError`` naming every required check that does not hold."""
    broken = [each for each in findings if each.level == "required" and not each.ok]
    if broken:
        lines = "".join(f"\n  {each.row.id}: {each.seen} {each.remedy}".rstrip() for each in broken)
        raise UserError(f"The profile does not allow this service to start:{lines}")


_ENFORCED = frozenset({"no-core-dumps", "no-outbound"})
"""Checks of this process itself, which only a process that enforces them can pass."""


_OF_THE_START = frozenset({"tls-beyond-loopback", "no-plain-http"})
"""Checks of how the service is started, which its command line says and no file."""


def _known(check_id: str, situation: Situation) -> bool:
    if check_id in _OF_THE_START:
        return situation.config is not None
    return check_id != "no-root-keys" or situation.root_keys is not None


def _enforce(situation: Situation) -> None:
    levels = {row.id: row.levels.get(situation.settings.profile) for row in rows()}
    if levels["no-core-dumps"] is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if levels["no-outbound"] is not None:
        outbound.forbid()


def _private_data(situation: Situation) -> Seen:
    data = situation.data
    mode = data.stat().st_mode & 0o777 if data.exists() else 0o700
    return mode & 0o077 == 0, f"{data} has mode {mode:04o}.", f"Run: chmod 700 {data}"


def _outside_key(situation: Situation) -> Seen:
    # Opening the key store enforces it; this says so to whoever asks beforehand.
    store = situation.settings.key_store
    if store.kind != "passphrase":
        return True, f"The key store is {store.kind}.", ""
    try:
        find_passphrase(store, situation.data, os.environ)
    except OutcropError as error:
        return False, str(error), ""
    return True, "The passphrase comes from outside.", ""


def _no_core_dumps(situation: Situation) -> Seen:
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    dumpable = ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) if sys.platform == "linux" else 1
    ok = limit == (0, 0) and dumpable == 0
    return ok, f"Core dumps are limited to {limit[0]} bytes, dumpable is {dumpable}.", "Start it with `outcrop up`."


def _no_swap(situation: Situation) -> Seen:
    try:
        devices = [line.split()[0] for line in SWAPS.read_text().splitlines()[1:]]
    except OSError:
        return False, f"{SWAPS} cannot be read, so swapping cannot be ruled out.", "Use Linux with /proc mounted."
    named = f"The machine swaps to {', '.join(devices)}." if devices else "Nothing is swapped to disk."
    return not devices, named, "Run: swapoff --all, and take it out of /etc/fstab"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls_beyond_loopback(situation: Situation) -> Seen:
    config = situation.config
    assert config is not None
    ok = config.http_port is None or _is_loopback(config.host)
    return ok, f"Plain HTTP is {'not ' if ok else ''}offered beyond this machine.", "Start it with --no-http."


def _no_plain_http(situation: Situation) -> Seen:
    assert situation.config is not None
    ok = situation.config.http_port is None
    return ok, f"Plain HTTP is {'off' if ok else 'on'}.", "Start it with --no-http."


def _fips_module(situation: Situation) -> Seen:
    try:
        module.require_fips()
    except OutcropError as error:
        return False, str(error), ""
    return True, "A FIPS provider is active.", ""


def _no_root_keys(situation: Situation) -> Seen:
    keys = situation.root_keys
    assert keys is not None
    seen = f"Active root keys: {', '.join(keys)}." if keys else "No root key is active."
    return not keys, seen, "Make a user or role for the work, then run: outcrop key disable ID"


def _replay_cache(situation: Situation) -> Seen:
    # Nothing to look at: this row of the table is itself what puts the memory of signatures in its place.
    return True, "The service remembers the signatures of requests that change something.", ""


def _known_startup_code(situation: Situation) -> Seen:
    folders = [Path(folder) for folder in {*site.getsitepackages(), site.getusersitepackages()}]
    found = [path for folder in folders if folder.is_dir() for path in folder.glob("*.pth")]
    # A line that only adds a folder to the path runs nothing (Python documentation, module site).
    odd = [path for path in found if path.name not in KNOWN_PTH and _runs_code(path)]
    seen = f"Unknown startup code in {', '.join(map(str, odd))}." if odd else "No unknown startup code."
    return not odd, seen, "Find out where it came from; delete it if you did not put it there."


def _runs_code(path: Path) -> bool:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return True
    return any(line.startswith(("import ", "import\t")) for line in lines)


def _local_only(situation: Situation) -> Seen:
    settings = situation.settings
    far = [
        name
        for name, is_far in (
            ("the database is given by URL", settings.database_url_file is not None),
            ("the key store is a transit server", settings.key_store.kind == "transit"),
        )
        if is_far
    ]
    return not far, f"{' and '.join(far) or 'Database and key store are local'}.", "Use SQLite and a local key store."


def _no_outbound(situation: Situation) -> Seen:
    ways = [*outbound.prove(), *(f"a connection held already: {each}" for each in outbound.open_connections())]
    return not ways, f"Open ways out: {', '.join(ways) or 'none'}.", "This is a bug or an unusual kernel: report it."


CHECKS: Mapping[str, Callable[[Situation], Seen]] = {
    "private-data": _private_data,
    "outside-key": _outside_key,
    "no-core-dumps": _no_core_dumps,
    "no-swap": _no_swap,
    "tls-beyond-loopback": _tls_beyond_loopback,
    "no-plain-http": _no_plain_http,
    "fips-module": _fips_module,
    "no-root-keys": _no_root_keys,
    "replay-cache": _replay_cache,
    "known-startup-code": _known_startup_code,
    "local-only": _local_only,
    "no-outbound": _no_outbound,
}
