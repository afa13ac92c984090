"""The port through which other rooms keep small secrets: sealed under a key that they never see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Sealer(Protocol):
    """Seals small values (secrets, tokens) for storage or for a caller to carry.

    ``context`` is bound to the result and must be given again, unchanged: a value moved to another row or account does
    not open. ``unseal`` raises ``Unsealable`` for anything that this sealer did not make for this context.
    """

    def seal(self, plaintext: bytes, context: Mapping[str, str]) -> bytes: ...

    def unseal(self, sealed: bytes, context: Mapping[str, str]) -> bytes: ...
