"""The contract of key stores, run over every one of them."""

from __future__ import annotations

import threading

import pytest
from keystore_rig import OpenStore

from outcrop.base.errors import AlreadyExists, NotFound, Unsealable, UserError
from outcrop.trust.crypto.keystores import DEPLOYMENT_KEY, MasterKey, MemoryKeyStore
from outcrop.trust.crypto.secret import Secret

CONTEXT = {"arn": "arn:aws:x", "account": "111122223333"}


def test_a_data_key_is_unwrapped_as_it_was_made(open_store: OpenStore):
    store = open_store()
    store.create("a")
    key = store.generate_data_key("a", CONTEXT)
    assert key.name == "a"
    assert len(key.plaintext) == 32
    assert key.plaintext.reveal() not in key.wrapped
    assert store.unwrap("a", key.wrapped, CONTEXT) == key.plaintext
    assert store.unwrap("a", key.wrapped, dict(reversed(CONTEXT.items()))) == key.plaintext
    again = store.generate_data_key("a", CONTEXT)
    assert again.plaintext != key.plaintext
    assert again.wrapped != key.wrapped
    for size in (16, 24, 64):
        other = store.generate_data_key("a", CONTEXT, size)
        assert len(other.plaintext) == size
        assert store.unwrap("a", other.wrapped, CONTEXT) == other.plaintext


def test_wrapping_has_bounds(open_store: OpenStore):
    store = open_store()
    store.create("a")
    for plaintext in (b"x", bytes(4096)):
        assert store.unwrap("a", store.wrap("a", Secret(plaintext), {}), {}).reveal() == plaintext
    for plaintext in (b"", bytes(4097)):
        with pytest.raises(UserError, match="cannot be wrapped"):
            store.wrap("a", Secret(plaintext), {})
    with pytest.raises(UserError, match="context"):
        store.wrap("a", Secret(b"x"), {"k": "v" * 8192})


def test_another_context_is_refused(open_store: OpenStore):
    store = open_store()
    store.create("a")
    wrapped = store.wrap("a", Secret(b"secret"), CONTEXT)
    contexts = [
        {},
        {"arn": "arn:aws:x"},
        {**CONTEXT, "account": "444455556666"},
        {**CONTEXT, "": ""},
        {"arn": "111122223333", "account": "arn:aws:x"},
        {"arn": "arn:aws:xaccount", "": "111122223333"},
    ]
    for context in contexts:
        with pytest.raises(Unsealable):
            store.unwrap("a", wrapped, context)
        with pytest.raises(Unsealable):
            store.rewrap("a", wrapped, context)


def test_changed_and_cut_wrapped_keys_are_refused(open_store: OpenStore):
    store = open_store()
    store.create("a")
    wrapped = store.wrap("a", Secret(bytes(32)), CONTEXT)
    assert store.unwrap("a", wrapped, CONTEXT) == Secret(bytes(32))
    for place in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[place] ^= 1
        with pytest.raises(Unsealable):
            store.unwrap("a", bytes(changed), CONTEXT)
    for other in (b"", wrapped[:3], wrapped[:20], wrapped[:-1], wrapped + b"\0", b"\0" + wrapped, bytes(5000)):
        with pytest.raises(Unsealable):
            store.unwrap("a", other, CONTEXT)


def test_another_master_key_is_refused(open_store: OpenStore):
    store = open_store()
    store.create("a")
    store.create("b")
    wrapped = store.wrap("a", Secret(b"secret"), CONTEXT)
    with pytest.raises(Unsealable):
        store.unwrap("b", wrapped, CONTEXT)


def test_rotation_keeps_what_was_wrapped(open_store: OpenStore):
    store = open_store()
    assert (store.create("a").current_version, store.describe("a").versions) == (1, (1,))
    first = store.wrap("a", Secret(b"first"), CONTEXT)
    assert store.rotate("a").current_version == 2
    second = store.wrap("a", Secret(b"second"), CONTEXT)
    store.rotate("a")
    described = store.describe("a")
    assert (described.current_version, described.versions) == (3, (1, 2, 3))
    assert store.unwrap("a", first, CONTEXT).reveal() == b"first"
    assert store.unwrap("a", second, CONTEXT).reveal() == b"second"
    assert [store.wrapping_version(wrapped) for wrapped in (first, second)] == [1, 2]
    anew = store.rewrap("a", first, CONTEXT)
    assert store.wrapping_version(anew) == 3
    assert store.unwrap("a", anew, CONTEXT).reveal() == b"first"


