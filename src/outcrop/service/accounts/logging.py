"""How an account wants its model invocations logged: Bedrock's ``LoggingConfig``, as far as it is built.

Of the two targets there is the bucket; CloudWatch Logs is refused where it is configured. A switch that was left out
counts as on, as AWS's do by what its customers see (its model does not say).
"""

from __future__ import annotations

import msgspec

from outcrop.service.accounts.stored import StoredSettings

NAME = "invocation-logging"


class LogBucket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where records go: a bucket of the same account, and what stands before their keys."""

    name: str
    prefix: str | None = None


class LoggingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, and where to. ``None`` is a switch that the account left out."""

    bucket: LogBucket
    text: bool | None = None
    image: bool | None = None
    embedding: bool | None = None
    video: bool | None = None
    audio: bool | None = None


class LoggingConfigurations:
    """The configuration of every account; none is the default."""

    def __init__(self, settings: StoredSettings) -> None:
        self._settings = settings

    def get(self, account: str) -> LoggingSettings | None:
        """What the account configured; ``None`` where invocations are not logged."""
        found = self._settings.read(account, NAME)
        return None if found is None else msgspec.json.decode(found.value, type=LoggingSettings)

    def put(self, account: str, configuration: LoggingSettings) -> None:
        """Log from now on as ``configuration`` says; that its bucket is there and theirs is checked before."""
        self._settings.write(account, NAME, msgspec.json.encode(configuration).decode())

    def delete(self, account: str) -> None:
        """Log no more."""
        self._settings.delete(account, NAME)
