"""The keys of one log: Ed25519 for tree heads, RSA-2048 for CloudTrail digests, their public halves and their history.

``keys.json`` holds every public key there ever was. The first head key signs itself, and its id is the log's id; each
later key, of either kind, is signed by the head key before it together with the tree size from which it is good. The
private halves lie in ``KEYID.sealed``, sealed under the deployment's key store.

Not covered: somebody who replaces the whole log and ``keys.json`` with one of their own making. Only the log's id, or a
head, kept elsewhere shows that (``outcrop audit verify --log ID`` or ``--head FILE``).
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from outcrop.base.errors import AuditBroken, UserError
from outcrop.base.faultpoints import point
from outcrop.base.files import write_atomic
from outcrop.trust.audit.heads import TreeHead
from outcrop.trust.crypto.sealer import Sealer
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.crypto.signatures import SigningKey, VerifyingKey

FILE = "keys.json"

Use = Literal["head", "digest"]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key's public half: what it signs, since when (tree size and time), and the head key's word for it."""

    id: str
    use: Use
    pem: str
    from_size: int
    from_time: str
    endorsed_by: str
    endorsement: str = ""

    def message(self) -> bytes:
        """What the endorsing head key signs."""
        facts = (self.id, self.use, str(self.from_size), self.from_time, self.endorsed_by)
        return "\n".join(("outcrop audit key v1", *facts, self.pem)).encode()

    @property
    def verifying(self) -> VerifyingKey:
        return VerifyingKey.from_pem(self.pem.encode())

    @property
    def cloudtrail_fingerprint(self) -> str:
        """32 hex digits as in CloudTrail's digests; here the first of the SHA-256, since MD5 is not for new things."""
        return self.id[:32]

    @property
    def cloudtrail_value(self) -> bytes:
        """The key as ListPublicKeys hands it out: PKCS#1, DER."""
        return self.verifying.pkcs1_der()


class PublicKeys:
    """Every key of one log, checked when loaded."""

    def __init__(self, keys: list[PublicKey]) -> None:
        """Raises ``AuditBroken`` unless each key is what it says and stands in an unbroken line from the first."""
        heads = [key for key in keys if key.use == "head"]
        if not keys or keys[0].use != "head":
            raise _broken("there is no first head key")
        verifying = {}
        for key in keys:
            try:
                public = verifying[key.id] = key.verifying
            except UserError:
                raise _broken(f"key {key.id[:16]} is not a public key") from None
            first = key is keys[0]
            last_head = [one for one in heads if one.from_size <= key.from_size and keys.index(one) < keys.index(key)]
            by = key.id if first else last_head[-1].id if last_head else ""
            signed = by in verifying and verifying[by].verify(_unhex(key.endorsement), key.message())
            if public.fingerprint() != key.id or key.endorsed_by != by or not signed:
                raise _broken(f"key {key.id[:16]} ({key.use}) is not vouched for by the key before it")
            if public.algorithm != ("ed25519" if key.use == "head" else "rsa-2048"):
                raise _broken(f"key {key.id[:16]} ({key.use}) has another algorithm than its use")
        if [key.from_size for key in heads] != sorted({key.from_size for key in heads}) or heads[0].from_size != 0:
            raise _broken("the head keys do not follow each other")
        self.keys = keys
        self._heads = heads
        self._verifying = verifying

    @classmethod
    def load(cls, directory: Path) -> PublicKeys:
        """The keys in ``directory``; ``AuditBroken`` where the file is missing or does not hold."""
        try:
            found = json.loads((directory / FILE).read_bytes())
            keys = [PublicKey(**one) for one in found["keys"]]
            if any(type(key.from_size) is not int or key.use not in ("head", "digest") for key in keys):
                raise ValueError
        except FileNotFoundError:
            raise _broken("the file is missing") from None
        except (ValueError, TypeError, KeyError):
            raise _broken("it does not have the form that Outcrop writes") from None
        return cls(keys)

    @property
    def log(self) -> str:
        """The log's id: that of its first key."""
        return self._heads[0].id

    def check_head(self, head: TreeHead) -> str:
        """What is wrong with a head's signature, or an empty text."""
        if head.log != self.log:
            return f"the head is of another log ({head.log[:16]}, this one is {self.log[:16]})"
        # A head that closes one key's time is signed by that key, so the size at the border belongs to the old one.
        due = [key for key in self._heads if key.from_size < head.tree_size or key.from_size == 0][-1]
        if head.key != due.id:
            return f"the head of size {head.tree_size} is signed by key {head.key[:16]}, not by {due.id[:16]}"
        if not self._verifying[head.key].verify(_unhex(head.signature), head.message()):
            return f"the signature of the head of size {head.tree_size} does not hold"
        return ""

    def digest_keys(self) -> list[PublicKey]:
        """The digest keys, oldest first."""
        return [key for key in self.keys if key.use == "digest"]

    def newest(self, use: Use) -> PublicKey:
        return [key for key in self.keys if key.use == use][-1]

    def save(self, directory: Path) -> None:
        text = json.dumps({"keys": [asdict(key) for key in self.keys]}, indent=1)
        write_atomic(directory / FILE, text.encode() + b"\n")


