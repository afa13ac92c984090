"""A key store in a PKCS#11 token: a hardware security module, or SoftHSM to try it.

Master keys are AES-256 keys made in the token, sensitive and not extractable: they encrypt and decrypt there and never
come out, and a token that does not confirm this is refused. Wrapping is AES-GCM in the token, with the context, the
key's name and its version as associated data. For tokens without AES-GCM there is AES-CBC with padding, then
HMAC-SHA-256 under a second key in the token over the same associated data, the IV and the ciphertext; such versions
have keys of their own, so that no key is ever used in two modes. Source: PKCS #11 v3.0 Current Mechanisms (OASIS).

A wrapped key is 4 bytes version, 1 byte mechanism, the IV (12 or 16 bytes), the ciphertext, the tag (16 or 32 bytes).

In the token a version is a secret key labelled ``outcrop:NAME`` whose id is the version and the mechanism.

Not covered: AES-GCM with random IVs under one version is good for 2^32 wrappings (NIST SP 800-38D 8.3), which nobody
counts here: rotate before. Two processes that create or rotate one name at the same instant may make a version twice;
it is then refused until one copy is removed with the token's tools. A process must not fork while the store is open.
Data keys are drawn from the operating system, not from the token. Backing a token up is its vendor's procedure.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from outcrop.base.errors import AlreadyExists, KeyStoreUnavailable, Unsealable, UserError
from outcrop.trust.crypto.kdf import encode_context
from outcrop.trust.crypto.keystores.base import (
    DEPLOYMENT_KEY,
    KeyStore,
    MasterKey,
    check_contract,
    no_such_key,
    require_name,
    require_wrappable,
)
from outcrop.trust.crypto.secret import Secret

try:
    import pkcs11 as token_library
    from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass
except ImportError:
    token_library = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from pkcs11 import Session

LABEL_PREFIX = "outcrop:"
VERSION_BYTES = 4
GCM, CBC_HMAC = 1, 2
GCM_IV_BYTES, GCM_TAG_BYTES = 12, 16
CBC_IV_BYTES, HMAC_BYTES = 16, 32


class _TokenKey(Protocol):
    """What the library's key objects can do, by what the token says of the key; its own types do not tell."""

    def encrypt(self, data: bytes, *, mechanism: Mechanism, mechanism_param: bytes | GCMParams) -> bytes: ...

    def decrypt(self, data: bytes, *, mechanism: Mechanism, mechanism_param: bytes | GCMParams) -> bytes: ...

    def sign(self, data: bytes, *, mechanism: Mechanism) -> bytes: ...

    def verify(self, data: bytes, signature: bytes, *, mechanism: Mechanism) -> bool: ...


