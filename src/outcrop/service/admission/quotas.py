"""Quotas in the database: by account and model, either of which may be ``*``; the more particular row wins."""

from __future__ import annotations

from outcrop.base.errors import NotFound, UserError
from outcrop.base.tables import Database, Row, Value
from outcrop.service.admission.base import Quota

ANY = "*"
LIMIT_MAX = 10**12


class QuotaStore:
    """A ``QuotaSource`` over the database; a change by any process counts from the next request on."""

    def __init__(self, database: Database, default: Quota | None = None) -> None:
        self._database = database
        self._default = default or Quota()
        self._known: tuple[int, dict[tuple[str, str], Quota]] | None = None

    def quota(self, account: str, model_id: str) -> Quota:
        """The row for both, else the account's for all models, else the model's for all accounts, else the default."""
        version = self._database.version()
        known = self._known
        if known is None or known[0] != version:
            # Read after the version: a change in between shows as a newer version next time.
            known = self._known = (version, self._all())
        rows = known[1]
        for key in ((account, model_id), (account, ANY), (ANY, model_id), (ANY, ANY)):
            if key in rows:
                return rows[key]
        return self._default

    def list(self) -> list[tuple[str, str, Quota]]:
        """All rows: account, model, quota."""
        return [(*key, quota) for key, quota in sorted(self._all().items())]

    def put(self, account: str, model_id: str, quota: Quota) -> None:
        """Set one row whole; ``UserError`` for a limit that is none."""
        for name in ("requests_per_minute", "tokens_per_minute", "concurrent_requests"):
            limit = getattr(quota, name)
            if limit is not None and not 0 < limit <= LIMIT_MAX:
                raise UserError(f"{name} cannot be {limit}.", f"Choose from 1 to {LIMIT_MAX}, or leave it out.")
        if not 0 < quota.weight <= 1000:
            raise UserError(f"A weight cannot be {quota.weight}.", "Choose more than 0 and at most 1000.")
        values: dict[str, Value] = {
            "account": account,
            "model": model_id,
            "rpm": quota.requests_per_minute,
            "tpm": quota.tokens_per_minute,
            "concurrent": quota.concurrent_requests,
            "weight": quota.weight,
        }
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT INTO quotas VALUES (:account, :model, :rpm, :tpm, :concurrent, :weight)"
                " ON CONFLICT (account, model_id) DO UPDATE SET requests_per_minute = :rpm, tokens_per_minute = :tpm,"
                " concurrent_requests = :concurrent, weight = :weight",
                values,
            )

    def delete(self, account: str, model_id: str) -> None:
        """Remove one row; ``NotFound`` where there is none."""
        with self._database.transaction() as transaction:
            gone = transaction.execute(
                "DELETE FROM quotas WHERE account = :account AND model_id = :model",
                {"account": account, "model": model_id},
            )
        if not gone:
            raise NotFound(f"There is no quota for account {account} and model {model_id}.")

    def _all(self) -> dict[tuple[str, str], Quota]:
        return {(row["account"], row["model_id"]): _quota(row) for row in self._database.query("SELECT * FROM quotas")}


def _quota(row: Row) -> Quota:
    return Quota(row["requests_per_minute"], row["tokens_per_minute"], row["concurrent_requests"], row["weight"])
