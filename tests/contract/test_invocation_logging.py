"""Model invocation logging and data retention as unmodified clients and the operator's command see them.

A canary is a text that goes into a prompt, or that the scripted engine answers. What it leaves on the disk is looked
for in every file of the data directory: as it is, unpacked, and in base64.

Not covered: what the operating system writes by itself (swap, core dumps).
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from botocore.exceptions import ClientError, EventStreamError

from outcrop.base.arn import AccountId
from outcrop.base.clock import SystemClock
from outcrop.cli.main import main
from outcrop.inference.base import Generation, GenerationRequest
from outcrop.inference.null import NullEngine
from outcrop.service import assemble
from outcrop.service.invocations import Delivery, DeliveryLimits
from outcrop.service.objects import SealedObjects
from outcrop.service.objects.sealed import OBJECTS_FOLDER
from outcrop.trust.identity import bearer, root_credential
from serving import TINY_MODEL_ID, Running, running_service
from trust_rig import Keys, allow, client, make_user, opened, refused, root_keys

OTHER = "444455556666"
ASKED, ANSWERED = "canary-asked-5b2e91", "canary-answered-c07d34"
ANSWER = ("All ", "of ", ANSWERED, ".")
LOGS = "tenant-logs"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are delivered within a tenth of a second, not five."""
    monkeypatch.setattr(assemble, "Delivery", partial(Delivery, limits=DeliveryLimits(every_s=0.05)))


class Watched(NullEngine):
    """Remembers the scope of each request."""

    def __init__(self, **script: Any) -> None:
        super().__init__(**script)
        self.scopes: list[bytes] = []

    async def generate(self, request: GenerationRequest) -> Generation:
        self.scopes.append(request.cache_scope)
        async for event in super().generate(request):
            yield event


@contextmanager
def serving(data: Path, **engine: Any) -> Iterator[Running]:
    with running_service(data, lambda loaded: Watched(**{"script": ANSWER, **engine})) as service:
        yield service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path / "data") as running:
        yield running


def make_bucket(service: Running, name: str = LOGS, account: str = "", key_id: str | None = None) -> None:
    with opened(service.data) as trust:
        owner = AccountId(account or service.account)
        folder = service.data / OBJECTS_FOLDER
        SealedObjects(trust.keys, trust.vault, folder, SystemClock()).create_bucket(name, owner, key_id)


def other_account(service: Running) -> Keys:
    with opened(service.data) as trust:
        issued = trust.identity.ensure_account("aws", OTHER)
    assert issued is not None
    return Keys.issued(issued)


def log_into(service: Running, keys: Keys | None = None, bucket: str = LOGS, **config: Any) -> Any:
    control = client(service, "bedrock", keys or root_keys(service))
    config = {"s3Config": {"bucketName": bucket}, **config}
    control.put_model_invocation_logging_configuration(loggingConfig=config)
    return control


def set_mode(service: Running, mode: str, keys: Keys | None = None) -> Any:
    return client(service, "bedrock", keys or root_keys(service)).put_account_data_retention(mode=mode)


# --- the six ways to ask ----------------------------------------------------------------------------------------------


def conversation(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"text": text}]}]


def body(text: str) -> str:
    message = {"role": "user", "content": text}
    return json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": [message]})


def api_key(service: Running, keys: Keys) -> str:
    credential = root_credential("aws", AccountId(service.account), keys.access_key_id, keys.secret_access_key)
    return bearer.mint(credential, service.region, 600, SystemClock().now())


def converse(service: Running, keys: Keys, text: str) -> None:
    client(service, "bedrock-runtime", keys).converse(modelId=TINY_MODEL_ID, messages=conversation(text))


def converse_stream(service: Running, keys: Keys, text: str) -> None:
    runtime = client(service, "bedrock-runtime", keys)
    list(runtime.converse_stream(modelId=TINY_MODEL_ID, messages=conversation(text))["stream"])


def invoke(service: Running, keys: Keys, text: str) -> None:
    client(service, "bedrock-runtime", keys).invoke_model(modelId=TINY_MODEL_ID, body=body(text))["body"].read()


def invoke_stream(service: Running, keys: Keys, text: str) -> None:
    runtime = client(service, "bedrock-runtime", keys)
    list(runtime.invoke_model_with_response_stream(modelId=TINY_MODEL_ID, body=body(text))["body"])


