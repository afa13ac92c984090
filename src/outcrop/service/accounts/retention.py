"""Whether anything of an account's requests and answers may be kept: asked here, by whoever would keep something.

The modes are those of ``PutAccountDataRetention`` (Bedrock API Reference; Bedrock User Guide, "Data retention").
``inherit``, which every account has at first, and ``default`` leave it to the models, and no model here keeps anything:
then only what the account itself asks for is kept (invocation logging, later stored responses and jobs).

``none`` is a hard mode: for that account nothing of a request or an answer is written to any disk, nor held in memory
beyond the request. Who would keep content asks ``keeps``, or ``require``, which refuses in words. It goes further than
AWS's, which leaves a customer's own invocation logs alone: here they stop, and none can be configured.
``provider_data_share`` and ``aws_review`` are refused: nobody is here with whom anything could be shared.

Not covered: what was kept before the mode was set stays until its owner deletes it; prefixes computed before stay in
the engine's memory until they are evicted; the memory of a request under way, swap and core dumps, which are the
operating system's (docs/decisions/0012-invocation-logging.md).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from outcrop.base.errors import NotKept
from outcrop.service.accounts.stored import StoredSettings

NAME = "data-retention"


class RetentionMode(StrEnum):
    """The modes that can be set here."""

    DEFAULT = "default"
    NONE = "none"
    INHERIT = "inherit"


class DataRetention:
    """The mode of every account."""

    def __init__(self, settings: StoredSettings) -> None:
        self._settings = settings

    def mode(self, account: str) -> tuple[RetentionMode, datetime | None]:
        """The mode and when it was set; ``inherit`` and ``None`` where it never was."""
        found = self._settings.read(account, NAME)
        if found is None:
            return RetentionMode.INHERIT, None
        try:
            return RetentionMode(found.value), found.updated_at
        except ValueError:
            return RetentionMode.NONE, found.updated_at  # a mode of a later release: what it forbids is not known

    def set(self, account: str, mode: RetentionMode) -> datetime:
        """Set the mode; it holds for requests that come in from now on."""
        return self._settings.write(account, NAME, mode.value).updated_at

    def keeps(self, account: str) -> bool:
        """Whether content of the account's requests may be kept at all."""
        return self.mode(account)[0] is not RetentionMode.NONE

    def require(self, account: str, what: str) -> None:
        """Raise ``NotKept`` unless content may be kept; ``what`` says what is not done, as half a sentence."""
        if not self.keeps(account):
            raise NotKept(
                f"The data retention mode of this account is none: {what}.",
                "Set another mode with PutAccountDataRetention first.",
            )
