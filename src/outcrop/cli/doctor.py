"""``outcrop doctor``: what this installation is made of, and whether it can do its job."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from outcrop.base.errors import NotFound, OutcropError

DISK_BYTES_MIN = 1_000_000_000


Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``remedy`` says what would make it right."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "doctor",
        parents=[common],
        help="look at this installation and its data",
        description="Look at this installation and its data directory. Exit code 1 when something must be mended.",
        epilog="example: outcrop doctor --data ./data",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    findings = list(examine(args.data))
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{finding.status:8} {finding.check}: {finding.found} {finding.remedy}".rstrip())
    return 1 if any(finding.status == "failed" for finding in findings) else 0


def examine(data: Path) -> Iterator[Finding]:
    """Every check, the ones that others build on first."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.machine()} {platform.system()}")
    for package in ("torch", "safetensors", "tokenizers", "jinja2", "msgspec", "uvicorn", "zttp", "cryptography"):
        yield _package(package)
    yield _tls_library()
    yield _cryptographic_module()
    yield _cpu()
    yield from _data(data)
    yield _checked("default model", _default_model)


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "failed", "not installed", "Run `make setup`, or pip install 'outcrop[service]'.")


def _tls_library() -> Finding:
    flags = "TLS 1.3" if ssl.HAS_TLSv1_3 else "no TLS 1.3"
    alpn = "ALPN" if ssl.HAS_ALPN else "no ALPN: HTTP/2 over TLS cannot be negotiated"
    return Finding("TLS library", "ok" if ssl.HAS_ALPN else "failed", f"{ssl.OPENSSL_VERSION}, {flags}, {alpn}")


def _cryptographic_module() -> Finding:
    if importlib.util.find_spec("cryptography") is None:
        return Finding("cryptographic module", "failed", "cryptography is not installed")
    from outcrop.trust.crypto.module import loaded_module  # noqa: PLC0415

    module = loaded_module()
    remedy = "Nothing sealed with it can be relied upon: reinstall cryptography." if module.failed_tests else ""
    return Finding("cryptographic module", "failed" if module.failed_tests else "ok", str(module), remedy)


def _cpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("processor", "warning", f"{os.cpu_count()} cores; torch is not installed")
    import torch  # noqa: PLC0415 - takes seconds

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    return Finding("processor", "ok", f"{os.cpu_count()} cores, {device}, {torch.get_num_threads()} torch threads")


def _data(data: Path) -> Iterator[Finding]:
    if not data.exists():
        yield Finding("data directory", "ok", f"{data} does not exist yet: `outcrop up` makes it")
        return
    mode = data.stat().st_mode & 0o777
    private = mode & 0o077 == 0
    yield Finding(
        "data directory",
        "ok" if private else "failed",
        f"{data}, mode {mode:04o}",
        "" if private else f"Others can read your keys. Run: chmod 700 {data}",
    )
    free = shutil.disk_usage(data).free
    enough = free >= DISK_BYTES_MIN
    yield Finding("disk", "ok" if enough else "warning", f"{free / 1e9:.1f} GB free")
    yield _checked("deployment", lambda: _deployment(data))
    yield from _profile(data)
    yield _checked("key store", lambda: _key_store(data))
    yield _checked("certificate", lambda: _certificate(data))
    yield _checked("models", lambda: _models(data))


def _profile(data: Path) -> Iterator[Finding]:
    """What the deployment's profile asks, as far as it can be seen without starting the service."""
    from outcrop.service import profiles  # noqa: PLC0415
    from outcrop.service.settings import Settings  # noqa: PLC0415

    try:
        settings = Settings.load(data)
    except OutcropError as error:
        yield Finding("profile", "failed", str(error))
        return
    yield Finding("profile", "ok", settings.profile)
    for each in profiles.examine(profiles.Situation(settings, data), enforcing=False):
        status: Status = "ok" if each.ok else "failed" if each.level == "required" else "warning"
        yield Finding(f"{settings.profile}: {each.row.id}", status, each.seen, each.remedy)


def _key_store(data: Path) -> str:
    """Open and use it as a start would, but make none."""
    from outcrop.base.deployment import Deployment  # noqa: PLC0415
    from outcrop.service.settings import Settings  # noqa: PLC0415
    from outcrop.service.trusted import require_keys  # noqa: PLC0415
    from outcrop.trust.crypto.keystores.config import KEYS_FILE, KEYSTORE_DIRECTORY, open_key_store  # noqa: PLC0415

    Deployment.load(data)  # before the first start nothing is made here
    settings = Settings.load(data)
    require_keys(settings, data)
    config = settings.key_store
    path = data / KEYSTORE_DIRECTORY / KEYS_FILE
    if config.kind == "passphrase" and not path.exists():
        raise NotFound(f"There is no {path}.", "`outcrop up` makes it at its first start.")
    store = open_key_store(config, data)
    try:
        return store.check()
    finally:
        store.close()


def _checked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", look())
    except NotFound as error:
        return Finding(name, "warning", str(error))
    except OutcropError as error:
        return Finding(name, "failed", str(error))


def _deployment(data: Path) -> str:
    from outcrop.base.deployment import Deployment  # noqa: PLC0415

    deployment = Deployment.load(data)
    return f"account {deployment.account} in {deployment.region}, partition {deployment.partition}"


def _certificate(data: Path) -> str:
    from outcrop.trust.crypto.ca import ServerTls, ca_fingerprint  # noqa: PLC0415

    return f"private CA, SHA-256 {ca_fingerprint(ServerTls.of(data / 'tls'))}"


def _models(data: Path) -> str:
    from outcrop.models.registry import ModelRegistry  # noqa: PLC0415

    return ", ".join(info.model_id for info in ModelRegistry(data / "models").list())


def _default_model() -> str:
    from outcrop.models.registry import BUNDLED, ModelRegistry  # noqa: PLC0415
    from outcrop.service.hosting import DEFAULT_MODEL_ID  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as empty:
        info = ModelRegistry(Path(empty), BUNDLED).get(DEFAULT_MODEL_ID)
    return f"{info.model_id}, {info.parameters:,} parameters"
