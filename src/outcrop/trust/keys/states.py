"""The states of a key and the edges between them, as data: whatever is not listed here does not happen.

``Creating``, ``Destroying`` and the final ``Destroyed`` exist so that a crash leaves a key at one step or the next:
what the key store still has to do is written down before it is begun, and done again where it was cut short.

Not covered: ``PendingImport``, ``Unavailable``, ``PendingReplicaDeletion`` and ``Updating``: there is no imported key
material, no external key store and no multi-Region key here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from outcrop.base.errors import KeyRefused, check
from outcrop.trust.keys.refusals import disabled, wrong_state


class KeyState(StrEnum):
    CREATING = "Creating"
    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"
    DESTROYING = "Destroying"
    DESTROYED = "Destroyed"


EDGES: Mapping[KeyState, frozenset[KeyState]] = MappingProxyType(
    {
        KeyState.CREATING: frozenset({KeyState.ENABLED}),
        KeyState.ENABLED: frozenset({KeyState.DISABLED, KeyState.PENDING_DELETION}),
        KeyState.DISABLED: frozenset({KeyState.ENABLED, KeyState.PENDING_DELETION}),
        KeyState.PENDING_DELETION: frozenset({KeyState.DISABLED, KeyState.DESTROYING}),
        KeyState.DESTROYING: frozenset({KeyState.DESTROYED}),
        KeyState.DESTROYED: frozenset(),
    }
)

GONE = frozenset({KeyState.DESTROYING, KeyState.DESTROYED})
"""States in which a key is told to exist no more; nothing leads out of them but to the end."""

_SEEN = {
    KeyState.CREATING: "is being created",
    KeyState.ENABLED: "is enabled",
    KeyState.DISABLED: "is disabled",
    KeyState.PENDING_DELETION: "is pending deletion",
    KeyState.DESTROYING: "does not exist any more",
    KeyState.DESTROYED: "does not exist any more",
}


def require_edge(arn: str, source: KeyState, target: KeyState) -> None:
    """Raise ``KMSInvalidStateException`` unless a key may go from ``source`` to ``target``."""
    if target not in EDGES[source]:
        raise wrong_state(arn, _SEEN[source])


def unusable(arn: str, state: KeyState) -> KeyRefused:
    """The refusal of a cryptographic operation in a state that is not ``Enabled``."""
    check(state is not KeyState.ENABLED, "an enabled key is usable")
    return disabled(arn) if state is KeyState.DISABLED else wrong_state(arn, _SEEN[state])
