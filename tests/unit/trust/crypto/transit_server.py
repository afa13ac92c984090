"""A small transit server for tests: the part of the public transit API that is used, and it really encrypts.

It follows "Transit Secrets Engine (API)" of Vault's and OpenBao's documentation: paths, bodies, status codes, the form
of ciphertexts, derived keys, versions. ``log`` has every request line; ``state`` lets tests break it.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from outcrop.trust.crypto.ca import ensure_tls

TOKEN = "s.canary-token"


class Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class TransitServer:
    """Serves from entering to leaving the context."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        tls = ensure_tls(directory / "transit-tls")
        self.ca_file = tls.ca_certificate
        self.token_file = directory / "transit-token"
        self.token_file.write_text(TOKEN + "\n")
        self.token_file.chmod(0o600)
        self.keys: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        self.answer: tuple[int, bytes] | None = None  # given to every request when set
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.log.append(f"{self.command} {self.path}")
                try:
                    if self.headers.get("X-Vault-Token") != TOKEN:
                        raise Refused(403)
                    with server._lock:
                        data = server.handle(self.command, self.path, json.loads(body or b"{}"))
                    status, text = (200, json.dumps({"data": data}).encode()) if data is not None else (204, b"")
                except Refused as refused:
                    status, text = refused.status, b'{"errors":["refused"]}'
                if server.answer is not None:
                    status, text = server.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the standard library's names

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer((host, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.address = f"https://{host}:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def handle(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        path, _, query = path.partition("?")
        parts = path.removeprefix("/v1/transit/").split("/")
        if parts == ["keys"] and query == "list=true":
            if not self.keys:
                raise Refused(404)
            return {"keys": sorted(self.keys)}
        if parts[0] == "keys":
            return self.handle_key(method, parts[1], parts[2:], body)
        name, context = parts[-1], body.get("context", "")
        key = self.keys.get(name)
        if key is None:
            if parts[0] != "encrypt":
                raise Refused(400)  # "encryption key not found"
            self.make(name, {"derived": bool(context)})  # encrypting makes a missing key
            key = self.keys[name]
        if parts[0] == "encrypt":
            return {"ciphertext": self.encrypt(key, base64.b64decode(body["plaintext"]), context)}
        if parts[:2] == ["datakey", "plaintext"]:
            plaintext = secrets.token_bytes(body.get("bits", 256) // 8)
            text = base64.b64encode(plaintext).decode()
            return {"plaintext": text, "ciphertext": self.encrypt(key, plaintext, context)}
        if parts[0] == "decrypt":
            return {"plaintext": base64.b64encode(self.decrypt(key, body["ciphertext"], context)).decode()}
        if parts[0] == "rewrap":
            return {"ciphertext": self.encrypt(key, self.decrypt(key, body["ciphertext"], context), context)}
        raise Refused(404)

    def handle_key(self, method: str, name: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
        if method == "POST" and not rest:
            if name not in self.keys:
                self.make(name, body)
            return None
        key = self.keys.get(name)
        if key is None:
            raise Refused(404)
        if method == "GET":
            return {
                "name": name,
                "type": key["type"],
                "derived": key["derived"],
                "exportable": key["exportable"],
                "deletion_allowed": key["deletion_allowed"],
                "keys": {str(version): 1764000000 for version in range(1, len(key["versions"]) + 1)},
                "latest_version": len(key["versions"]),
            }
        if rest == ["rotate"]:
            key["versions"].append(secrets.token_bytes(32))
        elif rest == ["config"]:
            key["deletion_allowed"] = body["deletion_allowed"]
        elif method == "DELETE":
            if not key["deletion_allowed"]:
                raise Refused(400)
            del self.keys[name]
        return None

    def make(self, name: str, body: dict[str, Any]) -> None:
        self.keys[name] = {
            "type": body.get("type", "aes256-gcm96"),
            "derived": body.get("derived", False),
            "exportable": body.get("exportable", False),
            "deletion_allowed": False,
            "versions": [secrets.token_bytes(32)],
        }

    def cipher(self, key: dict[str, Any], version: int, context: str) -> AESGCM:
        if not 1 <= version <= len(key["versions"]) or (key["derived"] and not context):
            raise Refused(400)
        return AESGCM(HKDF(hashes.SHA256(), 32, None, base64.b64decode(context)).derive(key["versions"][version - 1]))

    def encrypt(self, key: dict[str, Any], plaintext: bytes, context: str) -> str:
        nonce, version = secrets.token_bytes(12), len(key["versions"])
        body = nonce + self.cipher(key, version, context).encrypt(nonce, plaintext, None)
        return f"vault:v{version}:{base64.b64encode(body).decode()}"

    def decrypt(self, key: dict[str, Any], ciphertext: str, context: str) -> bytes:
        try:
            _, version, text = ciphertext.split(":")
            body = base64.b64decode(text, validate=True)
            return self.cipher(key, int(version[1:]), context).decrypt(body[:12], body[12:], None)
        except (ValueError, InvalidTag):
            raise Refused(400) from None
