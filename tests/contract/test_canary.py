"""What is said to the service, and what it keeps secret, is found nowhere afterwards: not on its disk, not in its log.

A real ``outcrop up`` logs everything of every library, with invocation logging off and then on; unique random texts go
through each API that carries content or gives a secret out. Then the data directory, temporary files, the log, the
environment, the command line and the open files are looked through, while it runs and after it has ended.

Metadata stays readable, and the same look must find it: names, tags, ARNs, descriptions, policy documents, encryption
contexts, session names, source identities, paths and user agents. Not covered: memory, swap and core dumps (the
facts of the machine), what other programs keep, and texts that a client puts into such metadata.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import boto3
import jwt
import openai
import pytest
from aws_bedrock_token_generator import BedrockTokenGenerator
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from canary_rig import Canaries, Scanner, planted, random_text
from outcrop.models.registry import ModelRegistry
from serving import TINY_MODEL_ID, Running, write_tiny_model
from signing import signed_headers
from trust_rig import MESSAGES, Keys, allow, client, document, opened, trusting

AT_DEBUG = (
    "import logging, sys; logging.basicConfig(level=logging.DEBUG, stream=sys.stderr); "
    "from outcrop.cli.main import main; sys.exit(main(sys.argv[1:]))"
)
STARTS_S = 60
LOGS = "canary-logs"


@dataclass(frozen=True)
class Up:
    """The process, and its service as clients know it."""

    process: subprocess.Popen[str]
    service: Running
    temporary: Path
    log: Path
    root: Keys


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("canary")
    data, temporary, log = folder / "data", folder / "tmp", folder / "log"
    temporary.mkdir()
    ModelRegistry(data / "models").import_directory(write_tiny_model(folder / "tiny"), TINY_MODEL_ID)
    command = [sys.executable, "-c", AT_DEBUG, "up", "--data", str(data), "--port", "0", "--https-port", "0", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--verbose"], env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        report = json.loads(line)
        root = Keys(report["access_key_id"], report["secret_access_key"])
        service = Running(
            report["endpoint"],
            report["https_endpoint"],
            data / "tls" / "ca.crt",
            report["region"],
            report["account"],
            root.access_key_id,
            root.secret_access_key,
            data,
            [],
        )
        yield Up(process, service, temporary, log, root)
    finally:
        process.kill()
        process.communicate()


def tolerated(act: Callable[[], Any]) -> Any:
    """What ``act`` gives; ``None`` for a refusal, which a service that has not built everything may answer."""
    try:
        return act()
    except (ClientError, anthropic.APIStatusError, openai.APIStatusError):
        return None


def say_everything(up: Up, canaries: Canaries, phase: str) -> None:
    """Content through every surface, whole and streamed, in every place that takes text."""
    runtime = client(up.service, "bedrock-runtime", up.root)
    text = lambda place: canaries.text(f"{phase} {place}")  # noqa: E731 - names each place

    def asked(place: str) -> dict[str, Any]:
        return {
            "modelId": TINY_MODEL_ID,
            "messages": [{"role": "user", "content": [{"text": text(f"{place} prompt")}]}],
            "system": [{"text": text(f"{place} system")}],
            "inferenceConfig": {"maxTokens": 2, "stopSequences": [text(f"{place} stop")]},
        }

    assert runtime.converse(**asked("converse"))["usage"]["outputTokens"] > 0
    assert list(runtime.converse_stream(**asked("converse stream"))["stream"])

    def body(place: str) -> dict[str, Any]:
        return {
            "max_tokens": 2,
            "messages": [{"role": "user", "content": text(f"{place} prompt")}],
            "system": text(f"{place} system"),
            "stop_sequences": [text(f"{place} stop")],
        }

    def invoked(place: str) -> dict[str, Any]:
        whole = {"anthropic_version": "bedrock-2023-05-31", **body(place)}
        return {"modelId": TINY_MODEL_ID, "body": json.dumps(whole)}

    assert json.loads(runtime.invoke_model(**invoked("invoke"))["body"].read())["usage"]
    assert list(runtime.invoke_model_with_response_stream(**invoked("invoke stream"))["body"])
    counted = {"converse": {"messages": [{"role": "user", "content": [{"text": text("count")}]}]}}
    assert runtime.count_tokens(modelId=TINY_MODEL_ID, input=counted)["inputTokens"] > 0

    key = canaries.keep(f"{phase} short-term key", _short_term(up, up.root))
    claude = anthropic.Anthropic(api_key=key, base_url=up.service.http_url, max_retries=0)
    assert claude.messages.create(model=TINY_MODEL_ID, **body("messages")).usage.output_tokens
    with claude.messages.stream(model=TINY_MODEL_ID, **body("messages stream")) as events:
        assert list(events)
    gpt = openai.OpenAI(api_key=key, base_url=f"{up.service.http_url}/openai/v1", max_retries=0)

    def chat(place: str) -> dict[str, Any]:
        messages = [
            {"role": "system", "content": text(f"{place} system")},
            {"role": "user", "content": text(f"{place} prompt")},
        ]
        return {"model": TINY_MODEL_ID, "max_tokens": 2, "messages": messages, "stop": [text(f"{place} stop")]}

    assert gpt.chat.completions.create(**chat("chat")).usage
    assert list(gpt.chat.completions.create(**chat("chat stream"), stream=True))

    endpoint = {"EndpointName": "local-tiny-v1-0", "ContentType": "application/json"}
    sagemaker = client(up.service, "sagemaker-runtime", up.root)
    for place, call in (
        ("endpoint", sagemaker.invoke_endpoint),
        ("endpoint stream", sagemaker.invoke_endpoint_with_response_stream),
    ):
        asking = {"inputs": text(place), "parameters": {"max_new_tokens": 2}, "stream": place.endswith("stream")}
        list(call(**endpoint, Body=json.dumps(asking))["Body"])


def say_what_is_refused(up: Up, canaries: Canaries) -> None:
    """Content in requests that are malformed, forged, too long, or for what is not built."""
    runtime = client(up.service, "bedrock-runtime", up.root)
    secret = lambda place: canaries.text(f"refused {place}")  # noqa: E731 - names each place
    message = lambda place: {"role": "user", "content": [{"text": secret(place)}]}  # noqa: E731
    image = {"image": {"format": "png", "source": {"bytes": secret("image").encode()}}}
    tool = {"toolSpec": {"name": "t", "description": secret("tool"), "inputSchema": {"json": {"x": secret("schema")}}}}
    for act in (
        lambda: runtime.converse(modelId=TINY_MODEL_ID, messages=[message("long") | {"role": "user"}] * 400),
        lambda: runtime.converse(modelId="local.unknown-v1:0", messages=[message("model")]),
        lambda: runtime.converse(modelId=TINY_MODEL_ID, messages=[{"role": "user", "content": [image]}]),
        lambda: runtime.converse(modelId=TINY_MODEL_ID, messages=[message("tools")], toolConfig={"tools": [tool]}),
        lambda: runtime.converse(
            modelId=TINY_MODEL_ID, messages=MESSAGES, additionalModelRequestFields={secret("field"): secret("value")}
        ),
        lambda: runtime.converse(modelId=TINY_MODEL_ID, messages=MESSAGES, requestMetadata={"k": secret("about")[:40]}),
        lambda: runtime.apply_guardrail(
            guardrailIdentifier="abc",
            guardrailVersion="1",
            source="INPUT",
            content=[{"text": {"text": secret("guard")}}],
        ),
    ):
        tolerated(act)
    target = f"/model/{TINY_MODEL_ID.replace(':', '%3A')}/converse"
    json_type = {"Content-Type": "application/json"}
    for place, make in {
        "no JSON": lambda s: f'{{"messages": {s}'.encode(),
        "wrong type": lambda s: json.dumps({"messages": s}).encode(),
        "wrong role": lambda s: json.dumps({"messages": [{"role": s, "content": [{"text": s}]}]}).encode(),
        "unknown member": lambda s: json.dumps({s: {s: s}}).encode(),
        "bad number": lambda s: json.dumps({"messages": [], "inferenceConfig": {"maxTokens": s}}).encode(),
    }.items():
        body = make(secret(place))
        signed = signed_headers(up.service, "POST", target, body, headers=json_type)
        assert 400 <= post(up, target, body, signed) < 500
        forged = make(secret(f"{place}, forged"))
        assert post(up, target, forged, signed) == 403  # the signature of another body
        assert post(up, target, make(secret(f"{place}, unsigned")), json_type) == 403
    assert (
        post(up, target, body, {**json_type, "Authorization": f"Bearer {secret('bearer')}".encode().decode("latin-1")})
        == 403
    )
    for path in ("/v1/messages", "/openai/v1/chat/completions"):
        key = {"x-api-key": canaries.keep(f"wrong key at {path}", "sk-" + secrets.token_hex(20)), **json_type}
        assert post(up, path, json.dumps({"model": "m", "prompt": secret(path)}).encode(), key) in (401, 403)


def post(up: Up, target: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer."""
    request = urllib.request.Request(up.service.http_url + target, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            error.read()
            return int(error.code)


def keep_keys(up: Up, canaries: Canaries) -> None:
    """KMS: what is sealed, made and authenticated."""
    kms = client(up.service, "kms", up.root)
    made = kms.create_key(
        Description=canaries.known("description"), Tags=[{"TagKey": "t", "TagValue": canaries.known("tag of a key")}]
    )
    key_id = made["KeyMetadata"]["KeyId"]
    context = {"about": canaries.known("encryption context")}
    plain = canaries.text("plaintext")
    sealed = kms.encrypt(KeyId=key_id, Plaintext=plain, EncryptionContext=context)["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context)["Plaintext"].decode() == plain
    assert kms.re_encrypt(CiphertextBlob=sealed, SourceEncryptionContext=context, DestinationKeyId=key_id)
    for number, name in enumerate(("generate_data_key", "generate_random")):
        asked = {"KeyId": key_id, "KeySpec": "AES_256"} if number == 0 else {"NumberOfBytes": 32}
        canaries.keep(name, getattr(kms, name)(**asked)["Plaintext"])
    mac_key = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    assert kms.generate_mac(KeyId=mac_key, Message=canaries.text("message"), MacAlgorithm="HMAC_SHA_256")["Mac"]
    tolerated(lambda: kms.decrypt(CiphertextBlob=canaries.text("no ciphertext").encode()))
    tolerated(
        lambda: kms.encrypt(KeyId=f"alias/{canaries.known('missing alias')}", Plaintext=canaries.text("lost plain"))
    )


def have_identities(up: Up, canaries: Canaries) -> None:
    """IAM and STS: secrets that are shown once, sessions, tokens."""
    iam = client(up.service, "iam", up.root)
    name, account = canaries.known("user"), up.service.account
    canaries.keep("root secret", up.root.secret_access_key)
    iam.create_user(UserName=name, Tags=[{"Key": "k", "Value": canaries.known("tag of a user")}])
    made = iam.create_access_key(UserName=name)["AccessKey"]
    user = Keys(made["AccessKeyId"], canaries.keep("access key's secret", made["SecretAccessKey"]))
    long_term = iam.create_service_specific_credential(UserName=name, ServiceName="bedrock.amazonaws.com")
    long_term = long_term["ServiceSpecificCredential"]
    long_term_key = long_term.get("ServiceCredentialSecret") or long_term["ServicePassword"]
    canaries.keep("long-term key", long_term_key)
    claude = anthropic.Anthropic(api_key=long_term_key, base_url=up.service.http_url, max_retries=0)
    asked = [{"role": "user", "content": canaries.text("denied by policy")}]
    tolerated(lambda: claude.messages.create(model=TINY_MODEL_ID, max_tokens=1, messages=asked))
    alias_and_secret = base64.b64decode(long_term_key.removeprefix("ABSK") + "==").decode()
    canaries.keep("long-term key's secret", alias_and_secret.partition(":")[2])

    issuer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    url = f"https://{canaries.known('issuer')}.example.org"
    provider = iam.create_open_id_connect_provider(Url=url, ClientIDList=["ci"])["OpenIDConnectProviderArn"]
    trusts = trusting({"AWS": f"arn:aws:iam::{account}:user/{name}"}, ["sts:AssumeRole", "sts:SetSourceIdentity"])
    role = iam.create_role(RoleName=canaries.known("role"), AssumeRolePolicyDocument=trusts)["Role"]["Arn"]
    statement = allow("kms:ListKeys", Sid=canaries.known("statement").replace("-", ""))
    canaries.metadata["statement"] = str(statement["Sid"])
    iam.put_role_policy(RoleName=canaries.metadata["role"], PolicyName="p", PolicyDocument=document(statement))
    sts = client(up.service, "sts", user)
    reply = sts.assume_role(
        RoleArn=role, RoleSessionName=canaries.known("session"), SourceIdentity=canaries.known("source-identity")
    )
    session = Keys.of(reply)
    canaries.keep("session's secret", session.secret_access_key)
    canaries.keep("session token", str(session.session_token))
    client(up.service, "kms", session).list_keys()
    own = Keys.of(sts.get_session_token())
    canaries.keep("user's session token", str(own.session_token))
    canaries.keep("user's session's secret", own.secret_access_key)
    canaries.keep("session's short-term key", _short_term(up, session))
    tolerated(
        lambda: client(up.service, "sts", Keys(own.access_key_id, "x" * 40, own.session_token)).get_caller_identity()
    )

    now = time.time()
    claims = {"iss": url, "sub": "somebody", "aud": "ci", "iat": now, "exp": now + 600, "note": canaries.text("claim")}
    anonymous = boto3.client("sts", endpoint_url=up.service.http_url, region_name=up.service.region)
    for place, key_set in (("without keys", None), ("with keys", issuer)):
        if key_set is not None:
            _give_key_set(up, provider, key_set)
        token = canaries.keep(
            f"web identity token {place}", jwt.encode(claims | {"jti": secrets.token_hex()}, issuer, "RS256")
        )
        canaries.keep(f"its signature {place}", token.rpartition(".")[2])
        federated = trusting({"Federated": provider}, "sts:AssumeRoleWithWebIdentity")
        iam.update_assume_role_policy(RoleName=canaries.metadata["role"], PolicyDocument=federated)
        asked_web = {"RoleArn": role, "RoleSessionName": "web", "WebIdentityToken": token}
        got = tolerated(lambda asked_web=asked_web: anonymous.assume_role_with_web_identity(**asked_web))
        assert (got is not None) == (key_set is not None)
        if got is not None:
            canaries.keep("web session token", got["Credentials"]["SessionToken"])
            canaries.keep("web session's secret", got["Credentials"]["SecretAccessKey"])


def _give_key_set(up: Up, provider: str, key: rsa.RSAPrivateKey) -> None:
    public = {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "use": "sig"}
    with opened(up.service.data) as trust:
        trust.identity.oidc.set_jwks(up.service.account, provider, json.dumps({"keys": [public]}))


def _short_term(up: Up, keys: Keys) -> str:
    made = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    return BedrockTokenGenerator().get_token(made, up.service.region)


def log_invocations(up: Up) -> None:
    """From now on what is said is kept: sealed, in the account's own bucket."""
    command = [sys.executable, "-m", "outcrop.cli.main", "admin", "bucket", "create", LOGS]
    done = subprocess.run(
        [*command, "--data", str(up.service.data)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    client(up.service, "bedrock", up.root).put_model_invocation_logging_configuration(
        loggingConfig={"s3Config": {"bucketName": LOGS}}
    )


def everywhere(up: Up, scanner: Scanner, *, running: bool) -> set[str]:
    found = scanner.folder(up.service.data) | scanner.folder(up.temporary) | scanner.file(up.log, "the log")
    return found | scanner.process(up.process.pid) if running else found


def test_nothing_that_was_said_or_is_secret_is_found_afterwards(up: Up) -> None:
    canaries = Canaries()
    say_everything(up, canaries, "unlogged")
    say_what_is_refused(up, canaries)
    keep_keys(up, canaries)
    have_identities(up, canaries)
    log_invocations(up)
    agent = canaries.known("user agent")
    settings = {"endpoint_url": up.service.http_url, "region_name": up.service.region}
    keys = {"aws_access_key_id": up.root.access_key_id, "aws_secret_access_key": up.root.secret_access_key}
    boto3.client("sts", **settings, **keys, config=Config(user_agent_extra=agent)).get_caller_identity()
    say_everything(up, canaries, "logged")
    assert len(canaries.secret) > 100

    scanner = Scanner(canaries.secret)
    assert everywhere(up, scanner, running=True) == set()
    # The twin: the same look, at the same places and time, finds what is no secret.
    metadata = {name: Scanner({name: text}) for name, text in canaries.metadata.items()}
    unseen = {name for name, one in metadata.items() if not everywhere(up, one, running=True)}
    assert unseen == set()
    assert b"DEBUG" in up.log.read_bytes()

    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0
    assert everywhere(up, scanner, running=False) == set()
    kept = scanner.data("the invocation log", shown_log(up))
    assert any(each.startswith("logged converse stream prompt") for each in kept)  # there it was, sealed
    assert not any(each.startswith("unlogged") for each in kept)


def shown_log(up: Up) -> bytes:
    """The account's invocation log as its reader sees it, with its key."""
    command = [sys.executable, "-m", "outcrop.cli.main", "logs", "show", "--json", "--last", "99", "--bucket", LOGS]
    done = subprocess.run([*command, "--data", str(up.service.data)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_scanner_finds_what_is_planted(tmp_path: Path) -> None:
    text = random_text()
    scanner = Scanner({"it": text})
    for name, path in planted(tmp_path / "planted", text).items():
        assert scanner.file(path, name), name
    (tmp_path / text.replace("/", "")).write_bytes(b"")
    assert any("a file name" in each for each in Scanner({"it": text.replace("/", "")}).folder(tmp_path))
    assert Scanner({"it": random_text()}).folder(tmp_path) == set()


def test_the_scanner_finds_it_in_a_process(tmp_path: Path) -> None:
    text, other = secrets.token_hex(12), secrets.token_hex(12)
    program = (
        "import sys, tempfile; f = tempfile.TemporaryFile(); f.write(sys.stdin.readline().encode()); f.flush(); "
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, text]
    process = subprocess.Popen(
        command, env={**os.environ, "IT": text}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(other + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        found = Scanner({"it": text, "other": other}).process(process.pid)
        assert {"it (raw) in environ", "it (raw) in cmdline"} <= found
        assert any(each.startswith("other (raw) in open file") for each in found)
        assert Scanner({"it": secrets.token_hex(12)}).process(process.pid) == set()
    finally:
        process.kill()
        process.communicate()
