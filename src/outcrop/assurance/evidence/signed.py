"""An evidence file: a statement, and an Ed25519 signature over its one normal form.

The signing key is made at first use in ``DIR/evidence/signing-key.pem``, readable by its owner only (0600) and not
sealed: evidence is made in checkouts that have no deployment and no key store. Keep the key's fingerprint elsewhere and
give it to ``verify``; without it a signature shows only that the file is as some key's holder left it. Not covered: a
time stamp by somebody else; revocation.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.assurance.evidence.statement import FORMAT
from outcrop.base.errors import NotFound, UserError
from outcrop.base.files import make_private_directory, write_atomic
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.crypto.signatures import SigningKey, VerifyingKey

FOLDER = "evidence"
KEY_FILE = "signing-key.pem"
_PURPOSE = b"outcrop evidence\n"


def evidence_key(data: Path) -> SigningKey:
    """The key that signs this data directory's evidence, made at first use."""
    folder = data / FOLDER
    path = folder / KEY_FILE
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise UserError(f"{path} can be read by others.", f"Delete it, or run: chmod 600 {path}")
        return SigningKey.from_pem(Secret(path.read_bytes()))
    make_private_directory(folder)
    key = SigningKey.generate("ed25519")
    write_atomic(path, key.private_pem().reveal(), private=True)
    return key


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """A statement as JSON data with its signature and the key that made it."""

    statement: dict[str, Any]
    public_key: VerifyingKey
    signature: bytes

    @classmethod
    def sign(cls, statement: dict[str, Any], key: SigningKey) -> EvidenceFile:
        """``statement`` signed with ``key``."""
        return cls(statement, key.verifying_key, key.sign(_message(statement)))

    @classmethod
    def read(cls, path: Path) -> EvidenceFile:
        """The file ``path``; ``NotFound`` or ``UserError`` where it is none. Nothing is verified yet."""
        try:
            document = json.loads(path.read_text("utf-8"))
            signature = document["signature"]
            key = VerifyingKey.from_pem(signature["public_key"].encode())
            value = base64.b64decode(signature["value"], validate=True)
            statement = document["statement"]
            if statement["format"] != FORMAT:
                raise UserError(f"{path} has the format {statement['format']!r}, not {FORMAT}.")
        except FileNotFoundError:
            raise NotFound(f"There is no file {path}.", "Make one with: outcrop evidence run --out FILE") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise UserError(f"{path} is no evidence file ({type(error).__name__}).") from None
        return cls(statement, key, value)

    def verify(self, fingerprint: str = "") -> None:
        """``UserError`` unless the signature holds, by the key whose fingerprint begins with ``fingerprint``."""
        if not self.public_key.fingerprint().startswith(fingerprint.lower()):
            raise UserError(
                f"The evidence is signed by the key {self.public_key.fingerprint()}, not by {fingerprint}.",
                "Ask its maker which key is theirs.",
            )
        if not self.public_key.verify(self.signature, _message(self.statement)):
            raise UserError("The signature does not hold: the evidence was changed.", "Ask its maker for the original.")

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        document = {
            "statement": self.statement,
            "signature": {
                "algorithm": self.public_key.algorithm,
                "fingerprint": self.public_key.fingerprint(),
                "public_key": self.public_key.public_pem().decode(),
                "value": base64.b64encode(self.signature).decode(),
            },
        }
        write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())


def _message(statement: dict[str, Any]) -> bytes:
    """The bytes that are signed: JSON with sorted keys, without spaces, in ASCII."""
    return _PURPOSE + json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
