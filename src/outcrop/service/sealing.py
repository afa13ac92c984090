"""Weights of a tenant's model under the tenant's key: how the model half's ``SealedFiles`` meets the vault.

A sealed file is bound to the ARN of its import, to the owner's account, and to its model's and its own name. So it
opens neither in another model's place nor under another owner in its record, and not after its key was disabled or
destroyed. The default key of an account is the service's own and cannot be disabled; a key of the owner's can.

Not covered: a model that is in memory stays there until the service ends, weights and all; ``ModelHost`` refuses it
within a second of its key's withdrawal, but the bytes are not overwritten. Names, sizes, the configuration, the
tokenizer and the model card are not sealed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from outcrop.base.arn import Arn, Scope
from outcrop.base.blobs import ByteSink, ByteSource
from outcrop.trust.keys import Vault


class VaultedFiles:
    """``base.blobs.SealedFiles`` over a vault."""

    def __init__(self, vault: Vault, scope: Scope, key_id: str | None = None) -> None:
        """New files are sealed under the owner's key ``key_id`` (id, ARN or alias), or their account's default key."""
        self._vault = vault
        self._scope = scope
        self._key_id = key_id

    def create(self, path: Path, labels: Mapping[str, str], size_bytes: int) -> AbstractContextManager[ByteSink]:
        """As the port says; raises ``KeyRefused`` before anything is written where the key may not be used."""
        return self._vault.writer(path, *self._identity(labels), key_id=self._key_id, size_bytes=size_bytes)

    def open(self, path: Path, labels: Mapping[str, str]) -> ByteSource:
        """As the port says; raises ``Unsealable``, ``KeyRefused`` or ``NotFound``."""
        return self._vault.open_object(path, *self._identity(labels))

    def _identity(self, labels: Mapping[str, str]) -> tuple[str, str, str]:
        """ARN, account and version of the object that ``labels`` describe."""
        owner = labels["owner"]
        arn = Arn(self._scope.partition, "bedrock", self._scope.region, owner, f"imported-model/{labels['import']}")
        return str(arn), owner, f"{labels['model']}/{labels['file']}"
