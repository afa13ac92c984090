"""The contract of every key store, and the few checks that are the same in all.

A key store holds named **master keys**, each in one or more versions, and never hands one out. What it hands out are
**data keys**: fresh 32-byte keys, together with the same key wrapped under a master key's current version. Whoever
keeps data stores the wrapped key beside it and asks the store to unwrap it again. Every wrapping is bound to a context
(names and values that say what the key is for): with another context nothing is unwrapped.

Master keys are named ``deployment`` (the deployment's own secrets) and as their users choose, a KMS key's backing key
for instance ``kms-`` and its key id. Versions count from 1; old ones stay, to unwrap.

Every method may be called from several threads at once. Each may raise ``KeyStoreUnavailable`` (the store cannot be
reached or opened); nothing is cached here, so a master key that is destroyed or withdrawn works no more at once (for
the cache of a service see ``cache``).

Not covered: who may use a key, and for what. That is policy; a store does what its caller asks. Nor is anything here
a backup: who loses the master keys loses what was sealed under them.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from outcrop.base.errors import InvariantError, NotFound, UserError
from outcrop.trust.crypto.kdf import KEY_BYTES, encode_context
from outcrop.trust.crypto.secret import Secret

DEPLOYMENT_KEY = "deployment"
WRAPPED_PLAINTEXT_BYTES_MAX = 4096  # what AWS KMS encrypts at once (API reference, Encrypt)
CONTEXT_BYTES_MAX = 8192  # and its bound on an encryption context
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?\Z")

# (master key, wrapped key, context) -> data key; ``KeyStore.unwrap`` is one, ``DataKeyCache.unwrap`` another.
Unwrap = Callable[[str, bytes, Mapping[str, str]], Secret]


@dataclass(frozen=True, slots=True)
class MasterKey:
    """What may be known of a master key. ``in_process`` says whether its bytes are ever in this process."""

    name: str
    current_version: int
    versions: tuple[int, ...]
    in_process: bool


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh data key: ``plaintext`` to use now and forget, ``wrapped`` to store. ``name`` is the master key's."""

    name: str
    plaintext: Secret
    wrapped: bytes


class KeyStore(ABC):
    """Named master keys that wrap data keys."""

    kind: str

    @abstractmethod
    def create(self, name: str) -> MasterKey:
        """Make the master key ``name`` with version 1, durably; ``AlreadyExists`` when there is one."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all master keys, sorted."""

    @abstractmethod
    def describe(self, name: str) -> MasterKey:
        """What may be known of ``name``; ``NotFound``."""

    @abstractmethod
    def rotate(self, name: str) -> MasterKey:
        """Add a version that wraps from now on, durably; what older ones wrapped still unwraps. ``NotFound``."""

    @abstractmethod
    def destroy(self, name: str) -> None:
        """Remove ``name`` with all its versions, durably: what it wrapped is lost. ``NotFound``."""

    @abstractmethod
    def wrap(self, name: str, plaintext: Secret, context: Mapping[str, str]) -> bytes:
        """``plaintext`` (1 to 4096 bytes) under the current version of ``name``, bound to ``context``. ``NotFound``."""

    @abstractmethod
    def unwrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        """What was wrapped. ``NotFound`` for a name that is not there, else ``Unsealable`` whatever does not match."""

    @abstractmethod
    def wrapping_version(self, wrapped: bytes) -> int:
        """The version that ``wrapped`` names, unverified: to find what should be wrapped anew. ``Unsealable``."""

    @abstractmethod
    def check(self) -> str:
        """One line on a working store, after a real use of it; raises ``KeyStoreUnavailable`` otherwise."""

    def generate_data_key(self, name: str, context: Mapping[str, str], size_bytes: int = KEY_BYTES) -> DataKey:
        """A fresh random key of ``size_bytes``, wrapped under the current version of ``name``. ``NotFound``."""
        plaintext = Secret(secrets.token_bytes(size_bytes))
        return DataKey(name, plaintext, self.wrap(name, plaintext, context))

    def rewrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The same key under the current version; the plaintext is not handed out."""
        return self.wrap(name, self.unwrap(name, wrapped, context), context)

    def ensure(self, name: str) -> MasterKey:
        """The master key ``name``, made when it is not there."""
        try:
            return self.describe(name)
        except NotFound:
            return self.create(name)

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of connections and keys. Nothing may be called afterwards."""


def require_name(name: str) -> None:
    """Raise ``UserError`` for what no store takes as a name."""
    if not NAME.match(name):
        raise UserError(
            f"{name!r} is not the name of a master key.",
            "Use 1 to 128 letters, digits, dots, dashes and underscores, a letter or digit first and last.",
        )


def require_wrappable(plaintext: Secret, context: Mapping[str, str]) -> None:
    """Raise ``UserError`` for what is too long to wrap."""
    if not 1 <= len(plaintext) <= WRAPPED_PLAINTEXT_BYTES_MAX:
        raise UserError(
            f"{len(plaintext)} bytes cannot be wrapped.",
            f"Wrap 1 to {WRAPPED_PLAINTEXT_BYTES_MAX} bytes; seal larger data under a data key.",
        )
    if len(encode_context(context)) > CONTEXT_BYTES_MAX:
        raise UserError("The encryption context is too long.", f"Keep it below {CONTEXT_BYTES_MAX} bytes.")


def no_such_key(name: str) -> NotFound:
    """The error for a master key that is not there."""
    return NotFound(f"The key store has no master key {name!r}.", "Restore the key store, or create the key.")


def check_contract(store: KeyStore, name: str) -> None:
    """Use ``store`` once as a service does, and raise ``InvariantError`` where it does not keep this contract."""
    context = {"purpose": "check"}
    key = store.generate_data_key(name, context)
    if store.unwrap(name, key.wrapped, context) != key.plaintext:
        raise InvariantError(f"Broken invariant: the {store.kind} key store unwraps what it wrapped.")
