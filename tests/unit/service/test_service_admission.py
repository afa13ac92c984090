"""Quotas, reservations and turns: nobody gets more than its share, and nothing reserved is ever lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.base.clock import FakeClock
from outcrop.base.errors import NotFound, UserError
from outcrop.base.tables import Database
from outcrop.service.admission import Gate, GateConfig, Quota, QuotaStore
from outcrop.service.admission.buckets import Bucket
from outcrop.service.admission.fair import FairTurns
from outcrop.service.wire.errors import AwsError

A, B, MODEL = "111111111111", "222222222222", "local.m-v1:0"


class Fixed:
    """The same quota for everybody, or one by account."""

    def __init__(self, quota: Quota, **by_account: Quota) -> None:
        self.default = quota
        self.by_account = {name.strip("_"): value for name, value in by_account.items()}

    def quota(self, account: str, model_id: str) -> Quota:
        return self.by_account.get(account, self.default)


class Moving(FakeClock):
    def __init__(self) -> None:
        super().__init__(datetime(2026, 11, 22, tzinfo=UTC))
        self.at_s = 0.0

    def monotonic_s(self) -> float:
        return self.at_s


@pytest.fixture
def clock() -> Moving:
    return Moving()


def refused(gate: Gate, account: str = A) -> str:
    with pytest.raises(AwsError) as caught:
        gate.request(account, MODEL)
    return f"{caught.value.status} {caught.value.message}"


def test_requests_per_minute_come_back_with_time(clock: Moving) -> None:
    gate = Gate(Fixed(Quota(requests_per_minute=2)), clock)
    gate.request(A, MODEL).close()
    gate.request(A, MODEL).close()
    assert refused(gate) == "429 Too many requests, please wait before trying again. Retry after 30 s."
    gate.request(B, MODEL).close()  # another account has its own
    gate.request(A, "local.other-v1:0").close()  # and so has another model
    clock.at_s = 30.0
    gate.request(A, MODEL).close()
    assert refused(gate).startswith("429")


def test_concurrency_is_held_until_the_end(clock: Moving) -> None:
    gate = Gate(Fixed(Quota(concurrent_requests=1)), clock)
    ticket = gate.request(A, MODEL)
    assert refused(gate).startswith("429")
    ticket.close()
    ticket.close()
    gate.request(A, MODEL).close()


def test_tokens_are_reserved_at_the_start_and_settled_at_the_end(clock: Moving) -> None:
    async def run() -> None:
        gate = Gate(Fixed(Quota(tokens_per_minute=100)), clock)
        first = gate.request(A, MODEL)
        await first.reserve(10, 60)
        second = gate.request(A, MODEL)
        with pytest.raises(AwsError, match="Too many tokens") as caught:
            await second.reserve(10, 60)
        assert caught.value.status == 429
        second.close()
        first.spent(5)
        first.close()  # 15 used of 70
        third = gate.request(A, MODEL)
        await third.reserve(25, 60)
        third.close()

    asyncio.run(run())


def test_a_request_larger_than_the_quota_gets_no_hint_to_retry(clock: Moving) -> None:
    async def run() -> None:
        ticket = Gate(Fixed(Quota(tokens_per_minute=100)), clock).request(A, MODEL)
        with pytest.raises(AwsError, match=r"before trying again\.$"):
            await ticket.reserve(101, 1)

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(0, 60), st.booleans()), max_size=30))
def test_what_is_reserved_is_used_or_given_back(steps: list[tuple[int, int, int, bool]]) -> None:
    async def run() -> None:
        clock = Moving()
        gate = Gate(Fixed(Quota(tokens_per_minute=1000)), clock)
        used = 0
        for prompt, most, generated, abort in steps:
            ticket = gate.request(A, MODEL)
            try:
                await ticket.reserve(prompt, most)
                if not abort:
                    ticket.spent(min(generated, most))
                used += ticket.used
            except AwsError:
                assert used + prompt + most > 1000
            finally:
                ticket.close()
        probe = gate.request(A, MODEL)
        if used < 1000:
            await probe.reserve(0, 1000 - used)  # exactly what is left, not one more
            again = gate.request(A, MODEL)
            with pytest.raises(AwsError):
                await again.reserve(0, 1)

    asyncio.run(run())


@given(st.integers(1, 1000), st.lists(st.floats(0, 100), max_size=20))
def test_a_bucket_never_holds_more_than_a_minute(per_minute: int, times: list[float]) -> None:
    bucket = Bucket(per_minute, 0.0)
    for now_s in times:  # also backwards
        bucket.take(per_minute // 2, now_s)
        assert bucket.level <= per_minute


def test_one_account_with_many_requests_does_not_starve_another() -> None:
    async def run() -> list[str]:
        turns = FairTurns(slots=1, queue_max=100)
        served: list[str] = []

        async def work(account: str, cost: float) -> None:
            assert await turns.enter(account, cost, 10)
            served.append(account)
            await asyncio.sleep(0)
            turns.leave()

        assert await turns.enter("busy", 1, 10)
        greedy = [asyncio.create_task(work("greedy", 100)) for _ in range(10)]
        await asyncio.sleep(0)
        modest = [asyncio.create_task(work("modest", 10)) for _ in range(5)]
        await asyncio.sleep(0)
        turns.leave()
        await asyncio.gather(*greedy, *modest)
        return served

    served = asyncio.run(run())
    assert served.index("modest") <= 1
    assert [name for name in served[:7] if name == "modest"] == ["modest"] * 5


def test_a_full_queue_and_a_long_wait_are_503(clock: Moving) -> None:
    async def run() -> None:
        gate = Gate(Fixed(Quota()), clock, GateConfig(slots_per_model=1, queue_max=1, wait_max_s=0.05))
        holder, waiter, third = (gate.request(A, MODEL) for _ in range(3))
        await holder.reserve(1, 1)
        waiting = asyncio.create_task(waiter.reserve(1, 1))
        await asyncio.sleep(0)
        with pytest.raises(AwsError) as full:
            await third.reserve(1, 1)
        assert full.value.status == 503
        with pytest.raises(AwsError) as late:
            await waiting
        assert late.value.status == 503
        holder.close()
        fresh = gate.request(A, MODEL)
        await fresh.reserve(1, 1)  # whoever gave up holds no turn

    asyncio.run(run())


def test_a_cancelled_wait_hands_its_turn_on() -> None:
    async def run() -> None:
        turns = FairTurns(1, 10)
        assert await turns.enter("a", 1, 10)
        gone = asyncio.create_task(turns.enter("b", 1, 10))
        stays = asyncio.create_task(turns.enter("c", 1, 10))
        await asyncio.sleep(0)
        turns.leave()  # b is served ...
        gone.cancel()  # ... and cancelled in the same moment
        assert await asyncio.wait_for(stays, 1)
        turns.leave()
        assert turns.slots_free == 1

    asyncio.run(run())


@pytest.fixture
def store(tmp_path: Path) -> QuotaStore:
    return QuotaStore(Database(tmp_path / "a.db"), Quota(requests_per_minute=7))


def test_the_more_particular_quota_wins(store: QuotaStore) -> None:
    assert store.quota(A, MODEL) == Quota(requests_per_minute=7)
    for account, model, rpm in (("*", "*", 1), ("*", MODEL, 2), (A, "*", 3), (A, MODEL, 4)):
        store.put(account, model, Quota(requests_per_minute=rpm))
    assert [store.quota(*key).requests_per_minute for key in ((A, MODEL), (A, "x"), (B, MODEL), (B, "x"))] == [
        4,
        3,
        2,
        1,
    ]
    store.delete(A, MODEL)
    assert store.quota(A, MODEL).requests_per_minute == 3
    assert len(store.list()) == 3


def test_a_quota_that_is_none_is_refused(store: QuotaStore) -> None:
    for bad in (Quota(requests_per_minute=0), Quota(tokens_per_minute=-1), Quota(weight=0)):
        with pytest.raises(UserError):
            store.put(A, MODEL, bad)
    with pytest.raises(NotFound):
        store.delete(B, MODEL)
    assert store.list() == []
