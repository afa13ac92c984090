"""A token bucket: so much a minute, refilled continuously, and never more than a minute's worth at once."""

from __future__ import annotations

PERIOD_S = 60.0


class Bucket:
    """``level`` may fall below nothing when more was used than had been reserved; it then fills up from there."""

    def __init__(self, per_minute: int, now_s: float) -> None:
        self.per_minute = per_minute
        self.level = float(per_minute)
        self._seen_s = now_s

    def take(self, amount: int, now_s: float) -> bool:
        """Take ``amount`` if it is there; nothing is taken otherwise."""
        self._refill(now_s)
        if amount > self.level:
            return False
        self.level -= amount
        return True

    def give(self, amount: int, now_s: float) -> None:
        """Put back what was taken and not used, or take what was used beyond it (a negative ``amount``)."""
        self._refill(now_s)
        self.level = min(self.level + amount, float(self.per_minute))

    def resize(self, per_minute: int, now_s: float) -> None:
        """Another limit from now on; what is used up stays used up."""
        self._refill(now_s)
        self.level = min(self.level + max(0, per_minute - self.per_minute), float(per_minute))
        self.per_minute = per_minute

    def wait_s(self, amount: int, now_s: float) -> float:
        """Seconds until ``amount`` is there; endless where it never can be."""
        self._refill(now_s)
        if amount > self.per_minute:
            return float("inf")
        return max(0.0, (amount - self.level) * PERIOD_S / self.per_minute)

    def _refill(self, now_s: float) -> None:
        elapsed_s = max(0.0, now_s - self._seen_s)
        self._seen_s = max(now_s, self._seen_s)
        self.level = min(self.level + elapsed_s * self.per_minute / PERIOD_S, float(self.per_minute))
