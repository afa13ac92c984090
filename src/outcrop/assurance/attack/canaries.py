"""Family: marked secrets put through a private deployment, which is then searched, output, data and memory dumps alike.

Every secret that goes in (or is given out) is looked for as it is, in base64 and in hex, in standard error at its most
talkative, in standard output, and in every file of the data directory. Success is a secret that is found, or a memory
dump of a process that was made to crash. Not covered: swap, and the memory of the process itself.
"""

from __future__ import annotations

import base64
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, unproven
from outcrop.assurance.attack.bearers import api_key, bearing
from outcrop.assurance.attack.calls import Caller, conversation, models, session_keys
from outcrop.assurance.attack.child import Child
from outcrop.assurance.attack.paths import encoded
from outcrop.assurance.attack.signatures import Keys
from outcrop.trust.crypto import random_id, random_secret_key

WANTED = frozenset({"a data key", "a session's secret", "a session's token"})
"""Secrets that the deployment gives out while it is exercised."""


def run(scene: Scene) -> Iterator[Found]:
    """Put canaries through, crash it, search."""
    if scene.child is None:
        yield not_applicable("canaries", "needs --data: no private deployment is started without it")
        return
    with scene.child() as child:
        secrets = exercise(child)
        for what in sorted(WANTED - secrets.keys()):
            yield unproven(what, "the private deployment did not give it out, so it cannot be looked for")
        yield from search(child, secrets)


def exercise(child: Child) -> dict[str, str]:
    """Send every kind of secret once where it belongs and once where it is refused; the secrets by what they are."""
    caller = Caller(child.client, child.region, child.keys)
    prompt, plaintext, header = (random_id("CANARY") for _ in range(3))
    secrets = {"a root key's secret": child.keys.secret, "a prompt": prompt, "a plaintext for KMS": plaintext}
    for model in models(caller)[:1]:
        path = f"/model/{encoded(model)}"
        caller.rest("POST", f"{path}/converse", conversation(prompt))
        caller.rest("POST", f"{path}/converse", {**conversation(prompt), "inferenceConfig": {"maxTokens": -1}})
        caller.rest("POST", f"{path}/converse", {"messages": [{"role": prompt, "content": [{"text": prompt}]}]})
        caller.rest("POST", f"{path}/invoke", {"messages": prompt})
        caller.rest("POST", "/openai/v1/chat/completions", {"model": model, "messages": [{"role": prompt}]})
    key = caller.call("kms:CreateKey")
    metadata = key.json().get("KeyMetadata")
    key_id = str(metadata.get("KeyId")) if isinstance(metadata, dict) else ""
    text = base64.b64encode(plaintext.encode()).decode()
    caller.call("kms:Encrypt", {"KeyId": key_id, "Plaintext": text})
    caller.call("kms:Encrypt", {"KeyId": key_id, "Plaintext": text, "EncryptionAlgorithm": "none"})
    data_key = caller.call("kms:GenerateDataKey", {"KeyId": key_id, "KeySpec": "AES_256"}).json().get("Plaintext")
    if isinstance(data_key, str):
        secrets["a data key"] = base64.b64decode(data_key).hex()
    wrong = Keys(child.keys.access_key_id, random_secret_key())
    Caller(child.client, child.region, wrong).call("kms:ListKeys")
    bearer = api_key(child.keys, child.region)
    bearing(child.client, bearer, "GET", "/foundation-models")
    bearing(child.client, bearer[:-6] + "AAAAAA", "GET", "/foundation-models")
    secrets["an API key"] = bearer[:-8]
    session = session_keys(caller.call("sts:GetSessionToken"))
    if session is not None:
        secrets["a session's secret"], secrets["a session's token"] = session.secret, session.session_token
        Caller(child.client, child.region, session).call("kms:ListKeys")
    child.client.exchange(
        b"GET / HTTP/1.1\r\nhost: " + child.client.host.encode() + b"\r\nauthorization: " + header.encode() + b"\r\n"
        b"connection: close\r\n\r\n"
    )
    return {**secrets, "an authorization header": header}


def search(child: Child, secrets: Mapping[str, str]) -> Iterator[Found]:
    """Crash the process and look for the secrets in what it leaves."""
    limits = Path(f"/proc/{child.process.pid}/limits").read_text("ascii")
    core = next((text for text in limits.splitlines() if text.startswith("Max core file size")), "")
    yield judge("memory dumps are off", core.split()[4:6] != ["0", "0"], " ".join(core.split()[4:6]) + " bytes at most")
    child.stop(signal.SIGABRT)
    dumps = [path.name for path in child.directory.rglob("core*") if path.is_file()]
    yield judge("a memory dump of a crash", bool(dumps), ", ".join(dumps) or "none was made")
    files = sorted(path for path in child.directory.rglob("*") if path.is_file())
    said = child.stderr.read_bytes()
    if not said or not any(path.suffix == ".seg" or "audit" in path.parts for path in files):
        yield unproven("where secrets could have been written", "standard error and the trail must not be empty")
    for what, secret in secrets.items():
        found = [str(path.relative_to(child.directory)) for path in files if holds(path, secret)]
        yield judge(
            what, bool(found), f"found in {', '.join(found[:3])}" if found else f"in none of {len(files)} files"
        )


def forms(secret: str) -> Iterable[bytes]:
    """A secret as it is, in hex and in base64 at each alignment."""
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw)
        yield text[4 if shift else 0 : -4]
    if len(secret) == 64 and all(each in "0123456789abcdef" for each in secret):
        yield bytes.fromhex(secret)
        yield base64.b64encode(bytes.fromhex(secret)).rstrip(b"=")


def holds(path: Path, secret: str) -> bool:
    """Whether a file has the secret in any form."""
    content = path.read_bytes()
    return any(form in content for form in forms(secret))
