"""A key store in the transit engine of a HashiCorp Vault or OpenBao server, over HTTPS.

Master keys are transit keys ``outcrop-NAME`` of the type aes256-gcm96 with ``derived`` set: the server derives the
wrapping key from the master key and a context, here the SHA-256 of ours, so that a wrong context opens nothing. Keys
that are exportable, not derived or of another type are refused. Rotation and rewrapping happen in the server. Source:
"Transit Secrets Engine (API)" of Vault's and OpenBao's public documentation.

The token is read from its file for every request, so an agent can renew it. Each request is a connection of its own.
A policy for it: create, read, update, delete and list on ``TRANSIT/keys*``, update on ``TRANSIT/encrypt/*``,
``decrypt/*``, ``rewrap/*`` and ``datakey/plaintext/*``.

Tested against a server of our own that follows the documentation and really encrypts (tests/unit/trust/crypto); it has
not been run against a Vault or OpenBao server.

Not covered: logging in to get a token, redirects to another node (give the address of one that answers itself),
retries. Data keys pass through the server, which could keep them.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from outcrop.base.errors import AlreadyExists, KeyStoreUnavailable, NotFound, Unsealable, UserError
from outcrop.trust.crypto.hashes import sha256_hex
from outcrop.trust.crypto.kdf import KEY_BYTES, encode_context
from outcrop.trust.crypto.keystores.base import (
    DEPLOYMENT_KEY,
    DataKey,
    KeyStore,
    MasterKey,
    check_contract,
    no_such_key,
    require_name,
    require_wrappable,
)
from outcrop.trust.crypto.keystores.config import read_secret_file
from outcrop.trust.crypto.secret import Secret

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

PREFIX = "outcrop-"
TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 1 << 20
KEY_TYPE = "aes256-gcm96"
WRAPPED = re.compile(r"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/]+={0,2}\Z")
MOUNT = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*\Z")


class TransitKeyStore(KeyStore):
    """Master keys in the transit engine mounted at ``mount`` of the server at ``address`` (``https://host:8200``)."""

    kind = "transit"

    def __init__(
        self,
        address: str,
        token_file: Path,
        *,
        mount: str = "transit",
        namespace: str = "",
        ca_file: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Nothing is asked yet. Plain HTTP is taken for loopback addresses only. ``ca_file`` replaces the system's CAs.

        Raises ``UserError`` for an address or mount that cannot be one.
        """
        secure, self._host, self._port = _parsed(address)
        if not MOUNT.match(mount):
            raise UserError(f"{mount!r} is not the mount of a transit engine.", "Give a path such as transit.")
        self._tls = _tls_context(ca_file) if secure else None
        self._token_file, self._mount, self._namespace, self._timeout_s = token_file, mount, namespace, timeout_s

    def create(self, name: str) -> MasterKey:
        require_name(name)
        try:
            self.describe(name)
        except NotFound:
            self._ask("POST", f"keys/{PREFIX}{name}", {"type": KEY_TYPE, "derived": True, "exportable": False})
            return self.describe(name)
        raise AlreadyExists(f"The server has a master key {name!r} already.", "Rotate it, or choose a name.")

    def names(self) -> list[str]:
        try:
            keys = self._ask("GET", "keys?list=true").get("keys")
        except NotFound:
            return []
        found = keys if isinstance(keys, list) else []
        return sorted(str(key).removeprefix(PREFIX) for key in found if str(key).startswith(PREFIX))

    def describe(self, name: str) -> MasterKey:
        require_name(name)
        try:
            data = self._ask("GET", f"keys/{PREFIX}{name}")
        except NotFound:
            raise no_such_key(name) from None
        if data.get("type") != KEY_TYPE or data.get("derived") is not True or data.get("exportable") is not False:
            raise KeyStoreUnavailable(
                f"The transit key {PREFIX}{name} is not of the kind that is used here.",
                f"It must be {KEY_TYPE}, derived and not exportable. Let Outcrop make it.",
            )
        versions, current = data.get("keys"), data.get("latest_version")
        if not isinstance(versions, dict) or not isinstance(current, int):
            raise self._strange()
        return MasterKey(name, current, tuple(sorted(int(version) for version in versions)), in_process=False)

    def rotate(self, name: str) -> MasterKey:
        self.describe(name)
        self._ask("POST", f"keys/{PREFIX}{name}/rotate", {})
        return self.describe(name)

    def destroy(self, name: str) -> None:
        self.describe(name)
        self._ask("POST", f"keys/{PREFIX}{name}/config", {"deletion_allowed": True})
        self._ask("DELETE", f"keys/{PREFIX}{name}")

    def wrap(self, name: str, plaintext: Secret, context: Mapping[str, str]) -> bytes:
        require_wrappable(plaintext, context)
        # The server makes a key that is missing when the token may create: a name must not come into being by a slip.
        self.describe(name)
        return self._wrapped(
            self._ask(
                "POST",
                f"encrypt/{PREFIX}{name}",
                {"plaintext": base64.b64encode(plaintext.reveal()).decode(), "context": _context(context)},
            )
        )

    def generate_data_key(self, name: str, context: Mapping[str, str], size_bytes: int = KEY_BYTES) -> DataKey:
        if size_bytes not in (16, 32, 64):
            return super().generate_data_key(name, context, size_bytes)
        self.describe(name)
        body: dict[str, Json] = {"context": _context(context), "bits": 8 * size_bytes}
        data = self._ask("POST", f"datakey/plaintext/{PREFIX}{name}", body)
        plaintext = self._plaintext(data)
        if len(plaintext) != size_bytes:
            raise self._strange()
        return DataKey(name, plaintext, self._wrapped(data))

    def unwrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        return self._plaintext(self._open("decrypt", name, wrapped, context))

    def rewrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        return self._wrapped(self._open("rewrap", name, wrapped, context))

    def wrapping_version(self, wrapped: bytes) -> int:
        return int(_ciphertext(wrapped)[1])

    def check(self) -> str:
        self.ensure(DEPLOYMENT_KEY)
        check_contract(self, DEPLOYMENT_KEY)
        return f"transit server {self._host}:{self._port}, mount {self._mount}, {len(self.names())} master keys"

    def _open(self, verb: str, name: str, wrapped: bytes, context: Mapping[str, str]) -> dict[str, Json]:
        require_name(name)
        try:
            ciphertext = _ciphertext(wrapped)[0]
            return self._ask("POST", f"{verb}/{PREFIX}{name}", {"ciphertext": ciphertext, "context": _context(context)})
        except (_BadRequest, NotFound, Unsealable):
            self.describe(name)  # the server answers alike for a key that is not there
            raise Unsealable from None

    def _ask(self, method: str, path: str, body: dict[str, Json] | None = None) -> dict[str, Json]:
        """The ``data`` of the server's answer. No message has anything of the token or of a body."""
        token = read_secret_file(self._token_file)
        headers = {"X-Vault-Request": "true"}
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        if self._tls is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            headers["X-Vault-Token"] = token.reveal_text()
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, f"/v1/{self._mount}/{path}", content, headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read(ANSWER_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unavailable(f"cannot be reached ({type(error).__name__})") from None
        finally:
            connection.close()
        if status == 404:
            raise NotFound(f"The transit server has nothing at {path.partition('?')[0]}.")
        if status == 400:
            raise _BadRequest(
                f"The transit server refuses {method} {path.partition('?')[0]}.", "Its audit log says why."
            )
        if status == 403:
            raise self._unavailable("refuses the token", "Renew the token, or widen its policy.")
        if status == 503:
            raise self._unavailable("is sealed or in maintenance", "Unseal it.")
        if status not in (200, 204) or len(text) > ANSWER_BYTES_MAX:
            raise self._unavailable(f"answers HTTP {status} with {len(text)} bytes")
        try:
            document: Json = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            raise self._strange() from None
        data = document.get("data") if isinstance(document, dict) else None
        return data if isinstance(data, dict) else {}

    def _wrapped(self, data: Mapping[str, Json]) -> bytes:
        ciphertext = data.get("ciphertext")
        if not isinstance(ciphertext, str) or not WRAPPED.match(ciphertext):
            raise self._strange()
        return ciphertext.encode()

    def _plaintext(self, data: Mapping[str, Json]) -> Secret:
        text = data.get("plaintext")
        try:
            return Secret(base64.b64decode(text, validate=True)) if isinstance(text, str) else Secret(b"")
        except ValueError:
            raise self._strange() from None

    def _strange(self) -> KeyStoreUnavailable:
        return self._unavailable("answers what its documentation does not say")

    def _unavailable(self, what: str, remedy: str = "Look at the server.") -> KeyStoreUnavailable:
        return KeyStoreUnavailable(f"The transit server {self._host}:{self._port} {what}.", remedy)


class _BadRequest(KeyStoreUnavailable):
    """HTTP 400: which of several reasons it was, only the server's log says."""


def _ciphertext(wrapped: bytes) -> tuple[str, str]:
    """The server's form of a wrapped key, and the version in it; ``Unsealable``."""
    text = wrapped.decode("ascii", errors="replace")
    if (match := WRAPPED.match(text)) is None:
        raise Unsealable
    return text, match[1]


def _context(context: Mapping[str, str]) -> str:
    return base64.b64encode(bytes.fromhex(sha256_hex(encode_context(context)))).decode()


def _parsed(address: str) -> tuple[bool, str, int]:
    """Whether TLS is spoken, the host and the port; ``UserError`` for what is no address to trust keys to."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or 8200
    except ValueError:  # a port or brackets that are none
        parts, host, port = urlsplit(""), None, 0
    secure = parts.scheme == "https"
    allowed = secure or (parts.scheme == "http" and _is_loopback(host))
    if not allowed or not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise UserError(
            "This is not the address of a transit server.",  # not shown: it may carry a password
            "Give https://HOST:PORT; http is for loopback addresses only.",
        )
    return secure, host, port


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError):
        raise UserError(f"{ca_file} is not a file of CA certificates.", "Give the server's CA in PEM.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
