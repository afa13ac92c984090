"""The settings file: defaults, every known key, and a clear refusal of everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from outcrop.base.errors import UserError
from outcrop.service.settings import Settings, choose_profile


def write(data: Path, text: str) -> None:
    (data / "outcrop.toml").write_text(text)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path)
    assert (settings.profile, settings.key_store.kind, settings.database(tmp_path)) == (
        "dev",
        "passphrase",
        tmp_path / "outcrop.db",
    )


def test_a_whole_file_is_understood(tmp_path: Path) -> None:
    url = tmp_path / "url"
    url.write_text("postgresql+pg8000://me@/x\n")
    url.chmod(0o600)
    write(
        tmp_path,
        f'profile = "strict"\ndatabase_url_file = "{url}"\n[key_store]\nkind = "transit"\n'
        'transit_address = "https://vault:8200"\ntransit_token_file = "/etc/token"\n',
    )
    settings = Settings.load(tmp_path)
    assert settings.profile == settings.key_store.profile == "strict"
    assert settings.database(tmp_path) == "postgresql+pg8000://me@/x"
    assert settings.key_store.transit_token_file == Path("/etc/token")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('profile = "lax"', "no profile 'lax'"),
        ("profil = 1", "unknown key 'profil'"),
        ('[key_store]\nkind = "cloud"', "no kind of key store"),
        ('[key_store]\npassphrase = "hunter2"', "unknown key 'passphrase'"),
        ("[key_store]\nkind = 3", "must be a text"),
        ("profile =", "cannot be read"),
        ("database_url_file = 5", "name of a file"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, text)
    with pytest.raises(UserError, match=words) as caught:
        Settings.load(tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_profile_is_chosen_once(tmp_path: Path) -> None:
    choose_profile(tmp_path / "d", "standard")
    assert Settings.load(tmp_path / "d").profile == "standard"
    choose_profile(tmp_path / "d", "standard")
    with pytest.raises(UserError, match="is set up with the profile standard"):
        choose_profile(tmp_path / "d", "dev")
