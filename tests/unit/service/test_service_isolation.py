"""What one account's requests may and may not find of another's in the prefix cache, and whose models it sees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import anthropic
import boto3
import openai
import pytest
from botocore.exceptions import ClientError

from outcrop.base.arn import account_id
from outcrop.inference.base import EngineConfig, EngineStats
from outcrop.models.registry import ModelRegistry
from outcrop.service import assemble, hosting
from outcrop.service.isolation import CacheScopes
from outcrop.service.sealing import VaultedFiles
from serving import TINY_MODEL_ID, Running, running_service, write_tiny_model

OTHER = "111122223333"
OWNED = "local.owned-v1:0"
SEALED = "local.sealed-v1:0"
LONG = "The quick brown fox jumps over the lazy dog. " * 6


@dataclass(frozen=True, slots=True)
class Tenant:
    """One account's clients."""

    service: Running
    account: str
    access_key_id: str
    secret_access_key: str

    def client(self, name: str):
        return boto3.client(
            name,
            endpoint_url=self.service.http_url,
            region_name=self.service.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )

    def converse(self, text: str, model: str = TINY_MODEL_ID, **more) -> dict:
        messages = [{"role": "user", "content": [{"text": text}]}]
        config = {"maxTokens": 2, "temperature": 0.0}
        return self.client("bedrock-runtime").converse(modelId=model, messages=messages, inferenceConfig=config, **more)


@dataclass(frozen=True, slots=True)
class Tenants:
    a: Tenant
    b: Tenant

    def stats(self) -> EngineStats:
        return self.a.service.engines[0].stats()


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    data = tmp_path_factory.mktemp("isolation") / "data"
    engines = hosting.paged_engines(EngineConfig(max_batch_requests=4))
    made: list[assemble.Service] = []
    assembled = assemble.assemble

    def kept(*given, **named) -> assemble.Service:
        made.append(assembled(*given, **named))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(assemble, "assemble", kept)
        service = stack.enter_context(running_service(data, engines))  # type: ignore[arg-type]
        issued = made[0].identity.ensure_account("aws", OTHER)
        assert issued is not None
        registry = ModelRegistry(data / assemble.MODELS_FOLDER)
        registry.import_directory(write_tiny_model(data.with_name("owned") / "tiny"), OWNED, owner=OTHER)
        registry.set_alias("my-own", OWNED)
        files = VaultedFiles(made[0].trust.vault, made[0].deployment.scope)
        sealing = ModelRegistry(data / assemble.MODELS_FOLDER, sealed_files=files)
        sealing.import_directory(data.with_name("owned") / "tiny", SEALED, owner=OTHER, seal=True)
        a = Tenant(service, service.account, service.access_key_id, service.secret_access_key)
        yield Tenants(a, Tenant(service, OTHER, issued.access_key_id, issued.secret_access_key))


def test_an_account_finds_its_own_prefix_and_no_other_account_does(tenants: Tenants) -> None:
    text = "one: " + LONG
    first = tenants.a.converse(text)["usage"]
    assert "cacheReadInputTokens" not in first
    before = tenants.stats().prefix_hit_blocks
    second = tenants.a.converse(text)["usage"]
    assert tenants.stats().prefix_hit_blocks - before == (first["inputTokens"] - 1) // 16
    assert second["cacheReadInputTokens"] == (first["inputTokens"] - 1) // 16 * 16
    assert second["inputTokens"] + second["cacheReadInputTokens"] == first["inputTokens"]
    assert second["totalTokens"] == first["totalTokens"]

    before = tenants.stats().prefix_hit_blocks
    others = tenants.b.converse(text)["usage"]
    assert tenants.stats().prefix_hit_blocks == before
    assert others == first
    assert tenants.b.converse(text)["usage"] == second


