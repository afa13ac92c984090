"""Amazon Resource Names, built and parsed in one place.

Form: ``arn:partition:service:region:account:resource`` (AWS General Reference, "Amazon Resource Names").
Partition, region and account are configuration; nothing else in Outcrop spells an ARN by hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from outcrop.base.errors import UserError

AccountId = NewType("AccountId", str)

_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)


def account_id(text: str) -> AccountId:
    """``text`` as an account id (twelve digits), or a ``UserError``."""
    if _ACCOUNT.fullmatch(text) is None:
        raise UserError(f"{text!r} is not an account id.", "An account id is twelve digits.")
    return AccountId(text)


@dataclass(frozen=True, slots=True)
class Arn:
    """One parsed ARN; ``str()`` gives the text back. ``region`` and ``account`` may be empty."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"

    @property
    def resource_type(self) -> str:
        """What stands before the first ``/`` of the resource, e.g. ``foundation-model``."""
        return self.resource.partition("/")[0]

    @property
    def resource_id(self) -> str:
        """What stands after the first ``/`` of the resource; empty where there is none."""
        return self.resource.partition("/")[2]

    @classmethod
    def parse(cls, text: str) -> Arn:
        """The ARN that ``text`` spells, or a ``UserError``."""
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or not parts[1] or not parts[2] or not parts[5]:
            raise UserError(f"{text!r} is not an ARN.", "An ARN reads arn:partition:service:region:account:resource.")
        return cls(*parts[1:])


@dataclass(frozen=True, slots=True)
class Scope:
    """Where this deployment stands: the partition, region and account that its ARNs carry."""

    partition: str
    region: str
    account: AccountId

    def arn(self, service: str, resource: str) -> Arn:
        """An ARN of this account and region."""
        return Arn(self.partition, service, self.region, self.account, resource)

    def foundation_model_arn(self, model_id: str) -> Arn:
        """A foundation model's ARN, which carries no account (as the Bedrock API reference has it)."""
        return Arn(self.partition, "bedrock", self.region, "", f"foundation-model/{model_id}")