def messages(service: Running, keys: Keys, text: str) -> None:
    asking = anthropic.Anthropic(
        base_url=f"{service.http_url}/anthropic", api_key=api_key(service, keys), max_retries=0
    )
    asked: Any = [{"role": "user", "content": text}]
    asking.messages.create(model=TINY_MODEL_ID, max_tokens=64, messages=asked)
    with asking.messages.stream(model=TINY_MODEL_ID, max_tokens=64, messages=asked) as stream:
        stream.get_final_message()


def chat(service: Running, keys: Keys, text: str) -> None:
    asking = openai.OpenAI(base_url=f"{service.http_url}/openai/v1", api_key=api_key(service, keys), max_retries=0)
    asked: Any = [{"role": "user", "content": text}]
    asking.chat.completions.create(model=TINY_MODEL_ID, messages=asked)
    list(
        asking.chat.completions.create(
            model=TINY_MODEL_ID, messages=asked, stream=True, stream_options={"include_usage": True}
        )
    )


WAYS: dict[str, Callable[[Running, Keys, str], None]] = {
    "Converse": converse,
    "ConverseStream": converse_stream,
    "InvokeModel": invoke,
    "InvokeModelWithResponseStream": invoke_stream,
    "CreateMessage": messages,
    "CreateChatCompletion": chat,
}
RECORDS = {"CreateMessage": 2, "CreateChatCompletion": 2}
"""Where a way asks more than once: whole and streamed."""


# --- what is on the disk ----------------------------------------------------------------------------------------------


def needles(canary: str) -> list[bytes]:
    """The canary, and its base64 at each of the three offsets, without what depends on its neighbours."""
    plain = canary.encode()
    encoded = [base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4] for shift in range(3)]
    return [plain, *encoded]


def unpacked(content: bytes) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return b""
    try:
        return zlib.decompressobj(wbits=31).decompress(content)
    except zlib.error:
        return b""


def places(data: Path, canary: str) -> list[Path]:
    """Files below ``data`` that hold the canary in any of the forms looked for."""
    found = []
    for path in (one for one in data.rglob("*") if one.is_file()):
        content = path.read_bytes()
        if any(needle in content or needle in unpacked(content) for needle in needles(canary)):
            found.append(path)
    return found