def test_no_field_of_a_request_reaches_into_another_accounts_cache(tenants: Tenants) -> None:
    text = "two: " + LONG
    tenants.a.converse(text)
    assert "cacheReadInputTokens" in tenants.a.converse(text)["usage"]
    more = {"requestMetadata": {"account": tenants.a.account, "cache_scope": "x"}}
    assert "cacheReadInputTokens" not in tenants.b.converse(text, **more)["usage"]


def test_every_surface_shares_within_an_account_and_tells_it_in_its_own_words(tenants: Tenants) -> None:
    text = "three: " + LONG
    tokens = tenants.a.converse(text)["usage"]["inputTokens"]
    cached = (tokens - 1) // 16 * 16
    body = (
        f'{{"anthropic_version":"bedrock-2023-05-31","max_tokens":2,"messages":[{{"role":"user","content":"{text}"}}]}}'
    )
    reply = tenants.a.client("bedrock-runtime").invoke_model(modelId=TINY_MODEL_ID, body=body)
    headers = reply["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-cache-read-input-token-count"] == str(cached)
    assert headers["x-amzn-bedrock-input-token-count"] == str(tokens - cached)

    bedrock = anthropic.AnthropicBedrock(
        base_url=tenants.a.service.http_url,
        aws_region=tenants.a.service.region,
        aws_access_key=tenants.a.access_key_id,
        aws_secret_key=tenants.a.secret_access_key,
    )
    asked = {"model": TINY_MODEL_ID, "max_tokens": 2, "messages": [{"role": "user", "content": text}]}
    usage = bedrock.messages.create(**asked).usage  # type: ignore[call-overload]
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (tokens - cached, cached)
    with bedrock.messages.stream(**asked) as stream:  # type: ignore[arg-type]
        usage = stream.get_final_message().usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (tokens - cached, cached)


def test_a_chat_client_sees_cached_tokens_among_the_prompts(tenants: Tenants) -> None:
    bearer = _bearer(tenants.a)
    client = openai.OpenAI(base_url=f"{tenants.a.service.http_url}/openai/v1", api_key=bearer)
    asked = {"model": TINY_MODEL_ID, "max_tokens": 2, "messages": [{"role": "user", "content": "four: " + LONG}]}
    first = client.chat.completions.create(**asked).usage  # type: ignore[call-overload]
    assert first.prompt_tokens_details is None
    second = client.chat.completions.create(**asked).usage  # type: ignore[call-overload]
    assert second.prompt_tokens == first.prompt_tokens
    assert second.prompt_tokens_details.cached_tokens == (first.prompt_tokens - 1) // 16 * 16
    endpoint = tenants.a.client("sagemaker-runtime")
    name = TINY_MODEL_ID.replace(".", "-").replace(":", "-")
    before = tenants.stats().prefix_hit_blocks
    endpoint.invoke_endpoint(EndpointName=name, Body=f'{{"messages":[{{"role":"user","content":"four: {LONG}"}}]}}')
    assert tenants.stats().prefix_hit_blocks > before


def _bearer(tenant: Tenant) -> str:
    from aws_bedrock_token_generator import BedrockTokenGenerator
    from botocore.credentials import Credentials

    return BedrockTokenGenerator().get_token(
        Credentials(tenant.access_key_id, tenant.secret_access_key), tenant.service.region
    )


def test_scopes_differ_by_every_part_and_by_process() -> None:
    scopes = CacheScopes()
    one, two = account_id("123456789012"), account_id(OTHER)
    seen = {
        scopes.scope(one, "m"),
        scopes.scope(two, "m"),
        scopes.scope(one, "n"),
        scopes.scope(one, "m", "g"),
        scopes.scope(one, "", "m"),
        CacheScopes().scope(one, "m"),
    }
    assert len(seen) == 6
    assert all(len(scope) == 32 for scope in seen)
    assert scopes.scope(one, "m") == scopes.scope(one, "m")


# Models with an owner