def test_what_is_kept_is_there_when_it_is_opened_again(open_store: OpenStore):
    store = open_store()
    store.create("a")
    wrapped = store.wrap("a", Secret(b"secret"), CONTEXT)
    store.rotate("a")
    again = open_store()
    assert again.names() == ["a"]
    assert again.describe("a") == store.describe("a")
    assert again.unwrap("a", wrapped, CONTEXT).reveal() == b"secret"
    # And both see what the other does.
    again.rotate("a")
    again.create("b")
    assert store.describe("a").current_version == 3
    assert store.unwrap("b", again.wrap("b", Secret(b"x"), {}), {}).reveal() == b"x"
    again.destroy("a")
    with pytest.raises(NotFound):
        store.unwrap("a", wrapped, CONTEXT)


def test_names(open_store: OpenStore):
    store = open_store()
    assert store.names() == []
    for name in ("b", "kms-1234abcd-12ab-34cd-56ef-1234567890ab", "A.1_x"):
        store.create(name)
    assert store.names() == sorted(["b", "kms-1234abcd-12ab-34cd-56ef-1234567890ab", "A.1_x"])
    with pytest.raises(AlreadyExists):
        store.create("b")
    assert store.ensure("b") == store.describe("b")
    assert store.ensure("c").name == "c"
    for name in ("", "-a", "a-", "a/b", "../a", "a b", "ä", "x" * 129, "a\n", "a?list=true"):
        with pytest.raises(UserError, match="not the name"):
            store.create(name)


def test_a_name_that_is_not_there(open_store: OpenStore):
    store = open_store()
    store.create("a")
    wrapped = store.wrap("a", Secret(b"secret"), CONTEXT)
    for call in (
        lambda: store.describe("b"),
        lambda: store.rotate("b"),
        lambda: store.destroy("b"),
        lambda: store.wrap("b", Secret(b"x"), {}),
        lambda: store.generate_data_key("b", {}),
        lambda: store.unwrap("b", wrapped, CONTEXT),
        lambda: store.rewrap("b", wrapped, CONTEXT),
    ):
        with pytest.raises(NotFound):
            call()
    assert store.names() == ["a"]


def test_destroyed_is_lost(open_store: OpenStore):
    store = open_store()
    store.create("a")
    store.create("b")
    store.rotate("a")
    wrapped = store.wrap("a", Secret(b"secret"), CONTEXT)
    store.destroy("a")
    assert store.names() == ["b"]
    with pytest.raises(NotFound):
        store.unwrap("a", wrapped, CONTEXT)
    assert store.create("a") == MasterKey("a", 1, (1,), in_process=store.describe("b").in_process)
    store.rotate("a")
    with pytest.raises(Unsealable):  # the name is back, its key is not
        store.unwrap("a", wrapped, CONTEXT)


def test_check_uses_the_store(open_store: OpenStore):
    store = open_store()
    assert "1 master keys" in store.check()
    assert store.names() == [DEPLOYMENT_KEY]


def test_several_threads(open_store: OpenStore):
    store = open_store()
    store.create("a")
    failures: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(5):
                key = store.generate_data_key("a", CONTEXT)
                assert store.unwrap("a", key.wrapped, CONTEXT) == key.plaintext
                store.rotate("a")
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.describe("a").current_version == 16


def test_the_suite_would_notice_a_store_that_ignores_the_context():
    """The suite's negative twin."""

    class Careless(MemoryKeyStore):
        def wrap(self, name, plaintext, context):
            return super().wrap(name, plaintext, {})

        def unwrap(self, name, wrapped, context):
            return super().unwrap(name, wrapped, {})

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_another_context_is_refused(Careless)
