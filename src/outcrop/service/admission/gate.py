"""The gate before the engine: counts requests, reserves tokens, hands out turns, and settles."""

from __future__ import annotations

import math

from outcrop.base.clock import Clock
from outcrop.base.errors import check
from outcrop.service.admission.base import GateConfig, Quota, QuotaSource
from outcrop.service.admission.buckets import Bucket
from outcrop.service.admission.fair import FairTurns
from outcrop.service.wire.errors import AwsError

TOO_MANY_REQUESTS = "Too many requests, please wait before trying again."
TOO_MANY_TOKENS = "Too many tokens, please wait before trying again."
BUSY = "The service is unable to process your request at this time. Try your request again."


class _Meter:
    """What one account has used of one model."""

    def __init__(self) -> None:
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.concurrent = 0

    def adopt(self, quota: Quota, now_s: float) -> None:
        self.requests = _sized(self.requests, quota.requests_per_minute, now_s)
        self.tokens = _sized(self.tokens, quota.tokens_per_minute, now_s)


def _sized(bucket: Bucket | None, per_minute: int | None, now_s: float) -> Bucket | None:
    if per_minute is None:
        return None
    if bucket is None:
        return Bucket(per_minute, now_s)
    if bucket.per_minute != per_minute:
        bucket.resize(per_minute, now_s)
    return bucket


class Ticket:
    """One admitted request. ``close`` settles it, once, however it ended."""

    def __init__(self, gate: Gate, account: str, model_id: str, quota: Quota, meter: _Meter) -> None:
        self._gate = gate
        self._account = account
        self._model_id = model_id
        self._quota = quota
        self._meter = meter
        self._tokens = meter.tokens
        self._turns: FairTurns | None = None
        self._open = True
        self.reserved = 0
        self.used = 0

    async def reserve(self, input_tokens: int, max_tokens: int) -> None:
        """Set aside the prompt and the longest answer, then wait for a turn; ``AwsError`` 429 or 503 where refused."""
        amount = input_tokens + max_tokens
        now_s = self._gate.now_s()
        if self._tokens is not None and not self._tokens.take(amount, now_s):
            raise throttled(TOO_MANY_TOKENS, self._tokens.wait_s(amount, now_s))
        self.reserved = amount
        turns = self._gate.turns(self._model_id)
        if not await turns.enter(self._account, amount / self._quota.weight, self._gate.config.wait_max_s):
            raise AwsError("ServiceUnavailableException", BUSY)
        self._turns = turns
        self.used = input_tokens

    def spent(self, output_tokens: int) -> None:
        """So many more tokens were generated."""
        self.used += output_tokens

    def close(self) -> None:
        """Give back the turn and what was reserved and not used. Safe to call twice."""
        if not self._open:
            return
        self._open = False
        self._meter.concurrent -= 1
        check(self._meter.concurrent >= 0, "a ticket is settled once")
        if self._turns is not None:
            self._turns.leave()
        if self._tokens is not None:
            self._tokens.give(self.reserved - self.used, self._gate.now_s())


class Gate:
    """All meters of one service."""

    def __init__(self, quotas: QuotaSource, clock: Clock, config: GateConfig | None = None) -> None:
        self.config = config or GateConfig()
        self._quotas = quotas
        self._clock = clock
        self._meters: dict[tuple[str, str], _Meter] = {}
        self._turns: dict[str, FairTurns] = {}

    def now_s(self) -> float:
        return self._clock.monotonic_s()

    def request(self, account: str, model_id: str) -> Ticket:
        """Count one request of ``account`` to ``model_id``, or refuse it with 429. The ticket must be closed."""
        quota = self._quotas.quota(account, model_id)
        meter = self._meters.setdefault((account, model_id), _Meter())
        now_s = self.now_s()
        meter.adopt(quota, now_s)
        if quota.concurrent_requests is not None and meter.concurrent >= quota.concurrent_requests:
            raise throttled(TOO_MANY_REQUESTS, 1.0)
        if meter.requests is not None and not meter.requests.take(1, now_s):
            raise throttled(TOO_MANY_REQUESTS, meter.requests.wait_s(1, now_s))
        meter.concurrent += 1
        return Ticket(self, account, model_id, quota, meter)

    def turns(self, model_id: str) -> FairTurns:
        """The turns at one model's engine."""
        if model_id not in self._turns:
            self._turns[model_id] = FairTurns(self.config.slots_per_model, self.config.queue_max)
        return self._turns[model_id]


def throttled(message: str, wait_s: float) -> AwsError:
    """429 with a hint when to come again, for the SDKs that read one."""
    hint = "" if math.isinf(wait_s) else f" Retry after {math.ceil(wait_s)} s."
    return AwsError("ThrottlingException", message + hint)


class Visit:
    """One call's way through the gate: at most one ticket, settled however the call ends."""

    def __init__(self, gate: Gate, account: str) -> None:
        self._gate = gate
        self._account = account
        self._ticket: Ticket | None = None

    def begin(self, model_id: str) -> None:
        """Count the call as a request to ``model_id``, or refuse it with 429."""
        check(self._ticket is None, "a call asks one model")
        self._ticket = self._gate.request(self._account, model_id)

    async def reserve(self, input_tokens: int, max_tokens: int) -> None:
        """As ``Ticket.reserve``."""
        assert self._ticket is not None
        await self._ticket.reserve(input_tokens, max_tokens)

    def spent(self, output_tokens: int) -> None:
        """As ``Ticket.spent``."""
        assert self._ticket is not None
        self._ticket.spent(output_tokens)

    def close(self) -> None:
        """Settle what was begun. Safe to call twice."""
        if self._ticket is not None:
            self._ticket.close()