def refusal(call) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response
    return error["Error"]["Code"], error["Error"]["Message"], error["ResponseMetadata"]["HTTPStatusCode"]


def owned_arn(tenants: Tenants) -> str:
    rows = tenants.b.client("bedrock").list_foundation_models()["modelSummaries"]
    return next(row["modelArn"] for row in rows if row["modelId"] == OWNED)


def test_its_owner_lists_and_calls_a_model_by_id_arn_and_alias(tenants: Tenants) -> None:
    arn = owned_arn(tenants)
    assert arn.startswith(f"arn:aws:bedrock:{tenants.b.service.region}:{OTHER}:imported-model/")
    for name in (OWNED, arn, "my-own"):
        assert tenants.b.converse("Hi", name)["usage"]["outputTokens"] == 2
    details = tenants.b.client("bedrock").get_foundation_model(modelIdentifier=OWNED)["modelDetails"]
    assert details["modelArn"] == arn
    body = '{"inputs":"Hi","parameters":{"max_new_tokens":2}}'
    assert tenants.b.client("sagemaker-runtime").invoke_endpoint(EndpointName="local-owned-v1-0", Body=body)


def test_a_sealed_model_answers_as_its_plain_twin(tenants: Tenants) -> None:
    plain, sealed = (tenants.b.converse("Hi", name) for name in (OWNED, SEALED))
    assert sealed["output"] == plain["output"]
    assert refusal(lambda: tenants.a.converse("Hi", SEALED)) == refusal(
        lambda: tenants.a.converse("Hi", "local.nobody-v1:0")
    )


def test_to_others_it_is_what_an_unknown_model_is(tenants: Tenants) -> None:
    arn = owned_arn(tenants)
    rows = tenants.a.client("bedrock").list_foundation_models()["modelSummaries"]
    assert TINY_MODEL_ID in [row["modelId"] for row in rows]
    assert OWNED not in [row["modelId"] for row in rows]
    profiles = tenants.a.client("bedrock").list_inference_profiles()["inferenceProfileSummaries"]
    assert not [row for row in profiles if "owned" in row["inferenceProfileId"]]
    pairs = [
        (OWNED, "local.nobody-v1:0"),
        ("my-own", "not-there"),
        (arn, arn[:-12] + "a" * 12),
        (f"us.{OWNED}", "us.local.nobody-v1:0"),
        (f"arn:aws:bedrock:{tenants.a.service.region}::foundation-model/{OWNED}",) * 2,
    ]
    for there, not_there in pairs:
        assert refusal(lambda name=there: tenants.a.converse("Hi", name)) == refusal(
            lambda name=not_there: tenants.a.converse("Hi", name)
        )
    bedrock = tenants.a.client("bedrock")
    assert refusal(lambda: bedrock.get_foundation_model(modelIdentifier=OWNED)) == refusal(
        lambda: bedrock.get_foundation_model(modelIdentifier="local.nobody-v1:0")
    )
    endpoint = tenants.a.client("sagemaker-runtime")
    seen = refusal(lambda: endpoint.invoke_endpoint(EndpointName="local-owned-v1-0", Body="{}"))
    unseen = refusal(lambda: endpoint.invoke_endpoint(EndpointName="local-nobody-v1-0", Body="{}"))
    assert (seen[0], seen[1].replace("owned", "nobody"), seen[2]) == unseen


def test_an_openai_client_lists_its_own_models_only(tenants: Tenants) -> None:
    def client(tenant: Tenant) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{tenant.service.http_url}/openai/v1", api_key=_bearer(tenant))

    assert OWNED in [model.id for model in client(tenants.b).models.list()]
    assert client(tenants.b).models.retrieve("my-own").id == "my-own"
    assert OWNED not in [model.id for model in client(tenants.a).models.list()]
    with pytest.raises(openai.NotFoundError, match="does not exist or you do not have access to it"):
        client(tenants.a).models.retrieve(OWNED)
