"""The passphrase store's file, and where the passphrase comes from."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from keystore_rig import PASSPHRASE, SCRYPT_N

from outcrop.base.errors import KeyStoreUnavailable, Unsealable, UserError
from outcrop.trust.crypto.keystores import KeyStoreConfig, MemoryKeyStore, open_key_store
from outcrop.trust.crypto.keystores import passphrase as passphrase_room
from outcrop.trust.crypto.keystores.config import find_passphrase, read_secret_file
from outcrop.trust.crypto.keystores.passphrase import PassphraseKeyStore
from outcrop.trust.crypto.secret import Secret

OTHER = Secret("another passphrase for tests")


def opened(directory: Path, passphrase: Secret = PASSPHRASE) -> PassphraseKeyStore:
    return PassphraseKeyStore(directory / "keys.json", passphrase, scrypt_n=SCRYPT_N)


def test_another_passphrase_opens_nothing_and_is_not_told(tmp_path: Path):
    store = opened(tmp_path)
    store.create("a")
    with pytest.raises(KeyStoreUnavailable, match="does not open") as caught:
        opened(tmp_path, OTHER)
    assert "another passphrase" not in str(caught.value)
    assert opened(tmp_path).names() == ["a"]


def test_the_file_is_private_and_shows_no_name_and_no_key(tmp_path: Path):
    store = opened(tmp_path)
    store.create("tenant-canary")
    path = tmp_path / "keys.json"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    sealed = base64.b64decode(json.loads(text)["sealed"])
    assert "tenant-canary" not in text
    assert b"tenant-canary" not in sealed
    assert PASSPHRASE.reveal_text() not in text


@pytest.mark.parametrize("field", ["salt", "n", "r", "p", "sealed", "format"])
def test_a_changed_file_is_refused(tmp_path: Path, field: str):
    opened(tmp_path).create("a")
    path = tmp_path / "keys.json"
    document = json.loads(path.read_text())
    if field == "format":
        document["format"] = "outcrop-keystore-2"
    elif field in ("salt", "sealed"):
        holder = document if field == "sealed" else document["scrypt"]
        raw = bytearray(base64.b64decode(holder[field]))
        raw[-1] ^= 1
        holder[field] = base64.b64encode(raw).decode()
    else:
        document["scrypt"][field] *= 2
    path.write_text(json.dumps(document))
    with pytest.raises(KeyStoreUnavailable):
        opened(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"format": "outcrop-keystore-1"}', b"[" * 100_000,
     b'{"format": "outcrop-keystore-1", "scrypt": {"salt": "AAAAAAAAAAAAAAAA", "n": 1e99, "r": 8, "p": 1}}',
     b'{"format": "outcrop-keystore-1", "scrypt": {"salt": "AAAAAAAAAAAAAAAA", "n": 2, "r": 8, "p": 1}}'],
)  # fmt: skip
def test_what_is_no_key_store_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "keys.json").write_bytes(content)
    with pytest.raises(KeyStoreUnavailable, match=r"keys\.json"):
        opened(tmp_path)
    assert (tmp_path / "keys.json").read_bytes() == content


def test_every_truncation_of_the_file_is_refused(tmp_path: Path):
    opened(tmp_path).create("a")
    path = tmp_path / "keys.json"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(KeyStoreUnavailable):
            opened(tmp_path)


def test_a_store_that_is_open_notices_that_its_file_was_changed_or_removed(tmp_path: Path):
    store = opened(tmp_path)
    store.create("a")
    path = tmp_path / "keys.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(KeyStoreUnavailable):
        store.describe("a")
    path.unlink()
    with pytest.raises(KeyStoreUnavailable):
        store.describe("a")
    path.write_bytes(whole)
    assert store.describe("a").name == "a"


def test_a_change_of_the_passphrase(tmp_path: Path):
    store = opened(tmp_path)
    store.create("a")
    wrapped = store.wrap("a", Secret(b"x"), {})
    before = (tmp_path / "keys.json").read_bytes()
    store.change_passphrase(OTHER)
    assert store.unwrap("a", wrapped, {}).reveal() == b"x"
    store.create("b")  # and it goes on under the new one
    assert opened(tmp_path, OTHER).unwrap("a", wrapped, {}).reveal() == b"x"
    with pytest.raises(KeyStoreUnavailable):
        opened(tmp_path)
    salts = [json.loads(text)["scrypt"]["salt"] for text in (before, (tmp_path / "keys.json").read_bytes())]
    assert salts[0] != salts[1]


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = opened(tmp_path)
    store.create("a")

    def fail(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(passphrase_room, "write_atomic", fail)
    for change in (
        lambda: store.create("b"),
        lambda: store.rotate("a"),
        lambda: store.destroy("a"),
        lambda: store.change_passphrase(OTHER),
    ):
        with pytest.raises(OSError, match="No space"):
            change()
    monkeypatch.undo()
    assert store.names() == ["a"]
    assert store.describe("a").versions == (1,)
    assert opened(tmp_path).describe("a").versions == (1,)


def test_two_processes_make_keys_at_once(tmp_path: Path):
    opened(tmp_path)
    program = f"""
        import sys, time
        from pathlib import Path
        from outcrop.trust.crypto.keystores.passphrase import PassphraseKeyStore
        from outcrop.trust.crypto.secret import Secret
        store = PassphraseKeyStore(Path({str(tmp_path / "keys.json")!r}), Secret({PASSPHRASE.reveal_text()!r}))
        Path({str(tmp_path)!r}, "ready-" + sys.argv[1]).touch()
        deadline = time.monotonic() + 30
        while len(list(Path({str(tmp_path)!r}).glob("ready-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        for number in range(25):
            store.create(f"{{sys.argv[1]}}-{{number}}")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    running = [subprocess.Popen([*command, name]) for name in ("a", "b")]
    assert [process.wait(60) for process in running] == [0, 0]
    assert opened(tmp_path).names() == sorted(f"{name}-{number}" for name in "ab" for number in range(25))


def secret_file(path: Path, text: str = "a passphrase in a file\n", mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_dev_profile_makes_a_passphrase_of_its_own_once(tmp_path: Path):
    store = open_key_store(KeyStoreConfig(), tmp_path, {})
    store.create("a")
    path = tmp_path / "keystore" / "passphrase"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    made = path.read_text()
    assert len(made) >= 43
    assert open_key_store(KeyStoreConfig(), tmp_path, {}).names() == ["a"]
    assert path.read_text() == made
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["keys.json", "keys.json.lock", "passphrase"]
    path.unlink()
    with pytest.raises(KeyStoreUnavailable, match="is missing"):
        open_key_store(KeyStoreConfig(), tmp_path, {})
    assert not path.exists()


def test_other_profiles_need_a_passphrase_from_outside(tmp_path: Path):
    data, config = tmp_path / "data", KeyStoreConfig(profile="production")
    with pytest.raises(UserError, match="outside the data directory"):
        open_key_store(config, data, {})
    assert not data.exists()
    inside = secret_file(data / "keystore" / "passphrase")
    with pytest.raises(UserError, match="outside the data directory"):
        open_key_store(config, data, {})
    with pytest.raises(UserError, match="inside the data directory"):
        open_key_store(KeyStoreConfig(profile="production", passphrase_file=inside), data, {})
    (tmp_path / "link").symlink_to(inside)
    with pytest.raises(UserError, match="inside the data directory"):
        open_key_store(KeyStoreConfig(profile="production", passphrase_file=tmp_path / "link"), data, {})
    outside = secret_file(tmp_path / "elsewhere")
    assert open_key_store(KeyStoreConfig(profile="production", passphrase_file=outside), data, {}).names() == []


def test_the_order_of_the_sources(tmp_path: Path):
    named = secret_file(tmp_path / "named", "passphrase that is named\n")
    secret_file(tmp_path / "credentials" / "outcrop-passphrase", "passphrase of systemd\r\n")
    variable = secret_file(tmp_path / "variable", "passphrase of a variable")
    both = {
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
        "OUTCROP_PASSPHRASE_FILE": str(variable),
    }

    def found(config: KeyStoreConfig, environment: dict[str, str]) -> bytes:
        return find_passphrase(config, tmp_path / "data", environment).reveal()

    assert found(KeyStoreConfig(passphrase_file=named), both) == b"passphrase that is named"
    assert found(KeyStoreConfig(), both) == b"passphrase of systemd"
    (tmp_path / "credentials" / "outcrop-passphrase").unlink()
    assert found(KeyStoreConfig(), both) == b"passphrase of a variable"
    with pytest.raises(KeyStoreUnavailable, match="cannot be read"):
        found(KeyStoreConfig(), {"OUTCROP_PASSPHRASE_FILE": str(tmp_path / "none")})
    # The value itself is not taken from the environment.
    with pytest.raises(UserError, match="needs a passphrase"):
        found(KeyStoreConfig(profile="production"), {"OUTCROP_PASSPHRASE": "a passphrase in a variable"})


def test_secret_files_that_are_refused(tmp_path: Path):
    for mode in (0o604, 0o640 | 0o020, 0o602, 0o601):
        with pytest.raises(UserError, match="open to others"):
            read_secret_file(secret_file(tmp_path / "x", mode=mode))
    for mode in (0o600, 0o400, 0o440):
        (tmp_path / "x").unlink()
        assert read_secret_file(secret_file(tmp_path / "x", mode=mode))
    (tmp_path / "x").unlink()
    for text in ("", "\n"):
        with pytest.raises(UserError, match="empty"):
            read_secret_file(secret_file(tmp_path / "x", text))
    with pytest.raises(UserError, match="longer"):
        read_secret_file(secret_file(tmp_path / "x", "x" * 5000))
    short = secret_file(tmp_path / "x", "canary-short\n")
    with pytest.raises(UserError, match="shorter than 16 bytes") as caught:
        open_key_store(KeyStoreConfig(passphrase_file=short), tmp_path, {})
    assert "canary" not in str(caught.value)


def test_configurations_that_cannot_work(tmp_path: Path):
    with pytest.raises(UserError, match="pkcs11 key store is not configured"):
        open_key_store(KeyStoreConfig(kind="pkcs11"), tmp_path, {})
    with pytest.raises(UserError, match="transit key store is not configured"):
        open_key_store(KeyStoreConfig(kind="transit"), tmp_path, {})
    assert isinstance(open_key_store(KeyStoreConfig(kind="memory"), tmp_path, {}), MemoryKeyStore)


def test_a_copy_of_the_store_without_its_passphrase_opens_nothing(tmp_path: Path):
    """What the dev profile does protect, and what it does not."""
    store = open_key_store(KeyStoreConfig(), tmp_path, {})
    store.create("a")
    wrapped = store.wrap("a", Secret(b"x"), {})
    copy = tmp_path / "copy"
    copy.mkdir()
    os.link(tmp_path / "keystore" / "keys.json", copy / "keys.json")
    with pytest.raises(KeyStoreUnavailable):
        opened(copy)
    whole = PassphraseKeyStore(copy / "keys.json", read_secret_file(tmp_path / "keystore" / "passphrase"))
    assert whole.unwrap("a", wrapped, {}).reveal() == b"x"
    with pytest.raises(Unsealable):
        whole.unwrap("a", wrapped, {"other": "context"})
