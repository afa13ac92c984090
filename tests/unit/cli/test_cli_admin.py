"""``outcrop admin`` as an operator meets it: what it prints, what it changes, what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.cli.main import main
from outcrop.service import trusted
from outcrop.service.admission.base import Quota
from outcrop.service.admission.quotas import QuotaStore
from outcrop.service.trusted import SESSION_SECRET, Trust
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.identity.controls import RCP, SCP

BEDROCK = "arn:aws:iam::aws:policy/AmazonBedrockFullAccess"
DENY = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}'
DENY_RCP = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}]}'
TRUST = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}'
JWKS = '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"k1"}]}'

Admin = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def one_key_store() -> Iterator[None]:
    """A key store in memory for every opening: stretching the passphrase anew takes most of a verb's time."""
    store = MemoryKeyStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trusted, "open_key_store", lambda config, data: store)
        patch.setattr(trusted, "require_keys", lambda settings, data: None)
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, one_key_store: None) -> Path:
    """A data directory with its first account."""
    data = tmp_path_factory.mktemp("admin") / "data"
    deployment = Deployment.create(data, region="us-east-1")
    trust = Trust.open(data, deployment, SystemClock())
    trust.identity.ensure_account(deployment.partition, deployment.account)
    trust.close()
    return data


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def admin(data: Path, capsys: pytest.CaptureFixture[str]) -> Admin:
    """Runs one verb and gives back its JSON; a refusal as its line on stderr."""

    def run(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main(["admin", *words, "--data", str(data), "--json"]) == code
        printed = capsys.readouterr()
        return json.loads(printed.out) if code == 0 else printed.err

    return run


@contextmanager
def opened(data: Path) -> Iterator[tuple[Trust, str]]:
    deployment = Deployment.load(data)
    trust = Trust.open(data, deployment, SystemClock())
    try:
        yield trust, deployment.account
    finally:
        trust.close()


def test_an_account_is_made_with_a_key_that_works_until_it_is_closed(admin: Admin, data: Path) -> None:
    made = admin("account", "create", "research", "--id", "444455556666")
    with opened(data) as (trust, _):
        credential = trust.identity.lookup(made["access_key_id"])
        assert credential is not None
        assert (credential.account, credential.secret) == ("444455556666", made["secret_access_key"])
    assert "secret_access_key" not in json.dumps(admin("account", "list"))
    assert admin("account", "close", "444455556666")["status"] == "SUSPENDED"
    with opened(data) as (trust, management):
        assert trust.identity.lookup(made["access_key_id"]) is None
    assert admin("account", "reopen", "444455556666")["status"] == "ACTIVE"
    with opened(data) as (trust, _):
        assert trust.identity.lookup(made["access_key_id"]) is not None
    assert "[OC-1409]" in admin("account", "create", "again", "--id", "444455556666", code=1)
    assert "management account cannot be suspended" in admin("account", "close", management, code=1)


def test_the_tree_is_shown_as_it_is_built(admin: Admin, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = admin("account", "create", "research")["account"]
    upper = admin("ou", "create", "labs")["id"]
    lower = admin("ou", "create", "deep", "--parent", upper)["id"]
    assert admin("ou", "move", account, lower)["parent"] == lower
    assert main(["admin", "ou", "list", "--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if account in line] == [f"      {account}  research"]
    assert admin("ou", "move", account, "root")["parent"] == admin("ou", "list")["root"]
    assert "[OC-1404]" in admin("ou", "move", account, "ou-none-00000000", code=1)


def test_a_user_is_made_with_policies_and_a_key(admin: Admin, data: Path) -> None:
    made = admin("user", "create", "alice", "--policy", BEDROCK, "--key")
    assert made["policies"] == [BEDROCK]
    with opened(data) as (trust, account):
        credential = trust.identity.lookup(made["access_key_id"])
        assert credential is not None
        assert credential.arn.resource == "user/alice"
        assert trust.identity.holdings.attached(account, "user", "alice") == [BEDROCK]
    assert [user["name"] for user in admin("user", "list")] == ["alice"]
    assert "access_key_id" not in admin("user", "create", "bob")
    assert "[OC-1409]" in admin("user", "create", "alice", code=1)
    assert "[OC-1404]" in admin("user", "create", "dave", "--policy", BEDROCK + "x", code=1)
    assert "dave" not in [user["name"] for user in admin("user", "list")]
    assert "[OC-1404]" in admin("user", "create", "carol", "--account", "999999999999", code=1)


def test_a_role_is_made_and_its_sessions_revoked(admin: Admin, data: Path, tmp_path: Path) -> None:
    document = tmp_path / "trust.json"
    document.write_text(TRUST)
    assert admin("role", "create", "worker", "--trust", str(document))["name"] == "worker"
    assert admin("policy", "attach", BEDROCK, "--role", "worker")["policies"] == [BEDROCK]
    before = admin("revoke", "worker")["revoked_before"]
    with opened(data) as (trust, account):
        role = trust.identity.roles.get(account, "worker")
        assert role.revoked_before == before
        assert SystemClock().now() - timedelta(minutes=5) < SystemClock().now().fromisoformat(before)
    document.write_text("{}")
    assert "[OC-4300]" in admin("role", "create", "broken", "--trust", str(document), code=1)
    assert "[OC-1404]" in admin("role", "create", "none", "--trust", str(tmp_path / "none"), code=1)
    assert "[OC-1404]" in admin("policy", "attach", BEDROCK, "--group", "none", code=1)
    assert "[OC-1404]" in admin("revoke", "nobody", code=1)


@pytest.mark.parametrize(("word", "kind", "text"), [("scp", SCP, DENY), ("rcp", RCP, DENY_RCP)])
def test_a_control_policy_is_written_attached_and_taken_off(
    admin: Admin, data: Path, tmp_path: Path, word: str, kind: Any, text: str
) -> None:
    document = tmp_path / "deny.json"
    document.write_text(text)
    account = admin("account", "create", "research")["account"]
    assert admin(word, "put", "no-kms", str(document))["targets"] == []
    assert admin(word, "attach", "no-kms", account)["targets"] == [account]
    with opened(data) as (trust, _):
        assert trust.identity.controls.get(kind, "no-kms").document == text
    assert "[OC-1409]" in admin(word, "attach", "no-kms", account, code=1)
    assert "[OC-1410]" in admin(word, "delete", "no-kms", code=1)
    assert admin(word, "detach", "no-kms", account)["targets"] == []
    assert admin(word, "delete", "no-kms")["deleted"] is True
    assert "no-kms" not in [policy["name"] for policy in admin(word, "list")]
    document.write_text("[]")
    assert "[OC-4300]" in admin(word, "put", "broken", str(document), code=1)


def test_the_last_scp_of_a_target_stays(admin: Admin) -> None:
    assert "[OC-1410]" in admin("scp", "detach", "FullAWSAccess", "root", code=1)


def test_a_provider_is_registered_and_given_new_keys(admin: Admin, data: Path, tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_text(JWKS)
    issuer = "https://idp.example.org"
    assert admin("oidc", "add", issuer, "--jwks", str(keys), "--client-id", "a")["client_ids"] == ["a"]
    keys.write_text(JWKS.replace("k1", "k2"))
    again = admin("oidc", "add", issuer, "--jwks", str(keys), "--client-id", "b")
    assert again["client_ids"] == ["a", "b"]
    with opened(data) as (trust, account):
        provider = trust.identity.oidc.of_issuer(account, issuer)
        assert provider is not None
        assert '"k2"' in provider.jwks
    keys.write_text('{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQAB"}]}')
    assert "public keys" in admin("oidc", "add", issuer, "--jwks", str(keys), "--client-id", "a", code=1)


def test_quotas_are_set_listed_and_deleted(admin: Admin, data: Path) -> None:
    where = ("--account", "444455556666", "--model", "local.tiny-v1:0")
    admin("quota", "set", *where, "--rpm", "60", "--tpm", "1000", "--concurrent", "2", "--weight", "2.5")
    with opened(data) as (trust, _):
        store = QuotaStore(trust.database)
        assert store.quota("444455556666", "local.tiny-v1:0") == Quota(60, 1000, 2, 2.5)
        assert store.quota("444455556667", "local.tiny-v1:0") == Quota()
    assert [row["requests_per_minute"] for row in admin("quota", "list")] == [60]
    admin("quota", "delete", *where)
    assert admin("quota", "list") == []
    assert "[OC-1404]" in admin("quota", "delete", *where, code=1)
    assert "cannot be 0" in admin("quota", "set", "--rpm", "0", code=1)
    assert admin("quota", "set", "--account", "not an account", "--rpm", "1", code=1)
    assert admin("quota", "set", "--account", "444455556666")["requests_per_minute"] is None  # free of the one for all


def test_a_quota_for_everybody_is_not_taken_away_by_naming_none(admin: Admin) -> None:
    admin("quota", "set", "--rpm", "60")
    assert "quota delete" in admin("quota", "set", code=1)
    assert [row["requests_per_minute"] for row in admin("quota", "list")] == [60]


def test_new_session_keys_leave_one_before_them(admin: Admin, data: Path) -> None:
    with opened(data) as (trust, _):
        first = trust.secrets.get(SESSION_SECRET)
    admin("rotate-session-keys")
    with opened(data) as (trust, _):
        second = trust.secrets.get(SESSION_SECRET)
    assert len(second) == 2
    assert second[1] == first[0]
    admin("rotate-session-keys")
    with opened(data) as (trust, _):
        third = trust.secrets.get(SESSION_SECRET)
    assert first[0] not in third


def test_for_a_person_the_key_comes_as_lines_for_a_shell(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admin", "user", "create", "alice", "--key", "--data", str(data)]) == 0
    note, *exports = capsys.readouterr().out.splitlines()
    assert "shown this once" in note
    assert [line.partition("=")[0] for line in exports] == [
        "export AWS_ACCESS_KEY_ID",
        "export AWS_SECRET_ACCESS_KEY",
    ]
