"""``outcrop key`` and ``outcrop trust`` as a person and a script meet them."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import NotFound, UserError
from outcrop.cli import key, trust
from outcrop.service.trusted import Trust
from outcrop.trust.crypto.ca import ensure_tls
from outcrop.trust.identity import Authenticator, IdentityStore, SignedRequest


class Shell:
    """Runs a verb and gives back what it printed."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data = data
        self._capsys = capsys

    def run(self, *words: str) -> str:
        common = argparse.ArgumentParser(add_help=False)
        common.add_argument("--data", type=Path, default=self.data)
        common.add_argument("--json", action="store_true")
        parser = argparse.ArgumentParser()
        subparsers = parser.add_subparsers(required=True)
        for module in (key, trust):
            module.add(subparsers, common)
        args = parser.parse_args(words)
        assert args.run(args) == 0
        return self._capsys.readouterr().out

    def json(self, *words: str) -> object:
        return json.loads(self.run(*words, "--json"))

    def store(self) -> IdentityStore:
        return Trust.open(self.data, Deployment.load(self.data), SystemClock()).identity


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    deployment = Deployment.create(tmp_path / "data", region="eu-west-1")
    shell = Shell(tmp_path / "data", capsys)
    shell.store().ensure_account(deployment.partition, deployment.account)
    return shell


def test_keys_are_listed_without_secrets(shell: Shell) -> None:
    (listed,) = shell.json("key", "list")
    assert listed["status"] == "Active"
    assert listed["arn"].endswith(":root")
    assert listed["access_key_id"] in shell.run("key", "list")
    assert "secret" not in shell.run("key", "list", "--json")


def test_a_created_key_comes_as_export_lines_with_its_secret(shell: Shell) -> None:
    lines = shell.run("key", "create").splitlines()
    identifier = re.fullmatch("export AWS_ACCESS_KEY_ID=(AKIA[A-Z2-7]{16})", lines[0])[1]
    secret = re.fullmatch("export AWS_SECRET_ACCESS_KEY=([A-Za-z0-9+/]{40})", lines[1])[1]
    assert shell.store().lookup(identifier).secret == secret
    with pytest.raises(UserError, match="AccessKeysPerUser: 2"):
        shell.run("key", "create")


def test_a_created_key_comes_as_json(shell: Shell) -> None:
    made = shell.json("key", "create")
    assert shell.store().lookup(made["access_key_id"]).secret == made["secret_access_key"]


def test_keys_are_disabled_enabled_and_deleted(shell: Shell) -> None:
    identifier = shell.json("key", "list")[0]["access_key_id"]
    assert shell.run("key", "disable", identifier) == f"{identifier} is inactive.\n"
    assert shell.store().lookup(identifier) is None
    assert shell.json("key", "enable", identifier)["status"] == "Active"
    assert shell.run("key", "delete", identifier, "--dry-run") == f"{identifier} would be deleted.\n"
    assert shell.json("key", "delete", identifier, "--dry-run")["deleted"] is False
    assert shell.store().lookup(identifier) is not None
    assert shell.run("key", "delete", identifier) == f"{identifier} is deleted.\n"
    assert shell.json("key", "list") == []
    assert "outcrop key create" in shell.run("key", "list")


def test_an_unknown_key_is_not_found(shell: Shell) -> None:
    for action in ("disable", "enable", "delete"):
        with pytest.raises(NotFound, match="Access Key with id AKIANONE cannot be found"):
            shell.run("key", action, "AKIANONE")


def authenticates(shell: Shell, api_key: str) -> bool:
    request = SignedRequest("POST", b"/", b"", [(b"x-api-key", api_key.encode())], b"")
    authenticator = Authenticator(shell.store(), "eu-west-1", SystemClock())
    return authenticator.authenticate(request, "bedrock", allow_bearer=True).auth == "bearer"


def test_an_api_key_is_made_and_accepted(shell: Shell) -> None:
    assert authenticates(shell, shell.run("key", "bearer").strip())
    made = shell.json("key", "bearer", "--expires-s", "60")
    assert authenticates(shell, made["api_key"])
    assert made["region"] == "eu-west-1"


def test_an_api_key_can_be_made_from_a_chosen_key(shell: Shell) -> None:
    second = shell.json("key", "create")["access_key_id"]
    assert shell.json("key", "bearer", "--key", second)["access_key_id"] == second
    shell.run("key", "disable", second)
    with pytest.raises(UserError, match=f"{second} is disabled"):
        shell.run("key", "bearer", "--key", second)
    assert shell.json("key", "bearer")["access_key_id"] != second


def test_an_api_key_needs_an_active_key_and_a_sound_expiry(shell: Shell) -> None:
    with pytest.raises(UserError, match="12 hours"):
        shell.run("key", "bearer", "--expires-s", "43201")
    shell.run("key", "disable", shell.json("key", "list")[0]["access_key_id"])
    with pytest.raises(NotFound, match="no active access key"):
        shell.run("key", "bearer")


def test_without_a_deployment_the_first_step_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path / "none", capsys)
    for words in (["key", "list"], ["trust"]):
        with pytest.raises(NotFound, match="`outcrop up`"):
            shell.run(*words)
    assert not shell.data.exists()


def test_trust_prints_a_shell_script(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "it's here"
    data.mkdir()
    files = ensure_tls(data / "tls")
    script = shell.run("trust", "--data", str(data))
    show = 'printf "%s\\n" "$AWS_CA_BUNDLE" "$NODE_EXTRA_CA_CERTS" "$SSL_CERT_FILE" "$REQUESTS_CA_BUNDLE"'
    ran = subprocess.run(["sh", "-eu", "-c", script + "\n" + show], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [str(files.ca_certificate)] * 4
    assert f"curl --cacert {shlex.quote(str(files.ca_certificate))}" in script


def test_trust_tells_scripts_where_the_ca_is(shell: Shell) -> None:
    files = ensure_tls(shell.data / "tls")
    told = shell.json("trust")
    assert told["ca_certificate"] == str(files.ca_certificate)
    assert re.fullmatch("([0-9A-F]{2}:){31}[0-9A-F]{2}", told["sha256_fingerprint"])
    assert set(told["environment"]) == {"AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
