"""The OpenAI SDK, unmodified, against a model that computes: chat completions, streamed or not, and the models.

Not covered: every other resource of the SDK; the Responses API.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
import torch

from outcrop.inference.base import EngineConfig
from outcrop.models.decoder import Decoder
from outcrop.models.hf_config import read_config
from outcrop.models.registry import ModelRegistry
from outcrop.models.weights import save_decoder
from outcrop.service.hosting import paged_engines
from serving import TINY_MODEL_ID, Running, running_service, write_tiny_model
from signing import api_key

ASK: dict[str, Any] = {
    "model": TINY_MODEL_ID,
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service over the computing engine: log-probabilities need one."""
    folder = tmp_path_factory.mktemp("service")
    source = write_tiny_model(folder / "untied")
    torch.manual_seed(1)
    # An untied head: the tied one of a random model says the prompt's last token for ever.
    save_decoder(Decoder(replace(read_config(source), tie_embeddings=False)), source)
    ModelRegistry(folder / "data" / "models").import_directory(source, TINY_MODEL_ID)
    engines: Any = paged_engines(EngineConfig(kv_cache_bytes=2**20))
    with running_service(folder / "data", engines) as running:
        yield running


def settings(service: Running, **changes: Any) -> dict[str, Any]:
    plain = {"base_url": f"{service.http_url}/openai/v1", "api_key": api_key(service), "max_retries": 0}
    return {**plain, **changes}


@pytest.fixture(scope="module")
def client(service: Running) -> openai.OpenAI:
    return openai.OpenAI(**settings(service))


def test_create(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(**ASK)
    (choice,) = reply.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (5, 8, 13)
    assert (reply.object, reply.model) == ("chat.completion", TINY_MODEL_ID)


def test_a_stream_is_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**ASK).choices[0].message.content
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_with_the_last_chunk_where_it_is_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 13
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_log_probabilities_whole_and_streamed(client: openai.OpenAI) -> None:
    ask = {**ASK, "logprobs": True, "top_logprobs": 3}
    whole = client.chat.completions.create(**ask).choices[0]
    assert whole.logprobs is not None
    tokens = whole.logprobs.content
    assert tokens is not None
    assert len(tokens) == 8
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(rival.logprob for rival in token.top_logprobs) <= 0
        assert token.bytes is not None
    assert b"".join(bytes(token.bytes or ()) for token in tokens).decode("utf-8", "replace") == whole.message.content
    chunks = list(client.chat.completions.create(**ask, stream=True))
    streamed = [t for chunk in chunks for t in (chunk.choices[0].logprobs and chunk.choices[0].logprobs.content) or ()]
    assert [token.token for token in streamed] == [token.token for token in tokens]
    assert all(
        math.isclose(one.logprob, other.logprob, abs_tol=1e-4) for one, other in zip(streamed, tokens, strict=True)
    )
    bare = client.chat.completions.create(**ASK, logprobs=True).choices[0].logprobs
    assert bare is not None
    assert bare.content is not None
    assert [token.top_logprobs for token in bare.content] == [[]] * 8


def test_the_newer_limit_and_stop_texts(client: openai.OpenAI) -> None:
    ask = {name: value for name, value in ASK.items() if name != "max_tokens"}
    reply = client.chat.completions.create(**ask, max_completion_tokens=3)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3
    whole = client.chat.completions.create(**ASK).choices[0].message.content
    assert whole
    for stop in (whole[1], [whole[1]]):
        stopped = client.chat.completions.create(**ASK, stop=stop).choices[0]
        assert (stopped.message.content, stopped.finish_reason) == (whole[: whole.index(whole[1])], "stop")


def test_a_seed_repeats_a_draw(client: openai.OpenAI) -> None:
    ask = {**ASK, "temperature": 1.5, "top_p": 0.99, "max_tokens": 16}
    texts = [client.chat.completions.create(**ask, seed=seed).choices[0].message.content for seed in (7, 7, 8, 2**80)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_system_developer_and_assistant_turns(client: openai.OpenAI) -> None:
    messages = [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"},
        {"role": "user", "content": [{"type": "text", "text": "c"}]},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e", "name": "me"},
    ]
    reply = client.chat.completions.create(**{**ASK, "messages": messages})
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 5 * 3 + 1


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert TINY_MODEL_ID in [model.id for model in client.models.list()]


def test_the_asynchronous_client(service: Running) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(**settings(service)) as client:
            reply = await client.chat.completions.create(**ASK)
            stream = await client.chat.completions.create(**ASK, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(pieces) == reply.choices[0].message.content

    asyncio.run(run())


def test_a_wrong_key_is_an_authentication_error(service: Running) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        openai.OpenAI(**settings(service, api_key="sk-wrong")).chat.completions.create(**ASK)
    assert raised.value.code == "invalid_api_key"
    assert raised.value.request_id


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": 3},
        {"n": 2},
        {"frequency_penalty": 1.0},
        {"logit_bias": {"5": 1}},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"top_logprobs": 2},
        {"stop": ""},
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": "x" * 600}]},
        {"extra_body": {"nonsense": 1}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_requests_are_bad_request_errors(client: openai.OpenAI, wrong: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{**ASK, **wrong})
    assert raised.value.type == "invalid_request_error"


def test_unknown_models_and_paths_are_not_found_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"local\.unknown"):
        client.chat.completions.create(**{**ASK, "model": "local.unknown-v1:0"})
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=TINY_MODEL_ID, input="x")


def test_an_answer_can_be_sent_back_as_the_sdk_gave_it(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(**ASK).choices[0].message
    assert said.content
    turns = [*ASK["messages"], said, {"role": "user", "content": "and then?"}]
    assert client.chat.completions.create(**{**ASK, "messages": turns}).choices[0].message.role == "assistant"
    turns[1] = said.model_dump()  # with every member that the SDK knows, as nulls
    assert client.chat.completions.create(**{**ASK, "messages": turns}).choices[0].message.role == "assistant"


def test_tool_calls_sent_back_are_refused(client: openai.OpenAI) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [*ASK["messages"], {"role": "assistant", "content": "", "tool_calls": [call]}, *ASK["messages"]]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{**ASK, "messages": turns})


def test_the_client_needs_the_base_url_only(service: Running) -> None:
    client = openai.OpenAI(**settings(service, base_url=f"{service.http_url}/v1"))
    assert client.chat.completions.create(**ASK).choices[0].finish_reason == "length"
    assert TINY_MODEL_ID in [model.id for model in client.models.list()]
    with pytest.raises(openai.BadRequestError, match="n"):
        client.chat.completions.create(**ASK, n=2)


def test_errors_carry_the_codes_that_clients_look_for(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(**{**ASK, "model": "local.unknown-v1:0"})
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(**{**ASK, "messages": [{"role": "user", "content": "long " * 1000}]})
    assert long.value.code == "context_length_exceeded"


def test_one_model_is_retrieved_by_name(service: Running, client: openai.OpenAI) -> None:
    assert client.models.retrieve(TINY_MODEL_ID).id == TINY_MODEL_ID
    arn = f"arn:aws:bedrock:{service.region}::foundation-model/{TINY_MODEL_ID}"
    assert client.models.retrieve(arn).id == arn
    with pytest.raises(openai.NotFoundError, match=r"'local\.unknown-v1:0' does not exist"):
        client.models.retrieve("local.unknown-v1:0")
    with pytest.raises(openai.BadRequestError, match="is not an ARN"):
        client.models.retrieve("arn:nothing")