class AuditKeys:
    """The private keys in use, with all public ones."""

    def __init__(self, directory: Path, public: PublicKeys, head: SigningKey, digest: SigningKey) -> None:
        self._directory = directory
        self.public = public
        self._head = head
        self._digest = digest

    @classmethod
    def create(cls, directory: Path, sealer: Sealer, now: str) -> AuditKeys:
        """New keys for a new log."""
        head, digest = SigningKey.generate("ed25519"), SigningKey.generate("rsa-2048")
        by = head.verifying_key.fingerprint()
        keys = [
            _endorsed(head, "head", 0, now, by=head, by_id=by),
            _endorsed(digest, "digest", 0, now, by=head, by_id=by),
        ]
        made = cls(directory, PublicKeys(keys), head, digest)
        made._save(sealer)
        return made

    @classmethod
    def load(cls, directory: Path, sealer: Sealer) -> AuditKeys:
        """The keys of the log in ``directory``; ``AuditBroken`` or ``Unsealable`` where they cannot be had."""
        public = PublicKeys.load(directory)
        current = public.newest("head")
        try:
            sealed = (directory / f"{current.id}.sealed").read_bytes()
        except FileNotFoundError:
            raise _broken(f"the private key {current.id[:16]} is missing") from None
        pems = json.loads(sealer.unseal(sealed, _context(public.log, current.id)))
        head, digest = (SigningKey.from_pem(Secret(pems[use])) for use in ("head", "digest"))
        if (head.verifying_key.fingerprint(), digest.verifying_key.fingerprint()) != (
            current.id,
            public.newest("digest").id,
        ):
            raise _broken("the private keys do not belong to the public ones")
        return cls(directory, public, head, digest)

    def rotate(self, sealer: Sealer, size: int, now: str) -> AuditKeys:
        """Fresh keys for every record from ``size`` on, vouched for by the old head key; the old are erased."""
        head, digest = SigningKey.generate("ed25519"), SigningKey.generate("rsa-2048")
        old = self._head.verifying_key.fingerprint()
        new_head = _endorsed(head, "head", size, now, by=self._head, by_id=old)
        new_digest = _endorsed(digest, "digest", size, now, by=head, by_id=new_head.id)
        made = AuditKeys(self._directory, PublicKeys([*self.public.keys, new_head, new_digest]), head, digest)
        made._save(sealer)
        (self._directory / f"{old}.sealed").unlink(missing_ok=True)
        return made

    def sign_head(self, size: int, root: bytes, at: str) -> TreeHead:
        """A signed head over ``size`` records."""
        unsigned = TreeHead(size, root.hex(), at, self.public.log, self.public.newest("head").id)
        return TreeHead(**{**asdict(unsigned), "signature": self._head.sign(unsigned.message()).hex()})

    def sign_digest(self, message: bytes) -> str:
        """SHA256withRSA over a digest's string to sign, in hex as CloudTrail has it."""
        return self._digest.sign(message).hex()

    def _save(self, sealer: Sealer) -> None:
        key = self.public.newest("head").id
        pems = {"head": self._head.private_pem().reveal_text(), "digest": self._digest.private_pem().reveal_text()}
        sealed = sealer.seal(json.dumps(pems).encode(), _context(self.public.log, key))
        # The private half first: a public key without its private half could sign nothing more.
        write_atomic(self._directory / f"{key}.sealed", sealed, private=True)
        point("audit.keys.sealed")
        self.public.save(self._directory)
        point("audit.keys.saved")


def cloudtrail_public_key(key: PublicKey) -> dict[str, str]:
    """A digest key as the AWS CLI's ``validate-logs`` looks it up."""
    return {"Fingerprint": key.cloudtrail_fingerprint, "Value": base64.b64encode(key.cloudtrail_value).decode()}


def _endorsed(key: SigningKey, use: Use, size: int, now: str, *, by: SigningKey, by_id: str) -> PublicKey:
    public = key.verifying_key
    bare = PublicKey(public.fingerprint(), use, public.public_pem().decode(), size, now, by_id)
    return PublicKey(**{**asdict(bare), "endorsement": by.sign(bare.message()).hex()})


def _context(log: str, key: str) -> dict[str, str]:
    return {"purpose": "audit signing keys", "log": log, "key": key}


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _broken(what: str) -> AuditBroken:
    return AuditBroken(f"The audit log's {FILE} does not hold: {what}.", "Restore it from a copy.")
