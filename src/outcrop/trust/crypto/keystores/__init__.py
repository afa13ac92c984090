"""Key stores: named master keys that wrap data keys, behind one contract (``base``).

``passphrase`` keeps them in a file sealed under a stretched passphrase, ``pkcs11`` in a hardware security module,
``transit`` in a Vault or OpenBao server, ``memory`` nowhere (the twin for tests). ``config`` opens the one that a
deployment is configured for, ``cache`` keeps unwrapped data keys for a short while, and ``envelope`` seals small values
under a data key of a store.
"""

from outcrop.trust.crypto.keystores.base import DEPLOYMENT_KEY, DataKey, KeyStore, MasterKey, Unwrap
from outcrop.trust.crypto.keystores.cache import DataKeyCache
from outcrop.trust.crypto.keystores.config import KeyStoreConfig, open_key_store
from outcrop.trust.crypto.keystores.envelope import EnvelopeSealer
from outcrop.trust.crypto.keystores.memory import MemoryKeyStore

__all__ = [
    "DEPLOYMENT_KEY",
    "DataKey",
    "DataKeyCache",
    "EnvelopeSealer",
    "KeyStore",
    "KeyStoreConfig",
    "MasterKey",
    "MemoryKeyStore",
    "Unwrap",
    "open_key_store",
]
