"""boto3, unmodified, against a running service: every operation that is built, and how the others refuse.

Not covered: Python older than 3.11, asynchronous wrappers of boto3, and retries (each call here is tried once).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_bedrock_token_generator import provide_token
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from outcrop.base.clock import FakeClock, SystemClock
from outcrop.inference.null import NullEngine
from outcrop.models.registry import ModelRegistry
from outcrop.service.wire.eventstream import decode_frame
from serving import TINY_MODEL_ID, Running, running_service

QUESTION = [{"role": "user", "content": [{"text": "hi"}]}]
ONCE = Config(retries={"total_max_attempts": 1})
RUNTIME = "bedrock-runtime"
SECOND_MODEL_ID = "local.second-v1:0"


def client(service: Running, name: str = RUNTIME, **changes: Any) -> Any:
    settings = {
        "endpoint_url": service.http_url,
        "region_name": service.region,
        "aws_access_key_id": service.access_key_id,
        "aws_secret_access_key": service.secret_access_key,
        "config": ONCE,
    }
    return boto3.client(name, **{**settings, **changes})


@pytest.fixture(scope="module")
def runtime(service: Running) -> Any:
    return client(service)


@pytest.fixture(scope="module")
def control(service: Running) -> Any:
    return client(service, "bedrock")


def error_of(raised: pytest.ExceptionInfo[ClientError]) -> tuple[int, str, str]:
    response = raised.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


def profile_of(service: Running) -> str:
    return f"us.{TINY_MODEL_ID}"


def profile_arn_of(service: Running) -> str:
    return f"arn:aws:bedrock:{service.region}:{service.account}:inference-profile/{profile_of(service)}"


def model_arn_of(service: Running) -> str:
    return f"arn:aws:bedrock:{service.region}::foundation-model/{TINY_MODEL_ID}"


# --- Converse ---------------------------------------------------------------------------------------------------------


def test_converse_answers_with_text_stop_reason_usage_and_metrics(runtime: Any) -> None:
    reply = runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION)
    assert reply["output"] == {"message": {"role": "assistant", "content": [{"text": "Hello, world!"}]}}
    assert reply["stopReason"] == "end_turn"
    assert reply["usage"] == {"inputTokens": 5, "outputTokens": 4, "totalTokens": 9}
    assert reply["metrics"]["latencyMs"] >= 0
    assert reply["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize("name", [lambda s: TINY_MODEL_ID, model_arn_of, profile_of, profile_arn_of])
def test_a_model_is_named_by_id_or_arn_or_by_its_inference_profile(service: Running, runtime: Any, name: Any) -> None:
    reply = runtime.converse(modelId=name(service), messages=QUESTION)
    assert reply["stopReason"] == "end_turn"


def test_system_prompts_and_several_turns_reach_the_model(runtime: Any) -> None:
    messages = [
        *QUESTION,
        {"role": "assistant", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "user", "content": [{"text": "grüße 你"}]},
    ]
    reply = runtime.converse(modelId=TINY_MODEL_ID, messages=messages, system=[{"text": "be"}, {"text": "kind"}])
    texts = ["be\nkind", "hi", "a\nb", "grüße 你"]
    assert reply["usage"]["inputTokens"] == sum(len(text.encode()) + 2 for text in texts) + 1


def test_empty_system_and_inference_config_are_accepted_and_the_whole_of_it_too(runtime: Any) -> None:
    runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, system=[], inferenceConfig={})
    config = {"maxTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["zzz"]}
    reply = runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, inferenceConfig=config)
    assert reply["stopReason"] == "end_turn"


def test_the_token_limit_and_stop_sequences_end_an_answer(runtime: Any) -> None:
    short = runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, inferenceConfig={"maxTokens": 2})
    assert (short["stopReason"], short["output"]["message"]["content"]) == ("max_tokens", [{"text": "Hello, "}])
    stopped = runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, inferenceConfig={"stopSequences": ["wor"]})
    assert (stopped["stopReason"], stopped["output"]["message"]["content"]) == (
        "stop_sequence",
        [{"text": "Hello, "}],
    )


def test_response_field_paths_select_from_the_models_own_reply(runtime: Any) -> None:
    reply = runtime.converse(
        modelId=TINY_MODEL_ID,
        messages=QUESTION,
        inferenceConfig={"stopSequences": ["wor"]},
        additionalModelResponseFieldPaths=["/stop_sequence", "/delta/stop_sequence", "/nowhere"],
    )
    assert reply["additionalModelResponseFields"] == {"stop_sequence": "wor", "delta": {"stop_sequence": "wor"}}


def test_a_response_field_path_that_is_no_pointer_is_refused(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ValidationException, match="JSON Pointer"):
        runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, additionalModelResponseFieldPaths=["stop"])


def test_additional_request_fields_are_those_that_the_model_knows(runtime: Any) -> None:
    fields = {"top_k": 5, "seed": 1}
    runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, additionalModelRequestFields=fields)
    with pytest.raises(runtime.exceptions.ValidationException) as raised:
        runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, additionalModelRequestFields={"nonsense": 1})
    assert error_of(raised)[2] == (
        "The model returned the following errors: Malformed input request: #: extraneous key [nonsense] is not "
        "permitted, please reformat your input and try again."
    )


def test_content_that_a_text_model_cannot_take_is_refused_by_its_kind(runtime: Any) -> None:
    blocks = {
        "image": {"format": "png", "source": {"bytes": b"\x89PNG"}},
        "document": {"format": "txt", "name": "d", "source": {"bytes": b"text"}},
        "video": {"format": "mp4", "source": {"bytes": b"video"}},
        "toolUse": {"toolUseId": "t", "name": "f", "input": {}},
        "toolResult": {"toolUseId": "t", "content": [{"text": "x"}]},
        "guardContent": {"text": {"text": "x"}},
        "cachePoint": {"type": "default"},
    }
    for kind, block in blocks.items():
        with pytest.raises(runtime.exceptions.ValidationException) as raised:
            runtime.converse(modelId=TINY_MODEL_ID, messages=[{"role": "user", "content": [{kind: block}]}])
        assert error_of(raised) == (
            400,
            "ValidationException",
            f"This model doesn't support the {kind} content block that you provided. "
            "Update the content block and try again.",
        )


TOOL = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}


@pytest.mark.parametrize(
    "asked",
    [
        {"toolConfig": {"tools": [TOOL]}},
        {"guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1"}},
        {"promptVariables": {"x": {"text": "y"}}},
        {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}"}}}}},
        {"performanceConfig": {"latency": "optimized"}},
        {"serviceTier": {"type": "priority"}},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_what_is_asked_for_and_would_not_be_done_is_refused(runtime: Any, asked: dict[str, Any]) -> None:
    for operation in (runtime.converse, runtime.converse_stream):
        with pytest.raises(runtime.exceptions.ValidationException):
            operation(modelId=TINY_MODEL_ID, messages=QUESTION, **asked)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "assistant", "content": [{"text": "a"}]}],
        [*QUESTION, *QUESTION],
        [*QUESTION, {"role": "assistant", "content": [{"text": "a"}]}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"text": " "}]}],
    ],
    ids=["none", "assistant-first", "no-alternation", "prefill", "no-content", "blank"],
)
def test_conversations_that_no_model_takes_are_refused(runtime: Any, messages: list[Any]) -> None:
    with pytest.raises(runtime.exceptions.ValidationException):
        runtime.converse(modelId=TINY_MODEL_ID, messages=messages)


def test_broken_constraints_are_told_as_aws_tells_them(service: Running) -> None:
    lax = client(service, config=ONCE.merge(Config(parameter_validation=False)))
    with pytest.raises(lax.exceptions.ValidationException) as raised:
        lax.converse(modelId=TINY_MODEL_ID, messages=QUESTION, inferenceConfig={"temperature": 1.5})
    assert error_of(raised)[2] == (
        "1 validation error detected: Value at 'inferenceConfig.temperature' failed to satisfy constraint: "
        "Member must have value less than or equal to 1"
    )


@pytest.mark.parametrize(
    "name", ["local.unknown-v1:0", "eu.local.tiny-v1:0", "arn:aws:bedrock:eu-west-1::foundation-model/local.tiny-v1:0"]
)
def test_unknown_models_are_refused_in_the_recorded_words(runtime: Any, name: str) -> None:
    with pytest.raises(runtime.exceptions.ValidationException, match=r"^.*The provided model identifier is invalid\.$"):
        runtime.converse(modelId=name, messages=QUESTION)


# --- ConverseStream ---------------------------------------------------------------------------------------------------


def test_converse_stream_has_the_real_services_event_order(runtime: Any) -> None:
    reply = runtime.converse_stream(modelId=TINY_MODEL_ID, messages=QUESTION)
    events = list(reply["stream"])
    assert [next(iter(event)) for event in events] == [
        "messageStart",
        *["contentBlockDelta"] * 4,
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    assert events[0] == {"messageStart": {"role": "assistant"}}
    deltas = [event["contentBlockDelta"] for event in events[1:5]]
    assert [delta["delta"]["text"] for delta in deltas] == ["Hello", ", ", "world", "!"]
    assert {delta["contentBlockIndex"] for delta in deltas} == {0}
    assert events[-2] == {"messageStop": {"stopReason": "end_turn"}}
    metadata = events[-1]["metadata"]
    assert metadata["usage"] == {"inputTokens": 5, "outputTokens": 4, "totalTokens": 9}
    assert metadata["metrics"]["latencyMs"] >= 0


def raw_frames(stream: Any) -> list[tuple[dict[str, str], Any]]:
    data, frames = stream._raw_stream.read(), []
    while data:
        frame, length = decode_frame(data)
        frames.append((frame.headers, json.loads(frame.payload)))
        data = data[length:]
    return frames


def test_every_event_carries_filler_and_the_recorded_header_order(runtime: Any) -> None:
    frames = raw_frames(runtime.converse_stream(modelId=TINY_MODEL_ID, messages=QUESTION)["stream"])
    assert len(frames) == 8
    for headers, payload in frames:
        assert list(headers) == [":event-type", ":content-type", ":message-type"]
        assert 2 <= len(payload["p"]) <= 62
    many = [
        len(payload["p"])
        for _ in range(4)
        for _, payload in raw_frames(runtime.converse_stream(modelId=TINY_MODEL_ID, messages=QUESTION)["stream"])
    ]
    assert len(set(many)) > 3


def test_converse_stream_tells_response_fields_with_the_end_of_the_message(runtime: Any) -> None:
    reply = runtime.converse_stream(
        modelId=TINY_MODEL_ID,
        messages=QUESTION,
        inferenceConfig={"stopSequences": ["world"]},
        additionalModelResponseFieldPaths=["/delta/stop_sequence"],
    )
    (stop,) = [event["messageStop"] for event in reply["stream"] if "messageStop" in event]
    assert stop == {
        "stopReason": "stop_sequence",
        "additionalModelResponseFields": {"delta": {"stop_sequence": "world"}},
    }


def test_a_failure_after_the_first_token_ends_the_stream_with_a_typed_exception(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", lambda loaded: NullEngine(fail_after=2)) as service:
        stream = client(service).converse_stream(modelId=TINY_MODEL_ID, messages=QUESTION)["stream"]
        received: list[Any] = []
        with pytest.raises(EventStreamError, match="internalServerException"):
            received.extend(event for event in stream)
        reply = client(service).invoke_model_with_response_stream(modelId=TINY_MODEL_ID, body=messages_body())
        with pytest.raises(EventStreamError, match="internalServerException"):
            list(reply["body"])


# --- InvokeModel ------------------------------------------------------------------------------------------------------

ANTHROPIC_VERSIONS = ["bedrock-2023-05-31", "2023-06-01", "2023-01-01", "2026-10-21"]


def messages_body(**changes: Any) -> str:
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "hi"}],
    }
    return json.dumps({**body, **changes})


@pytest.mark.parametrize("version", ANTHROPIC_VERSIONS)
def test_invoke_model_takes_a_messages_body_of_each_version(runtime: Any, version: str) -> None:
    reply = runtime.invoke_model(modelId=TINY_MODEL_ID, body=messages_body(anthropic_version=version))
    assert reply["contentType"] == "application/json"
    document = json.loads(reply["body"].read())
    assert document["content"] == [{"type": "text", "text": "Hello, world!"}]
    assert document["usage"] == {"input_tokens": 5, "output_tokens": 4}
    assert (document["role"], document["stop_reason"], document["stop_sequence"]) == ("assistant", "end_turn", None)
    headers = reply["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-input-token-count"] == "5"
    assert headers["x-amzn-bedrock-output-token-count"] == "4"
    assert headers["x-amzn-bedrock-invocation-latency"].isdigit()
    assert headers["x-amzn-bedrock-cache-read-input-token-count"] == "0"
    assert headers["x-amzn-bedrock-cache-write-input-token-count"] == "0"


def test_other_versions_are_refused(runtime: Any) -> None:
    for version in ("2022-01-01", "bedrock-2030-01-01", ""):
        with pytest.raises(runtime.exceptions.ValidationException, match="anthropic_version"):
            runtime.invoke_model(modelId=TINY_MODEL_ID, body=messages_body(anthropic_version=version))


def test_invoke_model_takes_all_sampling_members_and_beta_headers_in_the_body(runtime: Any) -> None:
    body = messages_body(
        system=[{"type": "text", "text": "be kind"}],
        temperature=0.1,
        top_p=0.9,
        top_k=3,
        stop_sequences=[","],
        anthropic_beta=["x-2026"],
        metadata={"user_id": "u"},
    )
    reply = runtime.invoke_model(
        modelId=TINY_MODEL_ID, body=body, contentType="application/json", accept="application/json"
    )
    document = json.loads(reply["body"].read())
    assert (document["stop_reason"], document["stop_sequence"]) == ("stop_sequence", ",")


def test_unknown_and_missing_members_of_the_body_are_refused_in_the_recorded_words(runtime: Any) -> None:
    for body, detail in (
        (messages_body(nonsense=1), "#: extraneous key [nonsense] is not permitted"),
        (json.dumps({"anthropic_version": "2023-06-01"}), "#: required key [messages] not found"),
        ("not json", ""),
        ("[]", ""),
    ):
        with pytest.raises(runtime.exceptions.ValidationException) as raised:
            runtime.invoke_model(modelId=TINY_MODEL_ID, body=body)
        text = error_of(raised)[2]
        assert text.startswith("The model returned the following errors: Malformed input request: ")
        assert text.endswith(", please reformat your input and try again.")
        assert detail in text


def test_invoke_model_streams_messages_events_in_chunks(runtime: Any) -> None:
    reply = runtime.invoke_model_with_response_stream(modelId=TINY_MODEL_ID, body=messages_body())
    assert reply["contentType"] == "application/json"
    documents = [json.loads(event["chunk"]["bytes"]) for event in reply["body"]]
    assert [document["type"] for document in documents] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert documents[0]["message"]["usage"]["input_tokens"] == 5
    assert "".join(d["delta"]["text"] for d in documents[2:6]) == "Hello, world!"
    metrics = documents[-1]["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (5, 4)
    assert metrics["invocationLatency"] >= metrics["firstByteLatency"] >= 0
    frames = raw_frames(runtime.invoke_model_with_response_stream(modelId=TINY_MODEL_ID, body=messages_body())["body"])
    assert all(set(payload) == {"bytes", "p"} for _, payload in frames)


def test_invoke_model_refuses_guardrails_tools_and_images(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ValidationException, match="Guardrails"):
        runtime.invoke_model(
            modelId=TINY_MODEL_ID, body=messages_body(), guardrailIdentifier="abc", guardrailVersion="1"
        )
    with pytest.raises(runtime.exceptions.ValidationException, match="tool"):
        runtime.invoke_model(modelId=TINY_MODEL_ID, body=messages_body(tools=[{"name": "f", "input_schema": {}}]))
    image = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]
    body = messages_body(messages=[{"role": "user", "content": image}])
    with pytest.raises(runtime.exceptions.ValidationException, match="doesn't support the image content block"):
        runtime.invoke_model(modelId=TINY_MODEL_ID, body=body)


# --- CountTokens ------------------------------------------------------------------------------------------------------


def test_count_tokens_agrees_in_both_forms_with_what_converse_uses(runtime: Any) -> None:
    converse = {"converse": {"messages": QUESTION, "system": [{"text": "be kind"}]}}
    invoke = {"invokeModel": {"body": messages_body(system="be kind").encode()}}
    counts = [runtime.count_tokens(modelId=TINY_MODEL_ID, input=form)["inputTokens"] for form in (converse, invoke)]
    used = runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, system=[{"text": "be kind"}])["usage"]
    assert counts == [used["inputTokens"]] * 2


def test_count_tokens_refuses_what_the_model_could_not_be_asked(runtime: Any) -> None:
    converse = {"messages": QUESTION, "toolConfig": {"tools": [TOOL]}}
    with pytest.raises(runtime.exceptions.ValidationException, match="tool"):
        runtime.count_tokens(modelId=TINY_MODEL_ID, input={"converse": converse})


# --- bedrock and sts --------------------------------------------------------------------------------------------------


def test_models_are_listed_and_shown(service: Running, control: Any) -> None:
    rows = {row["modelId"]: row for row in control.list_foundation_models()["modelSummaries"]}
    row = rows[TINY_MODEL_ID]
    assert row["modelArn"] == model_arn_of(service)
    assert row["inputModalities"] == row["outputModalities"] == ["TEXT"]
    assert row["responseStreamingSupported"] is True
    assert row["modelLifecycle"]["status"] == "ACTIVE"
    for name in (TINY_MODEL_ID, model_arn_of(service)):
        assert control.get_foundation_model(modelIdentifier=name)["modelDetails"] == row
    assert control.list_foundation_models(byProvider="nobody")["modelSummaries"] == []
    assert control.list_foundation_models(byOutputModality="IMAGE")["modelSummaries"] == []
    with pytest.raises(control.exceptions.ValidationException, match="model identifier is invalid"):
        control.get_foundation_model(modelIdentifier="local.unknown-v1:0")


@pytest.fixture(scope="module")
def second_model(service: Running) -> Iterator[str]:
    registry = ModelRegistry(service.data / "models")
    registry.import_directory(service.data.with_name(f"{service.data.name}-source") / "tiny", SECOND_MODEL_ID)
    yield SECOND_MODEL_ID
    registry.remove(SECOND_MODEL_ID)


def test_inference_profiles_are_listed_page_by_page_and_shown(
    service: Running, control: Any, second_model: str
) -> None:
    whole = control.list_inference_profiles()["inferenceProfileSummaries"]
    ids = [profile["inferenceProfileId"] for profile in whole]
    assert {profile_of(service), f"us.{second_model}"} <= set(ids)
    paginator = control.get_paginator("list_inference_profiles")
    pages = list(paginator.paginate(PaginationConfig={"PageSize": 1}))
    assert [p["inferenceProfileId"] for page in pages for p in page["inferenceProfileSummaries"]] == ids
    assert len(pages) == len(ids)
    for name in (profile_of(service), profile_arn_of(service)):
        profile = control.get_inference_profile(inferenceProfileIdentifier=name)
        assert profile["inferenceProfileArn"] == profile_arn_of(service)
        assert profile["models"] == [{"modelArn": model_arn_of(service)}]
        assert (profile["type"], profile["status"]) == ("SYSTEM_DEFINED", "ACTIVE")
    assert control.list_inference_profiles(typeEquals="APPLICATION")["inferenceProfileSummaries"] == []
    with pytest.raises(control.exceptions.ResourceNotFoundException):
        control.get_inference_profile(inferenceProfileIdentifier="us.unknown")


def test_sts_says_who_signed(service: Running) -> None:
    who = client(service, "sts").get_caller_identity()
    assert who["Account"] == who["UserId"] == service.account
    assert who["Arn"] == f"arn:aws:iam::{service.account}:root"


# --- sagemaker-runtime ------------------------------------------------------------------------------------------------

ENDPOINT = "local-tiny-v1-0"


def test_invoke_endpoint_takes_plain_inputs_and_chat_bodies(service: Running) -> None:
    sagemaker = client(service, "sagemaker-runtime")
    plain = {"inputs": "Say", "parameters": {"max_new_tokens": 9, "temperature": 0.2, "stop": ["!"]}}
    reply = sagemaker.invoke_endpoint(
        EndpointName=ENDPOINT, Body=json.dumps(plain), ContentType="application/json", CustomAttributes="c=1"
    )
    assert json.loads(reply["Body"].read()) == {"generated_text": "Hello, world"}
    assert (reply["InvokedProductionVariant"], reply["CustomAttributes"]) == ("AllTraffic", "c=1")
    full = {"inputs": "Say", "parameters": {"return_full_text": True}}
    reply = sagemaker.invoke_endpoint(EndpointName=ENDPOINT, Body=json.dumps(full))
    assert json.loads(reply["Body"].read()) == {"generated_text": "SayHello, world!"}
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    reply = sagemaker.invoke_endpoint(EndpointName=ENDPOINT, Body=json.dumps(chat))
    document = json.loads(reply["Body"].read())
    assert document["choices"][0]["message"]["content"] == "Hello, world!"


def test_invoke_endpoint_streams_json_lines_or_server_sent_events(service: Running) -> None:
    sagemaker = client(service, "sagemaker-runtime")
    reply = sagemaker.invoke_endpoint_with_response_stream(EndpointName=ENDPOINT, Body=json.dumps({"inputs": "Say"}))
    lines = b"".join(event["PayloadPart"]["Bytes"] for event in reply["Body"]).splitlines()
    documents = [json.loads(line) for line in lines]
    assert [d["token"]["text"] for d in documents] == ["Hello", ", ", "world", "!", ""]
    assert documents[-1]["generated_text"] == "Hello, world!"
    chat = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    reply = sagemaker.invoke_endpoint_with_response_stream(EndpointName=ENDPOINT, Body=json.dumps(chat))
    events = b"".join(event["PayloadPart"]["Bytes"] for event in reply["Body"]).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]


def test_invoke_endpoint_fails_with_its_own_types(service: Running) -> None:
    sagemaker = client(service, "sagemaker-runtime")
    with pytest.raises(sagemaker.exceptions.ValidationError, match="not found"):
        sagemaker.invoke_endpoint(EndpointName="unknown", Body=b"{}")
    for body, told in (
        (b"{}", "member 'inputs' is required"),
        (b'{"inputs":"a","parameters":{"details":true}}', "parameters: unknown member 'details'"),
        (b'{"inputs":1}', "inputs: Expected `str`, got `int`"),
    ):
        with pytest.raises(sagemaker.exceptions.ModelError, match=f'client error .* with message "{told}"'):
            sagemaker.invoke_endpoint(EndpointName=ENDPOINT, Body=body)


# --- what was asked for, told back ------------------------------------------------------------------------------------

LATENCY, TIER = {"latency": "standard"}, {"type": "default"}


def test_converse_tells_the_performance_and_tier_that_were_asked_for(runtime: Any) -> None:
    asked = {"performanceConfig": LATENCY, "serviceTier": TIER}
    reply = runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION, **asked)
    assert {name: reply[name] for name in asked} == asked
    events = list(runtime.converse_stream(modelId=TINY_MODEL_ID, messages=QUESTION, **asked)["stream"])
    assert {name: events[-1]["metadata"][name] for name in asked} == asked
    assert not set(asked) & set(runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION))


def test_invoke_model_tells_them_in_headers(runtime: Any) -> None:
    ask = {"modelId": TINY_MODEL_ID, "body": messages_body()}
    asked = {"performanceConfigLatency": "standard", "serviceTier": "default"}
    for operation in (runtime.invoke_model, runtime.invoke_model_with_response_stream):
        reply = operation(**ask, **asked)
        assert {name: reply[name] for name in asked} == asked
        reply["body"].close()
        assert not set(asked) & set(operation(**ask))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_operations_that_are_not_built_say_so_by_name(service: Running, runtime: Any, control: Any) -> None:
    agent, agent_runtime = client(service, "bedrock-agent"), client(service, "bedrock-agent-runtime")
    content = [{"text": {"text": "x"}}]
    calls = {
        "ApplyGuardrail": lambda: runtime.apply_guardrail(
            guardrailIdentifier="abc", guardrailVersion="1", source="INPUT", content=content
        ),
        "ListGuardrails": control.list_guardrails,
        "ListKnowledgeBases": agent.list_knowledge_bases,
        "Retrieve": lambda: agent_runtime.retrieve(knowledgeBaseId="ABCDEFGHIJ", retrievalQuery={"text": "x"}),
        "GetFederationToken": lambda: client(service, "sts").get_federation_token(Name="someone"),
    }
    for name, call in calls.items():
        with pytest.raises(ClientError) as raised:
            call()
        status, code, text = error_of(raised)
        assert (status, code.removesuffix("Exception")) == (501, "NotImplemented")
        assert name in text


def test_a_wrong_secret_and_an_unknown_key_are_refused(service: Running) -> None:
    for changes, code in (
        ({"aws_secret_access_key": "x" * 40}, "InvalidSignatureException"),
        ({"aws_access_key_id": "AKIAQQQQQQQQQQQQQQQQ"}, "UnrecognizedClientException"),
        ({"region_name": "eu-central-1"}, "InvalidSignatureException"),
    ):
        with pytest.raises(ClientError) as raised:
            client(service, **changes).converse(modelId=TINY_MODEL_ID, messages=QUESTION)
        assert error_of(raised)[:2] == (403, code)
    with pytest.raises(ClientError) as raised:
        client(service, "sts", aws_secret_access_key="x" * 40).get_caller_identity()
    assert error_of(raised)[:2] == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_request_that_is_minutes_off_the_services_clock_is_refused(tmp_path: Path, minutes: int) -> None:
    clock = FakeClock(SystemClock().now() + timedelta(minutes=minutes))
    with running_service(tmp_path / "data", clock=clock) as service:
        runtime = client(service)
        with pytest.raises(ClientError) as raised:
            runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION)
        assert error_of(raised)[:2] == (403, "InvalidSignatureException")
        clock.set(SystemClock().now())
        assert runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION)["stopReason"] == "end_turn"


# --- TLS and API keys -------------------------------------------------------------------------------------------------


def test_https_with_the_private_ca(service: Running) -> None:
    secure = client(service, endpoint_url=service.https_url, verify=str(service.ca_certificate))
    assert secure.converse(modelId=TINY_MODEL_ID, messages=QUESTION)["stopReason"] == "end_turn"
    stream = secure.converse_stream(modelId=TINY_MODEL_ID, messages=QUESTION)["stream"]
    assert len(list(stream)) == 8


@pytest.fixture
def bearer(service: Running, monkeypatch: pytest.MonkeyPatch) -> str:
    """``AWS_BEARER_TOKEN_BEDROCK`` with a key made by AWS's own generator, and no other credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", service.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", service.secret_access_key)
    token = provide_token(region=service.region)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", token)
    return token


def keyless(service: Running, name: str) -> Any:
    return boto3.client(
        name,
        endpoint_url=service.https_url,
        region_name=service.region,
        verify=str(service.ca_certificate),
        config=ONCE,
    )


def test_a_generated_api_key_opens_runtime_and_control_plane_over_https(service: Running, bearer: str) -> None:
    runtime = keyless(service, RUNTIME)
    assert runtime.converse(modelId=TINY_MODEL_ID, messages=QUESTION)["stopReason"] == "end_turn"
    assert len(list(runtime.converse_stream(modelId=TINY_MODEL_ID, messages=QUESTION)["stream"])) == 8
    assert keyless(service, "bedrock").list_foundation_models()["modelSummaries"]


def test_a_damaged_api_key_is_refused(service: Running, bearer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for token, text in (
        (bearer[:-9] + "AAAAAAAA=", "API Key"),
        ("sk-not-of-this-kind", "Must start with pre-defined prefix"),
    ):
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", token)
        with pytest.raises(ClientError, match=text) as raised:
            keyless(service, RUNTIME).converse(modelId=TINY_MODEL_ID, messages=QUESTION)
        assert error_of(raised)[0] == 403
