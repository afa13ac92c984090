"""The Anthropic SDK, unmodified: its Bedrock, Mantle and plain clients, synchronous and asynchronous.

Not covered: its Vertex and Foundry clients, batches and files.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import anthropic
import pytest

from outcrop.inference.base import EngineConfig
from outcrop.service.hosting import paged_engines
from serving import TINY_MODEL_ID, Running, running_service
from signing import api_key, exchange, message, signed_headers

ASK: dict[str, Any] = {
    "model": TINY_MODEL_ID,
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "hi"}],
}


def bedrock_settings(service: Running, **changes: Any) -> dict[str, Any]:
    settings = {
        "base_url": service.http_url,
        "aws_region": service.region,
        "aws_access_key": service.access_key_id,
        "aws_secret_key": service.secret_access_key,
        "max_retries": 0,
    }
    return {**settings, **changes}


def bedrock(service: Running, **changes: Any) -> anthropic.AnthropicBedrock:
    return anthropic.AnthropicBedrock(**bedrock_settings(service, **changes))


def plain(service: Running, **changes: Any) -> anthropic.Anthropic:
    settings = {"base_url": f"{service.http_url}/anthropic", "api_key": api_key(service), "max_retries": 0}
    return anthropic.Anthropic(**{**settings, **changes})


def mantle(service: Running, **changes: Any) -> anthropic.AnthropicBedrockMantle:
    return anthropic.AnthropicBedrockMantle(**bedrock_settings(service, **changes))


def check_message(message: anthropic.types.Message) -> None:
    assert [block.text for block in message.content if block.type == "text"] == ["Hello, world!"]
    assert (message.role, message.stop_reason, message.model) == ("assistant", "end_turn", TINY_MODEL_ID)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 4)


CLIENTS = pytest.mark.parametrize("make", [bedrock, plain], ids=["bedrock", "plain"])


@CLIENTS
def test_create(service: Running, make: Any) -> None:
    check_message(make(service).messages.create(**ASK))


@CLIENTS
def test_stream(service: Running, make: Any) -> None:
    with make(service).messages.stream(**ASK) as stream:
        assert list(stream.text_stream) == ["Hello", ", ", "world", "!"]
        check_message(stream.get_final_message())


@CLIENTS
def test_raw_stream_events_come_in_the_apis_order(service: Running, make: Any) -> None:
    events = [event.type for event in make(service).messages.create(**ASK, stream=True)]
    assert events == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@CLIENTS
def test_system_turns_sampling_and_stop_sequences(service: Running, make: Any) -> None:
    ask = {
        **ASK,
        "system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": [{"type": "text", "text": "你"}]},
        ],
        "extra_body": {"temperature": 0.5, "top_p": 0.9, "top_k": 4},  # this version's method no longer names them
        "stop_sequences": ["world"],
        "metadata": {"user_id": "u"},
    }
    message = make(service).messages.create(**ask)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "world")
    assert message.usage.input_tokens == sum(len(text.encode()) + 2 for text in ("be kind", "a", "b", "你")) + 1


@pytest.mark.parametrize("prefix", ["/anthropic", ""])
def test_the_mantle_client_signs_for_a_service_of_its_own(service: Running, prefix: str) -> None:
    client = mantle(service, base_url=service.http_url + prefix)
    check_message(client.messages.create(**ASK))
    with client.messages.stream(**ASK) as stream:
        check_message(stream.get_final_message())
    assert client.messages.count_tokens(model=TINY_MODEL_ID, messages=ASK["messages"]).input_tokens == 5
    with pytest.raises(anthropic.AuthenticationError):
        mantle(service, base_url=client.base_url, aws_secret_key="x" * 40).messages.create(**ASK)


def test_a_signature_for_mantle_is_good_for_its_paths_only(service: Running) -> None:
    path, body = f"/model/{TINY_MODEL_ID}/converse", b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}'
    headers = signed_headers(service, "POST", path, body, signing_name="bedrock-mantle")
    reply = exchange(service, message("POST", path, headers, body))
    assert reply.status == 403


@pytest.mark.parametrize("prefix", ["/anthropic", ""])
def test_the_plain_client_needs_the_base_url_only(service: Running, prefix: str) -> None:
    check_message(plain(service, base_url=service.http_url + prefix).messages.create(**ASK))
    with pytest.raises(anthropic.BadRequestError) as raised:
        plain(service, base_url=service.http_url + prefix).messages.create(**{**ASK, "max_tokens": 0})
    assert raised.value.body["error"]["type"] == "invalid_request_error"


@CLIENTS
def test_consecutive_messages_of_one_role_are_one_turn(service: Running, make: Any) -> None:
    parts = [{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}]
    whole = [{"role": "user", "content": "a\nb"}]
    counts = {make(service).messages.create(**{**ASK, "messages": m}).usage.input_tokens for m in (parts, whole)}
    assert counts == {len("a\nb") + 3}


@CLIENTS
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "messages.0: user messages must have non-empty content"),
        ([], "messages.0: user messages must have non-empty content"),
        (" ", "messages: text content blocks must contain non-whitespace text"),
        ([{"type": "text", "text": ""}], "messages: text content blocks must contain non-whitespace text"),
    ],
)
def test_messages_that_say_nothing_are_refused(service: Running, make: Any, content: Any, told: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=told):
        make(service).messages.create(**{**ASK, "messages": [{"role": "user", "content": content}]})


def test_asynchronous_clients(service: Running) -> None:
    async def run() -> None:
        asynchronous = anthropic.AsyncAnthropicBedrock(**bedrock_settings(service))
        direct = anthropic.AsyncAnthropic(
            base_url=f"{service.http_url}/anthropic", api_key=api_key(service), max_retries=0
        )
        for client in (asynchronous, direct):
            check_message(await client.messages.create(**ASK))
            async with client.messages.stream(**ASK) as stream:
                assert [text async for text in stream.text_stream] == ["Hello", ", ", "world", "!"]
            await client.close()

    asyncio.run(run())


def test_the_bedrock_client_over_tls(service: Running) -> None:
    trusting = anthropic.DefaultHttpxClient(verify=ssl.create_default_context(cafile=service.ca_certificate))
    with trusting:
        client = bedrock(service, base_url=service.https_url, http_client=trusting)
        check_message(client.messages.create(**ASK))
        with client.messages.stream(**ASK) as stream:
            check_message(stream.get_final_message())


def test_the_bedrock_client_with_an_api_key(service: Running) -> None:
    client = anthropic.AnthropicBedrock(
        base_url=service.http_url, aws_region=service.region, api_key=api_key(service), max_retries=0
    )
    check_message(client.messages.create(**ASK))


def test_count_tokens(service: Running) -> None:
    assert plain(service).messages.count_tokens(model=TINY_MODEL_ID, messages=ASK["messages"]).input_tokens == 5


def test_wrong_credentials_are_authentication_errors(service: Running) -> None:
    with pytest.raises(anthropic.AuthenticationError) as raised:
        plain(service, api_key="sk-ant-wrong").messages.create(**ASK)
    assert raised.value.body["error"]["type"] == "authentication_error"
    assert raised.value.request_id
    with pytest.raises(anthropic.PermissionDeniedError):  # Bedrock's own status for it
        bedrock(service, aws_secret_key="x" * 40).messages.create(**ASK)


@CLIENTS
@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"model": "local.unknown-v1:0"},
        {"extra_body": {"temperature": 2.0}},
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"extra_body": {"nonsense": 1}},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
    ],
    ids=["limit", "model", "range", "order", "tools", "thinking", "unknown", "image"],
)
def test_wrong_requests_are_bad_request_errors(service: Running, make: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(anthropic.BadRequestError):
        make(service).messages.create(**{**ASK, **wrong})


def test_a_bad_request_names_the_member(service: Running) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        plain(service).messages.create(**ASK, extra_body={"nonsense": 1})
    assert raised.value.body["error"] == {
        "type": "invalid_request_error",
        "message": "nonsense: Extra inputs are not permitted",
    }


@pytest.mark.parametrize(("make", "told"), [(bedrock, "Input is too long"), (plain, "prompt is too long")])
def test_a_prompt_beyond_the_window_is_told_in_the_surfaces_words(tmp_path: Path, make: Any, told: str) -> None:
    engines: Any = paged_engines(EngineConfig(kv_cache_bytes=2**20))
    with running_service(tmp_path / "data", engines) as service, pytest.raises(anthropic.BadRequestError, match=told):
        make(service).messages.create(**{**ASK, "messages": [{"role": "user", "content": "long " * 1000}]})


def test_a_path_that_is_not_there_is_a_not_found_error(service: Running) -> None:
    with pytest.raises(anthropic.NotFoundError):
        plain(service).messages.batches.list()