def log_of(service: Running, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    """The log as the operator's verb shows it, while the service runs."""
    capsys.readouterr()
    assert main(["logs", "show", "--data", str(service.data), "--last", "1000", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def wait_for_log(service: Running, capsys: pytest.CaptureFixture[str], count: int, *more: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    while len(found := log_of(service, capsys, *more)) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} records"
        time.sleep(0.05)
    assert len(found) == count
    return found


def audited(service: Running, name: str) -> list[dict[str, Any]]:
    trail = client(service, "cloudtrail", root_keys(service))
    attribute = [{"AttributeKey": "EventName", "AttributeValue": name}]
    deadline = time.monotonic() + 20
    while not (found := trail.lookup_events(LookupAttributes=attribute)["Events"]):
        assert time.monotonic() < deadline, f"no event {name}"
        time.sleep(0.1)
    return [json.loads(one["CloudTrailEvent"]) for one in found]


# --- tests ------------------------------------------------------------------------------------------------------------


def test_the_places_looked_into_do_show_a_canary(tmp_path: Path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_bytes(b"x" * 7 + base64.b64encode(f"ab{ASKED}c".encode()))
    compress = zlib.compressobj(wbits=31)
    packed.write_bytes(compress.compress(ASKED.encode()) + compress.flush())
    assert sorted(places(tmp_path, ASKED)) == [packed, plain]
    assert places(tmp_path, ANSWERED) == []


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_ask_is_logged_sealed_and_read_back(
    service: Running, way: str, capsys: pytest.CaptureFixture[str]
):
    make_bucket(service)
    log_into(service)
    WAYS[way](service, root_keys(service), ASKED)
    for record in wait_for_log(service, capsys, RECORDS.get(way, 1)):
        assert (record["schemaType"], record["schemaVersion"]) == ("ModelInvocationLog", "1.0")
        assert (record["operation"], record["modelId"]) == (way, TINY_MODEL_ID)
        assert record["accountId"] == service.account
        assert record["identity"] == {"arn": f"arn:aws:iam::{service.account}:root"}
        assert ASKED in json.dumps(record["input"]["inputBodyJson"])
        assert ANSWERED in json.dumps(record["output"]["outputBodyJson"])
        assert record["output"]["outputTokenCount"] == len(ANSWER)
        assert record["input"]["inputTokenCount"] > len(ASKED)
        assert "errorCode" not in record
    assert places(service.data, ASKED) == places(service.data, ANSWERED) == []


def test_a_converse_stream_is_logged_as_its_twin_converse_is(service: Running, capsys: pytest.CaptureFixture[str]):
    make_bucket(service)
    log_into(service)
    for way in ("Converse", "ConverseStream"):
        WAYS[way](service, root_keys(service), ASKED)
    whole, streamed = sorted(wait_for_log(service, capsys, 2), key=lambda record: record["operation"])
    for record in (whole, streamed):
        record["output"]["outputBodyJson"].pop("metrics")
    assert streamed["output"] == whole["output"]
    assert streamed["input"] == whole["input"]


def test_without_a_configuration_nothing_is_kept_of_any_way(tmp_path: Path):
    with serving(tmp_path / "data") as service:
        control = client(service, "bedrock", root_keys(service))
        assert "loggingConfig" not in control.get_model_invocation_logging_configuration()
        for ask in WAYS.values():
            ask(service, root_keys(service), ASKED)
        assert places(service.data, ASKED) == places(service.data, ANSWERED) == []
    assert places(tmp_path / "data", ASKED) == places(tmp_path / "data", ANSWERED) == []
    assert not (tmp_path / "data" / OBJECTS_FOLDER).exists()


def test_a_deleted_configuration_logs_no_more(service: Running, capsys: pytest.CaptureFixture[str]):
    make_bucket(service)
    control = log_into(service, textDataDeliveryEnabled=True, imageDataDeliveryEnabled=False)
    assert control.get_model_invocation_logging_configuration()["loggingConfig"] == {
        "s3Config": {"bucketName": LOGS},
        "textDataDeliveryEnabled": True,
        "imageDataDeliveryEnabled": False,
    }
    converse(service, root_keys(service), "before")
    wait_for_log(service, capsys, 1)
    control.delete_model_invocation_logging_configuration()
    assert "loggingConfig" not in control.get_model_invocation_logging_configuration()
    converse(service, root_keys(service), "after")
    time.sleep(0.3)
    assert len(log_of(service, capsys, "--bucket", LOGS)) == 1


def test_a_prefix_stands_before_the_documented_keys(service: Running, capsys: pytest.CaptureFixture[str]):
    make_bucket(service)
    log_into(service, s3Config={"bucketName": LOGS, "keyPrefix": "../../team/a"})
    converse(service, root_keys(service), ASKED)
    wait_for_log(service, capsys, 1)
    with opened(service.data) as trust:
        objects = SealedObjects(trust.keys, trust.vault, service.data / OBJECTS_FOLDER, SystemClock())
        keys = [one.key for one in objects.list(LOGS, AccountId(service.account))]
    root = f"../../team/a/AWSLogs/{service.account}/BedrockModelInvocationLogs"
    assert keys[0] == f"{root}/amazon-bedrock-logs-permission-check"
    assert keys[1].startswith(f"{root}/{service.region}/{SystemClock().now():%Y/%m/%d/}")
    assert {path.name for path in service.data.parent.iterdir()} <= {"data", "data-source"}


def test_a_large_body_lies_beside_its_record(service: Running, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    make_bucket(service)
    log_into(service)
    with pytest.raises(ClientError):  # it is logged also where the model's window is too short for it
        converse(service, root_keys(service), ASKED + "x" * 150_000)
    (record,) = wait_for_log(service, capsys, 1)
    assert record["errorCode"] == "ValidationException"
    assert record["input"]["inputBodyS3Path"].startswith(f"s3://{LOGS}/AWSLogs/")
    assert ASKED in json.dumps(record["input"]["inputBodyJson"])
    assert places(service.data, ASKED) == []
    target = tmp_path / "export.jsonl"
    assert main(["logs", "export", "--data", str(service.data), str(target)]) == 0
    assert [json.loads(line) for line in target.read_text().splitlines()] == [record]
    assert target.stat().st_mode & 0o777 == 0o600


def test_without_text_who_called_is_logged_and_not_what_was_said(service: Running, capsys: pytest.CaptureFixture[str]):
    make_bucket(service)
    log_into(service, textDataDeliveryEnabled=False)
    converse(service, root_keys(service), ASKED)
    (record,) = wait_for_log(service, capsys, 1)
    assert record["output"] == {"outputContentType": "application/json", "outputTokenCount": len(ANSWER)}
    assert "inputBodyJson" not in record["input"]
    assert ASKED not in json.dumps(record)


def test_each_account_logs_for_itself(service: Running, capsys: pytest.CaptureFixture[str]):
    theirs = other_account(service)
    make_bucket(service)
    log_into(service)
    converse(service, theirs, "canary-theirs-1")
    converse(service, root_keys(service), ASKED)
    (record,) = wait_for_log(service, capsys, 1)
    assert record["accountId"] == service.account
    assert places(service.data, "canary-theirs-1") == []
    capsys.readouterr()
    assert main(["logs", "show", "--data", str(service.data), "--account", OTHER]) == 1
    assert main(["logs", "show", "--data", str(service.data), "--account", OTHER, "--bucket", LOGS]) == 1
    assert "has no bucket" in capsys.readouterr().err


def test_a_bucket_that_is_not_the_callers_is_refused_like_one_that_is_not_there(service: Running):
    theirs = other_account(service)
    make_bucket(service, "their-logs", OTHER)
    texts = []
    for bucket in ("their-logs", "no-such-bucket"):
        with refused("ValidationException", "Failed to validate permissions for bucket") as error:
            log_into(service, bucket=bucket)
        texts.append(str(error.value).replace(bucket, "BUCKET"))
    assert texts[0] == texts[1]
    log_into(service, theirs, "their-logs")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "names no destination"),
        (
            {"cloudWatchConfig": {"logGroupName": "g", "roleArn": "arn:aws:iam::111122223333:role/r"}},
            "CloudWatch Logs is not built",
        ),
        ({"s3Config": {"bucketName": "Not_A_Name"}}, "name for a bucket"),
        ({"s3Config": {"bucketName": LOGS, "keyPrefix": "x" * 1000}}, "1 to 1024 bytes"),
    ],
)
def test_what_cannot_be_configured_is_refused_and_changes_nothing(service: Running, config: dict[str, Any], text: str):
    make_bucket(service)
    control = client(service, "bedrock", root_keys(service))
    with refused("ValidationException", text):
        control.put_model_invocation_logging_configuration(loggingConfig=config)
    assert "loggingConfig" not in control.get_model_invocation_logging_configuration()


def test_who_may_not_change_the_configuration_does_not(service: Running):
    make_bucket(service)
    with opened(service.data) as trust:
        reader = make_user(trust, service.account, "reader", allow("bedrock:Get*"))
    control = client(service, "bedrock", reader)
    control.get_model_invocation_logging_configuration()
    assert control.get_account_data_retention()["mode"] == "inherit"
    for attempt in (
        lambda: log_into(service, reader),
        control.delete_model_invocation_logging_configuration,
        lambda: control.put_account_data_retention(mode="default"),
    ):
        with refused("AccessDeniedException"):
            attempt()


def test_denied_calls_are_not_invocations(service: Running, capsys: pytest.CaptureFixture[str]):
    make_bucket(service)
    log_into(service)
    with opened(service.data) as trust:
        nobody = make_user(trust, service.account, "nobody")
    with refused("AccessDeniedException"):
        converse(service, nobody, ASKED)
    converse(service, root_keys(service), "allowed")
    (record,) = wait_for_log(service, capsys, 1)
    assert ASKED not in json.dumps(record)


def test_a_disabled_key_stops_the_log_and_not_the_answers(service: Running, capsys: pytest.CaptureFixture[str]):
    keys = root_keys(service)
    kms = client(service, "kms", keys)
    key = kms.create_key()["KeyMetadata"]["Arn"]
    make_bucket(service, key_id=key)
    log_into(service)
    converse(service, keys, "first")
    wait_for_log(service, capsys, 1)
    kms.disable_key(KeyId=key)
    for _ in range(3):
        converse(service, keys, ASKED)
    (stopped,) = audited(service, "InvocationLogStopped")
    assert stopped["additionalEventData"]["bucketName"] == LOGS
    assert main(["logs", "show", "--data", str(service.data)]) == 1
    with refused("ValidationException", "KMS key cannot be used"):
        log_into(service)
    kms.enable_key(KeyId=key)
    records = wait_for_log(service, capsys, 4)
    assert sum(ASKED in json.dumps(record) for record in records) == 3
    assert len(audited(service, "InvocationLogResumed")) == 1
    assert places(service.data, ASKED) == []


def test_a_stream_that_breaks_and_one_that_is_left_are_logged_as_far_as_they_went(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with serving(tmp_path / "data", fail_after=3) as service:
        make_bucket(service)
        log_into(service)
        with pytest.raises(EventStreamError):
            converse_stream(service, root_keys(service), ASKED)
        (broken,) = wait_for_log(service, capsys, 1)
        assert broken["errorCode"] == "InternalServerException"
        assert ANSWERED in json.dumps(broken["output"]["outputBodyJson"])
    with serving(tmp_path / "data", hang_after=3) as service:
        runtime = client(service, "bedrock-runtime", Keys(service.access_key_id, service.secret_access_key))
        stream = runtime.converse_stream(modelId=TINY_MODEL_ID, messages=conversation(ASKED))["stream"]
        for event in stream:
            if ANSWERED in json.dumps(event):
                break
        stream.close()
        left = next(one for one in wait_for_log(service, capsys, 2) if one["requestId"] != broken["requestId"])
        assert ANSWERED in json.dumps(left["output"]["outputBodyJson"])
        assert "outputTokenCount" not in left["output"]


def test_records_that_wait_are_written_when_the_service_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(assemble, "Delivery", partial(Delivery, limits=DeliveryLimits(every_s=3600)))
    with serving(tmp_path / "data") as service:
        make_bucket(service)
        log_into(service)
        converse(service, root_keys(service), ASKED)
        assert log_of(service, capsys) == []
    (record,) = log_of(service, capsys)
    assert ASKED in json.dumps(record)


# --- data retention ---------------------------------------------------------------------------------------------------


def test_modes_are_set_and_told_and_those_that_share_are_refused(service: Running):
    control = client(service, "bedrock", root_keys(service))
    first = control.get_account_data_retention()
    assert first["mode"] == "inherit"
    assert "updatedAt" not in first
    for mode in ("none", "default", "inherit"):
        made = set_mode(service, mode)
        told = control.get_account_data_retention()
        assert made["mode"] == told["mode"] == mode
        assert made["updatedAt"] == told["updatedAt"]
    for mode in ("provider_data_share", "aws_review"):
        with refused("ValidationException", "nobody is here to share data with"):
            set_mode(service, mode)
    with refused("ValidationException"):
        set_mode(service, "forever")
    assert control.get_account_data_retention()["mode"] == "inherit"


def test_under_none_nothing_of_any_way_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = tmp_path / "data"
    with serving(data) as service:
        keys = root_keys(service)
        make_bucket(service)
        log_into(service)
        set_mode(service, "none")
        with refused("ValidationException", "data retention mode of this account is none"):
            log_into(service)
        for ask in WAYS.values():
            ask(service, keys, ASKED)
        time.sleep(0.3)
        assert log_of(service, capsys) == []
        assert scopes_of(service) == {b""}
        set_mode(service, "inherit")
        converse(service, keys, "canary-after")
        (record,) = wait_for_log(service, capsys, 1)
        assert "canary-after" in json.dumps(record)
        assert {len(scope) for scope in scopes_of(service)} == {0, 32}
        assert ASKED not in json.dumps(record)
    for canary in (ASKED, ANSWERED, "canary-after"):
        assert places(data, canary) == []


def scopes_of(service: Running) -> set[bytes]:
    """The prefix-cache scopes that engines were given so far."""
    return {scope for engine in service.engines if isinstance(engine, Watched) for scope in engine.scopes}


def test_what_waits_when_none_is_set_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(assemble, "Delivery", partial(Delivery, limits=DeliveryLimits(every_s=3600)))
    with serving(tmp_path / "data") as service:
        make_bucket(service)
        log_into(service)
        converse(service, root_keys(service), ASKED)
        set_mode(service, "none")
        set_mode(service, "default")
    assert log_of(service, capsys) == []


def test_one_accounts_mode_is_not_anothers(service: Running, capsys: pytest.CaptureFixture[str]):
    theirs = other_account(service)
    make_bucket(service)
    log_into(service)
    set_mode(service, "none", theirs)
    converse(service, root_keys(service), ASKED)
    assert len(wait_for_log(service, capsys, 1)) == 1
    assert client(service, "bedrock", root_keys(service)).get_account_data_retention()["mode"] == "inherit"
