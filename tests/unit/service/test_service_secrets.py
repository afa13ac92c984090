"""The deployment's secrets: the same for all, sealed in the file, one version back after a rotation."""

from __future__ import annotations

from pathlib import Path

import pytest

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import KeyStoreUnavailable, UserError
from outcrop.base.tables import Database
from outcrop.cli.main import main
from outcrop.service.secrets import DeploymentSecrets
from outcrop.service.settings import choose_profile
from outcrop.service.trusted import Trust
from outcrop.trust.crypto.keystores import MemoryKeyStore


def test_a_secret_is_made_once_and_is_the_same_for_every_process(tmp_path: Path) -> None:
    store = MemoryKeyStore()
    first = DeploymentSecrets(Database(tmp_path / "a.db"), store, SystemClock())
    [value] = first.get("sessions")
    again = DeploymentSecrets(Database(tmp_path / "a.db"), store, SystemClock())
    assert again.get("sessions") == (value,)
    assert again.get("audit") != (value,)
    assert value.reveal() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_rotation_keeps_one_version_back(tmp_path: Path) -> None:
    secrets = DeploymentSecrets(Database(tmp_path / "a.db"), MemoryKeyStore(), SystemClock())
    [one] = secrets.get("s")
    secrets.rotate("s")
    two, old = secrets.get("s")
    assert old == one
    secrets.rotate("s")
    assert len(secrets.get("s")) == 2
    assert one not in secrets.get("s")
    assert two in secrets.get("s")


def test_without_the_key_store_nothing_opens(tmp_path: Path) -> None:
    DeploymentSecrets(Database(tmp_path / "a.db"), MemoryKeyStore(), SystemClock()).get("s")
    with pytest.raises(UserError):
        DeploymentSecrets(Database(tmp_path / "a.db"), MemoryKeyStore(), SystemClock()).get("s")


def test_no_new_key_store_is_made_where_one_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, away = tmp_path / "data", tmp_path / "away"
    deployment = Deployment.create(data, region="us-east-1")
    Trust.open(data, deployment, SystemClock()).close()
    (data / "keystore").rename(away)
    with pytest.raises(KeyStoreUnavailable, match="Put the directory keystore back"):
        Trust.open(data, deployment, SystemClock())
    assert not (data / "keystore").exists()
    assert main(["doctor", "--data", str(data)]) == 1
    assert "Put the directory keystore back" in capsys.readouterr().out
    away.rename(data / "keystore")
    Trust.open(data, deployment, SystemClock()).close()
    main(["doctor", "--data", str(data)])
    assert "ok       key store: " in capsys.readouterr().out


def test_the_profile_is_held_when_its_file_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple")
    passphrase.chmod(0o600)
    monkeypatch.setenv("OUTCROP_PASSPHRASE_FILE", str(passphrase))
    data = tmp_path / "data"
    deployment = Deployment.create(data)
    choose_profile(data, "standard")
    Trust.open(data, deployment, SystemClock()).close()
    (data / "outcrop.toml").unlink()
    with pytest.raises(UserError, match=r"held to the profile standard.*outcrop up --profile dev"):
        Trust.open(data, deployment, SystemClock())
    Trust.open(data, deployment, SystemClock(), new_profile=True).close()  # the operator means it
    Trust.open(data, deployment, SystemClock()).close()
    (data / "outcrop.toml").write_text('profile = "standard"\n')
    with pytest.raises(UserError, match="held to the profile dev"):
        Trust.open(data, deployment, SystemClock())
