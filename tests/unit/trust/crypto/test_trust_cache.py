"""Unwrapped data keys: how long they are kept, and that forgetting is at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from outcrop.base.clock import FakeClock
from outcrop.base.errors import InvariantError, NotFound, Unsealable
from outcrop.trust.crypto.keystores import DataKeyCache, EnvelopeSealer, MemoryKeyStore
from outcrop.trust.crypto.secret import Secret


class MovingClock(FakeClock):
    """A clock whose monotonic time moves too."""

    def __init__(self) -> None:
        super().__init__(datetime(2026, 11, 22, tzinfo=UTC))
        self.elapsed_s = 1000.0

    def monotonic_s(self) -> float:
        return self.elapsed_s


class Rig:
    def __init__(self, **limits: float) -> None:
        self.store = MemoryKeyStore()
        self.store.create("a")
        self.store.create("b")
        self.clock = MovingClock()
        self.asked = 0
        self.cache = DataKeyCache(self.unwrap, self.clock, **limits)  # type: ignore[arg-type]
        self.key = self.store.generate_data_key("a", {"x": "1"})

    def unwrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        self.asked += 1
        return self.store.unwrap(name, wrapped, context)

    def use(self) -> Secret:
        return self.cache.unwrap("a", self.key.wrapped, {"x": "1"})


def test_a_key_is_asked_for_once():
    rig = Rig()
    assert [rig.use() for _ in range(5)] == [rig.key.plaintext] * 5
    assert rig.asked == 1
    counts = rig.cache.counts()
    assert (counts.hits, counts.misses, counts.expired, counts.forgotten) == (4, 1, 0, 0)


def test_it_is_kept_for_300_s():
    rig = Rig()
    rig.use()
    rig.clock.elapsed_s += 299.9
    rig.use()
    assert rig.asked == 1
    rig.clock.elapsed_s += 0.1
    rig.use()
    assert rig.asked == 2
    assert rig.cache.counts().expired == 1
    with pytest.raises(InvariantError, match="300 s"):
        Rig(ttl_s=301)


@pytest.mark.parametrize(("uses_max", "asked"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_it_is_kept_for_a_number_of_uses(uses_max: int, asked: int):
    rig = Rig(uses_max=uses_max)
    for _ in range(6):
        rig.use()
    assert rig.asked == asked


def test_it_is_forgotten_at_once():
    rig = Rig()
    other = rig.store.generate_data_key("b", {})
    rig.use()
    rig.cache.unwrap("b", other.wrapped, {})
    assert rig.cache.forget("a") == 1
    assert rig.cache.forget("a") == 0
    rig.store.destroy("a")
    with pytest.raises(NotFound):
        rig.use()
    rig.cache.unwrap("b", other.wrapped, {})
    assert rig.asked == 3  # b was kept
    rig.cache.clear()
    assert len(rig.cache) == 0
    assert rig.cache.counts().forgotten == 2


def test_a_key_forgotten_while_it_is_asked_for_is_not_kept():
    rig = Rig()

    def disabled_meanwhile(name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        key = rig.store.unwrap(name, wrapped, context)
        cache.forget("a")
        return key

    cache = DataKeyCache(disabled_meanwhile, rig.clock)
    cache.unwrap("a", rig.key.wrapped, {"x": "1"})
    assert len(cache) == 0


def test_the_time_counts_from_before_the_store_was_asked():
    rig = Rig()

    def slow(name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        rig.asked += 1
        rig.clock.elapsed_s += 200
        return rig.store.unwrap(name, wrapped, context)

    rig.cache = DataKeyCache(slow, rig.clock)
    rig.use()
    rig.clock.elapsed_s += 100
    rig.use()
    assert rig.asked == 2


def test_what_is_cached_opens_for_its_name_wrapping_and_context_only():
    rig = Rig()
    rig.use()
    for name, wrapped, context in (
        ("a", rig.key.wrapped, {}),
        ("a", rig.key.wrapped, {"x": "2"}),
        ("b", rig.key.wrapped, {"x": "1"}),
        ("a", rig.key.wrapped[:-1], {"x": "1"}),
    ):
        with pytest.raises(Unsealable):
            rig.cache.unwrap(name, wrapped, context)
    assert len(rig.cache) == 1  # refusals are not kept


def test_the_number_of_keys_is_bounded():
    rig = Rig(entries_max=3)
    keys = [rig.store.generate_data_key("a", {}) for _ in range(5)]
    for key in keys:
        rig.cache.unwrap("a", key.wrapped, {})
    assert len(rig.cache) == 3
    rig.cache.unwrap("a", keys[-1].wrapped, {})
    assert rig.asked == 5
    rig.cache.unwrap("a", keys[0].wrapped, {})
    assert rig.asked == 6


def test_an_envelope_seals_without_asking_each_time_and_opens_elsewhere():
    store, clock = MemoryKeyStore(), MovingClock()
    sealer = EnvelopeSealer(store, clock=clock)
    assert store.names() == ["deployment"]
    sealed = [sealer.seal(b"value", {"row": str(number)}) for number in range(3)]
    heads = {value[: 2 + int.from_bytes(value[:2], "big")] for value in sealed}
    assert len(heads) == 1
    elsewhere = EnvelopeSealer(store, clock=clock)
    assert [elsewhere.unseal(value, {"row": str(number)}) for number, value in enumerate(sealed)] == [b"value"] * 3
    clock.elapsed_s += 3600
    assert sealer.seal(b"value", {})[:100] != sealed[0][:100]
    store.rotate("deployment")
    sealer.renew()
    assert store.wrapping_version(sealer.seal(b"value", {})[2:]) == 2
    assert elsewhere.unseal(sealed[0], {"row": "0"}) == b"value"


def test_an_envelope_refuses_what_is_not_its_own():
    store = MemoryKeyStore()
    sealer = EnvelopeSealer(store)
    sealed = sealer.seal(b"value", {"row": "1"})
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(Unsealable):
            sealer.unseal(bytes(changed), {"row": "1"})
    for other in (b"", b"\0", b"\xff\xff", sealed[:-1], sealed + b"\0"):
        with pytest.raises(Unsealable):
            sealer.unseal(other, {"row": "1"})
    for context in ({}, {"row": "2"}, {"row": "1", "more": ""}, {"context row": "1"}):
        with pytest.raises(Unsealable):
            sealer.unseal(sealed, context)
    with pytest.raises(Unsealable):
        EnvelopeSealer(store, "another").unseal(sealed, {"row": "1"})
    with pytest.raises(Unsealable):
        EnvelopeSealer(MemoryKeyStore()).unseal(sealed, {"row": "1"})
