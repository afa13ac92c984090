"""langchain-aws, unmodified: the Converse chat model and the older one over InvokeModel.

Not covered: tools, structured output, embeddings, retrievers and agents, none of which are built.
"""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from langchain_aws import ChatBedrock, ChatBedrockConverse
from langchain_core.messages import HumanMessage, SystemMessage

from serving import TINY_MODEL_ID, Running

TALK = [SystemMessage("be kind"), HumanMessage("hi")]
TALK_TOKENS = (7 + 2) + (2 + 2) + 1


def settings(service: Running, **changes: Any) -> dict[str, Any]:
    plain = {
        "model": TINY_MODEL_ID,
        "endpoint_url": service.http_url,
        "region_name": service.region,
        "aws_access_key_id": service.access_key_id,
        "aws_secret_access_key": service.secret_access_key,
    }
    return {**plain, **changes}


def converse(service: Running, **changes: Any) -> Any:
    return ChatBedrockConverse(provider="meta", **settings(service, **changes))


def invoke(service: Running, **changes: Any) -> Any:
    return ChatBedrock(provider="anthropic", **settings(service, **changes))


MODELS = pytest.mark.parametrize("make", [converse, invoke], ids=["converse", "invoke"])


@MODELS
def test_invoke(service: Running, make: Any) -> None:
    reply = make(service).invoke(TALK)
    assert reply.text == "Hello, world!"
    usage = reply.usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"]) == (TALK_TOKENS, 4)


@MODELS
def test_stream(service: Running, make: Any) -> None:
    chunks = list(make(service).stream(TALK))
    assert [chunk.text for chunk in chunks if chunk.text] == ["Hello", ", ", "world", "!"]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata["output_tokens"] == 4


@MODELS
def test_limits_reach_the_model(service: Running, make: Any) -> None:
    reply = make(service, max_tokens=2, temperature=0.1).invoke("hi")
    assert reply.text == "Hello, "


def test_tools_are_refused_not_ignored(service: Running) -> None:
    """Over Converse; ``ChatBedrock`` itself leaves tools out for a model whose name it does not know."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    with pytest.raises(ClientError, match="tool use"):
        converse(service).bind_tools([add]).invoke("hi")