class Pkcs11KeyStore(KeyStore):
    """Master keys in the token labelled ``token`` of the PKCS#11 module at ``library``."""

    kind = "pkcs11"

    def __init__(
        self,
        library: Path,
        token: str,
        pin: Secret,
        *,
        mechanism: Literal["auto", "AES_GCM", "AES_CBC_PAD+SHA256_HMAC"] = "auto",
    ) -> None:
        """Log in. Raises ``KeyStoreUnavailable`` for a missing module, token or mechanism, and for a wrong PIN."""
        if token_library is None:
            raise KeyStoreUnavailable(
                "The pkcs11 key store needs the package python-pkcs11.", "Run: pip install 'outcrop[hsm]'"
            )
        if not library.is_file():
            raise KeyStoreUnavailable(f"There is no PKCS#11 module {library}.", "Name your token's shared library.")
        self._library, self._token_label, self._pin = library, token, pin
        self._lock = threading.RLock()
        self._opened: Session | None = None
        with self._session() as session:
            offered = session.token.slot.get_mechanisms()
        self._mechanism = _choose(mechanism, {each for each in offered if isinstance(each, Mechanism)})

    def create(self, name: str) -> MasterKey:
        require_name(name)
        with self._session() as session:
            if self._versions(session, name):
                raise AlreadyExists(f"The token has a master key {name!r} already.", "Rotate it, or choose a name.")
            self._generate(session, name, 1)
            return self._describe(session, name)

    def names(self) -> list[str]:
        with self._session() as session:
            found = list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY}))
            labels = {str(key[Attribute.LABEL]) for key in found}
        return sorted(label.removeprefix(LABEL_PREFIX) for label in labels if label.startswith(LABEL_PREFIX))

    def describe(self, name: str) -> MasterKey:
        with self._session() as session:
            return self._describe(session, name)

    def rotate(self, name: str) -> MasterKey:
        with self._session() as session:
            self._generate(session, name, self._describe(session, name).current_version + 1)
            return self._describe(session, name)

    def destroy(self, name: str) -> None:
        with self._session() as session:
            self._describe(session, name)
            for key in list(session.get_objects({Attribute.LABEL: LABEL_PREFIX + name})):
                key.destroy()

    def wrap(self, name: str, plaintext: Secret, context: Mapping[str, str]) -> bytes:
        require_wrappable(plaintext, context)
        with self._session() as session:
            versions = self._versions(session, name)
            if not versions:
                raise no_such_key(name)
            version = max(versions)
            mechanism = versions[version]
            head = version.to_bytes(VERSION_BYTES, "big") + bytes((mechanism,))
            bound = _bound(context, name, head)
            key = self._key(session, name, head, KeyType.AES)
            if mechanism == GCM:
                iv = secrets.token_bytes(GCM_IV_BYTES)
                parameters = GCMParams(iv, bound, 8 * GCM_TAG_BYTES)
                body = key.encrypt(plaintext.reveal(), mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
                return head + iv + body
            iv = secrets.token_bytes(CBC_IV_BYTES)
            body = key.encrypt(plaintext.reveal(), mechanism=Mechanism.AES_CBC_PAD, mechanism_param=iv)
            mac = self._key(session, name, head, KeyType.GENERIC_SECRET)
            return head + iv + body + mac.sign(bound + iv + body, mechanism=Mechanism.SHA256_HMAC)

    def unwrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        with self._session() as session:
            versions = self._versions(session, name)
            if not versions:
                raise no_such_key(name)
            version = self.wrapping_version(wrapped)
            head, rest = wrapped[: VERSION_BYTES + 1], wrapped[VERSION_BYTES + 1 :]
            if versions.get(version) != head[-1]:
                raise Unsealable
            bound = _bound(context, name, head)
            key = self._key(session, name, head, KeyType.AES)
            if head[-1] == GCM:
                if len(rest) <= GCM_IV_BYTES + GCM_TAG_BYTES:
                    raise Unsealable
                parameters = GCMParams(rest[:GCM_IV_BYTES], bound, 8 * GCM_TAG_BYTES)
                with _refusals():
                    plaintext = key.decrypt(
                        rest[GCM_IV_BYTES:], mechanism=Mechanism.AES_GCM, mechanism_param=parameters
                    )
                return Secret(plaintext)
            if len(rest) <= CBC_IV_BYTES + HMAC_BYTES:
                raise Unsealable
            mac = self._key(session, name, head, KeyType.GENERIC_SECRET)
            with _refusals():
                if not mac.verify(bound + rest[:-HMAC_BYTES], rest[-HMAC_BYTES:], mechanism=Mechanism.SHA256_HMAC):
                    raise Unsealable
                iv, body = rest[:CBC_IV_BYTES], rest[CBC_IV_BYTES:-HMAC_BYTES]
                return Secret(key.decrypt(body, mechanism=Mechanism.AES_CBC_PAD, mechanism_param=iv))

    def wrapping_version(self, wrapped: bytes) -> int:
        if len(wrapped) <= VERSION_BYTES + 1:
            raise Unsealable
        return int.from_bytes(wrapped[:VERSION_BYTES], "big")

    def check(self) -> str:
        self.ensure(DEPLOYMENT_KEY)
        check_contract(self, DEPLOYMENT_KEY)
        way = "AES-GCM" if self._mechanism == GCM else "AES-CBC with HMAC-SHA-256"
        return f"PKCS#11 token {self._token_label}, {way}, {len(self.names())} master keys"

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """The one session, logged in, for one caller at a time; after a failure of the token the next call logs in."""
        with self._lock:
            try:
                if self._opened is None:
                    self._opened = self._log_in()
                yield self._opened
            except token_library.PKCS11Error as error:
                if isinstance(error, _not_well()):
                    self._opened = None
                raise self._unavailable(error) from None

    def _log_in(self) -> Session:
        module = token_library.lib(str(self._library))
        token = module.get_token(token_label=self._token_label)
        try:
            return token.open(rw=True, user_pin=self._pin.reveal_text())
        except token_library.UserAlreadyLoggedIn:  # a login counts for the whole process
            return token.open(rw=True)

    def _unavailable(self, error: Exception) -> KeyStoreUnavailable:
        remedy = "Look at the token with its vendor's tools."
        if isinstance(error, token_library.NoSuchToken):
            remedy = "Name the label of an initialised token, or connect it."
        elif isinstance(error, token_library.PinIncorrect | token_library.PinLocked | token_library.PinLenRange):
            remedy = "Put the user PIN into the PIN file. Tokens lock after some wrong tries."
        return KeyStoreUnavailable(f"The PKCS#11 token {self._token_label} answers {type(error).__name__}.", remedy)

    def _generate(self, session: Session, name: str, version: int) -> None:
        identifier = version.to_bytes(VERSION_BYTES, "big") + bytes((self._mechanism,))
        if self._mechanism == CBC_HMAC:  # first: the encryption key is what makes the version exist
            self._generate_key(session, name, identifier, KeyType.GENERIC_SECRET)
        self._generate_key(session, name, identifier, KeyType.AES)

    def _generate_key(self, session: Session, name: str, identifier: bytes, key_type: KeyType) -> None:
        aes = key_type is KeyType.AES
        key = session.generate_key(
            key_type,
            256,
            id=identifier,
            label=LABEL_PREFIX + name,
            store=True,
            capabilities=(
                MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT if aes else MechanismFlag.SIGN | MechanismFlag.VERIFY
            ),
            mechanism=Mechanism.AES_KEY_GEN if aes else Mechanism.GENERIC_SECRET_KEY_GEN,
            template={
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.MODIFIABLE: False,
            },
        )
        if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
            key.destroy()
            raise KeyStoreUnavailable(
                f"The PKCS#11 token {self._token_label} makes keys that can be taken out.", "Use another token."
            )

    def _versions(self, session: Session, name: str) -> dict[int, int]:
        """The mechanism of every version of ``name``."""
        wanted = {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.LABEL: LABEL_PREFIX + name,
        }
        identifiers = [bytes(key[Attribute.ID]) for key in list(session.get_objects(wanted))]
        return {int.from_bytes(each[:VERSION_BYTES], "big"): each[VERSION_BYTES] for each in identifiers}

    def _describe(self, session: Session, name: str) -> MasterKey:
        versions = sorted(self._versions(session, name))
        if not versions:
            raise no_such_key(name)
        return MasterKey(name, versions[-1], tuple(versions), in_process=False)

    def _key(self, session: Session, name: str, identifier: bytes, key_type: KeyType) -> _TokenKey:
        key = session.get_key(
            object_class=ObjectClass.SECRET_KEY, key_type=key_type, label=LABEL_PREFIX + name, id=identifier
        )
        return cast(_TokenKey, key)


def _choose(wanted: str, offered: set[Mechanism]) -> int:
    fallback = {Mechanism.AES_CBC_PAD, Mechanism.SHA256_HMAC, Mechanism.GENERIC_SECRET_KEY_GEN}
    if wanted in ("auto", "AES_GCM") and Mechanism.AES_GCM in offered:
        return GCM
    if wanted in ("auto", "AES_CBC_PAD+SHA256_HMAC") and fallback <= offered:
        return CBC_HMAC
    raise UserError(
        f"The token does not offer the mechanism {wanted}.",
        "It needs AES_GCM, or AES_CBC_PAD with SHA256_HMAC and GENERIC_SECRET_KEY_GEN.",
    )


def _not_well() -> tuple[type[Exception], ...]:
    """What a token or its session answers when it is not well, whatever it was asked."""
    return (
        token_library.DeviceError,
        token_library.DeviceMemory,
        token_library.DeviceRemoved,
        token_library.HostMemory,
        token_library.KeyHandleInvalid,
        token_library.MechanismInvalid,
        token_library.SessionClosed,
        token_library.SessionHandleInvalid,
        token_library.TokenNotPresent,
        token_library.UserNotLoggedIn,
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a token's refusal to decrypt into ``Unsealable``, and leave what says that the token is not well.

    Tokens disagree on the code for a wrong tag (SoftHSM: CKR_GENERAL_ERROR), so the list is of the other kind.
    """
    try:
        yield
    except token_library.PKCS11Error as error:
        if isinstance(error, _not_well()):
            raise
        raise Unsealable from None


def _bound(context: Mapping[str, str], name: str, head: bytes) -> bytes:
    return encode_context({"master key": name, "head": head.hex()}) + encode_context(context)
