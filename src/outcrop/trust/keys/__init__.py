"""Customer-managed keys, and the vault through which what a tenant owns is sealed under them.

``KeyService`` holds the KMS keys of all accounts: their states, versions, aliases, grants and policies in the database,
their material in a key store; ``KeyReaper`` does what falls due. ``Vault`` writes and reads files under a tenant's key.
Who may do what is decided by the service, from the policy and the grants that this room keeps.
"""

from outcrop.base.errors import KeyRefused
from outcrop.trust.keys.lifecycle import DEFAULT_ALIAS, Reaped
from outcrop.trust.keys.reaper import KeyReaper
from outcrop.trust.keys.records import (
    Alias,
    Grant,
    Key,
    KeyManager,
    KeySpec,
    KeyUsage,
    Rotation,
    RotationKind,
    material_id,
)
from outcrop.trust.keys.service import KeyService
from outcrop.trust.keys.states import KeyState
from outcrop.trust.keys.vault import Vault

__all__ = [
    "DEFAULT_ALIAS",
    "Alias",
    "Grant",
    "Key",
    "KeyManager",
    "KeyReaper",
    "KeyRefused",
    "KeyService",
    "KeySpec",
    "KeyState",
    "KeyUsage",
    "Reaped",
    "Rotation",
    "RotationKind",
    "Vault",
    "material_id",
]
