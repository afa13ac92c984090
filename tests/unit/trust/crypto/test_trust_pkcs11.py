"""What only a token can promise, against SoftHSM."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pkcs11
import pytest
from keystore_rig import PIN, TOKEN
from pkcs11 import Attribute, KeyType, ObjectClass

from outcrop.base.errors import KeyStoreUnavailable, NotFound, UserError
from outcrop.trust.crypto.keystores import KeyStoreConfig, open_key_store
from outcrop.trust.crypto.keystores import pkcs11 as pkcs11_room
from outcrop.trust.crypto.keystores.pkcs11 import Pkcs11KeyStore
from outcrop.trust.crypto.secret import Secret


@pytest.mark.parametrize("mechanism", ["AES_GCM", "AES_CBC_PAD+SHA256_HMAC"])
def test_master_keys_never_leave_the_token(softhsm: Path, mechanism: str):
    store = Pkcs11KeyStore(softhsm, TOKEN, Secret(PIN), mechanism=mechanism)
    assert store.create("a").in_process is False
    session = store._opened
    keys = list(session.get_objects({Attribute.LABEL: "outcrop:a"}))
    assert len(keys) == (1 if mechanism == "AES_GCM" else 2)
    for key in keys:
        assert key[Attribute.EXTRACTABLE] is False
        assert key[Attribute.NEVER_EXTRACTABLE] is True
        assert key[Attribute.SENSITIVE] is True
        assert key[Attribute.ALWAYS_SENSITIVE] is True
        assert key[Attribute.PRIVATE] is True
        assert key[Attribute.MODIFIABLE] is False
        assert key[Attribute.LOCAL] is True
        assert key[Attribute.WRAP] is False
        with pytest.raises(pkcs11.AttributeSensitive):
            key[Attribute.VALUE]
        with pytest.raises(pkcs11.PKCS11Error):
            key[Attribute.EXTRACTABLE] = True
        wrapping = session.generate_key(KeyType.AES, 256, capabilities=pkcs11.MechanismFlag.WRAP)
        with pytest.raises(pkcs11.KeyUnextractable):
            wrapping.wrap_key(key)
    # The negative twin: the same calls do take out a key that is extractable.
    taken = session.generate_key(KeyType.AES, 256, template={Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False})
    assert len(taken[Attribute.VALUE]) == 32
    store.destroy("a")
    store.close()


def test_a_token_that_lets_keys_out_is_refused(softhsm: Path, monkeypatch: pytest.MonkeyPatch):
    store = Pkcs11KeyStore(softhsm, TOKEN, Secret(PIN))
    session = store._opened

    class Lax:
        def __getattr__(self, name: str) -> object:
            return getattr(session, name)

        def generate_key(self, *arguments: object, template: dict[Attribute, object], **rest: object) -> object:
            return session.generate_key(
                *arguments,
                template={**template, Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False},
                **rest,
            )

    monkeypatch.setattr(store, "_opened", Lax())
    with pytest.raises(KeyStoreUnavailable, match="can be taken out"):
        store.create("lax")
    monkeypatch.undo()
    assert store.names() == []
    store.close()


def test_a_version_keeps_its_mechanism(softhsm: Path):
    gcm = Pkcs11KeyStore(softhsm, TOKEN, Secret(PIN), mechanism="AES_GCM")
    gcm.create("a")
    first = gcm.wrap("a", Secret(b"first"), {})
    cbc = Pkcs11KeyStore(softhsm, TOKEN, Secret(PIN), mechanism="AES_CBC_PAD+SHA256_HMAC")
    assert cbc.unwrap("a", first, {}).reveal() == b"first"
    assert cbc.wrap("a", Secret(b"x"), {})[4] == 1
    cbc.rotate("a")
    second = cbc.wrap("a", Secret(b"second"), {})
    assert second[4] == 2
    assert gcm.unwrap("a", second, {}).reveal() == b"second"
    gcm.destroy("a")
    assert list(gcm._opened.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})) == []
    gcm.close()


def test_other_keys_of_the_token_are_left_alone(softhsm: Path):
    store = Pkcs11KeyStore(softhsm, TOKEN, Secret(PIN))
    other = store._opened.generate_key(KeyType.AES, 256, label="somebody else's", store=True)
    assert store.names() == []
    with pytest.raises(NotFound):
        store.destroy("a")
    other.destroy()
    store.close()


def test_what_cannot_be_opened(softhsm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(KeyStoreUnavailable, match="NoSuchToken"):
        Pkcs11KeyStore(softhsm, "another", Secret(PIN))
    with pytest.raises(KeyStoreUnavailable, match="There is no PKCS#11 module"):
        Pkcs11KeyStore(tmp_path / "none.so", TOKEN, Secret(PIN))
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(KeyStoreUnavailable):
        Pkcs11KeyStore(tmp_path / "text.so", TOKEN, Secret(PIN))
    choose = pkcs11_room._choose
    monkeypatch.setattr(pkcs11_room, "_choose", lambda wanted, offered: choose(wanted, set()))
    with pytest.raises(UserError, match="does not offer"):
        Pkcs11KeyStore(softhsm, TOKEN, Secret(PIN))
    monkeypatch.setattr(pkcs11_room, "token_library", None)
    with pytest.raises(KeyStoreUnavailable, match=r"outcrop\[hsm\]"):
        Pkcs11KeyStore(softhsm, TOKEN, Secret(PIN))


def test_a_wrong_pin_is_refused_and_not_told(softhsm: Path):
    # In a process of its own: a login counts for the whole process.
    program = f"""
        from pathlib import Path
        from outcrop.base.errors import KeyStoreUnavailable
        from outcrop.trust.crypto.keystores.pkcs11 import Pkcs11KeyStore
        from outcrop.trust.crypto.secret import Secret
        try:
            Pkcs11KeyStore(Path({str(softhsm)!r}), {TOKEN!r}, Secret("0000canary"))
        except KeyStoreUnavailable as error:
            print(error)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True, timeout=60
    )
    assert "PinIncorrect" in ended.stdout
    assert "canary" not in ended.stdout + ended.stderr


def test_it_is_opened_by_configuration(softhsm: Path, tmp_path: Path):
    pin_file = tmp_path / "pin"
    pin_file.write_text(PIN + "\n")
    pin_file.chmod(0o600)
    config = KeyStoreConfig(kind="pkcs11", pkcs11_library=softhsm, pkcs11_token=TOKEN, pkcs11_pin_file=pin_file)
    store = open_key_store(config, tmp_path / "data", {})
    assert "AES-GCM" in store.check()
    store.destroy("deployment")
    store.close()
    assert not (tmp_path / "data").exists()


def test_after_a_failure_of_the_token_the_next_call_logs_in_again(softhsm: Path, monkeypatch: pytest.MonkeyPatch):
    store = Pkcs11KeyStore(softhsm, TOKEN, Secret(PIN))
    store.create("a")
    wrapped = store.wrap("a", Secret(b"x"), {})

    class Gone:
        def get_objects(self, *_: object) -> object:
            raise pkcs11.DeviceRemoved

    session = store._opened
    monkeypatch.setattr(store, "_opened", Gone())
    with pytest.raises(KeyStoreUnavailable, match="DeviceRemoved"):
        store.unwrap("a", wrapped, {})
    assert store.unwrap("a", wrapped, {}).reveal() == b"x"
    assert store._opened is not session
    store.destroy("a")
    store.close()
