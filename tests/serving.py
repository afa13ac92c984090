"""A whole service in this process for tests: real sockets, TLS and signatures; a tiny model, scripted engines."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from outcrop.base.clock import Clock, SystemClock
from outcrop.inference.null import NullEngine
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder
from outcrop.models.registry import LoadedModel, ModelRegistry
from outcrop.models.weights import save_decoder
from outcrop.service import assemble, server
from outcrop.service.config import Limits, ServiceConfig
from outcrop.trust.crypto.ca import ensure_tls

TINY_MODEL_ID = "local.tiny-v1:0"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")


def write_tiny_model(directory: Path) -> Path:
    """A two-layer Llama with a byte tokenizer, as a Hugging Face directory."""
    directory.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*alphabet, *SPECIAL])}
    tokenizer = FastTokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    torch.manual_seed(0)
    config = DecoderConfig(
        architecture="LlamaForCausalLM",
        vocab_size=len(vocab),
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        num_kv_heads=1,
        head_dim=16,
        max_positions=512,
        layers=(LayerConfig(), LayerConfig()),
        tie_embeddings=True,
    )
    save_decoder(Decoder(config), directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"chat_template": CHAT_TEMPLATE, "eos_token": "<|end|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "generation_config.json").write_text(
        json.dumps({"eos_token_id": vocab["<|end|>"], "do_sample": False})
    )
    return directory


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers, and what its clients must know."""

    http_url: str
    https_url: str
    ca_certificate: Path
    region: str
    account: str
    access_key_id: str
    secret_access_key: str
    data: Path
    engines: list[NullEngine]
    """Engines made so far, in order."""


Scripted = Callable[[LoadedModel], NullEngine]


@contextmanager
def running_service(
    data: Path,
    engine: Scripted = lambda loaded: NullEngine(),
    *,
    limits: Limits | None = None,
    clock: Clock | None = None,
    partition: str | None = None,
    region: str | None = None,
) -> Iterator[Running]:
    """A service over ``data`` in a thread of its own, with the tiny model imported."""
    clock = clock or SystemClock()
    config = replace(ServiceConfig(data=data, http_port=0, https_port=0), limits=limits or Limits())
    deployment = assemble.open_deployment(config, region, partition)
    registry = ModelRegistry(data / assemble.MODELS_FOLDER)
    if TINY_MODEL_ID not in [info.model_id for info in registry.list()]:
        registry.import_directory(write_tiny_model(data.with_name(f"{data.name}-source") / "tiny"), TINY_MODEL_ID)
    engines: list[NullEngine] = []

    def make(loaded: LoadedModel) -> NullEngine:
        engines.append(engine(loaded))
        return engines[-1]

    service = assemble.assemble(config, deployment, clock=clock, engines=make)
    tls = ensure_tls(data / assemble.TLS_FOLDER, [], SystemClock())
    issued = service.first_key or service.identity.create_key(deployment.account)
    up = threading.Event()
    state: dict[str, object] = {}

    async def serve() -> None:
        state["loop"] = asyncio.get_running_loop()
        state["stop"] = asyncio.Event()

        async def ready(listening: server.Listening) -> None:
            state["listening"] = listening
            up.set()

        try:
            plain, secure = server.bind("127.0.0.1", 0), server.bind("127.0.0.1", 0)
            await server.serve(
                service.app, host="127.0.0.1", plain=plain, secure=secure, tls=tls, ready=ready, stop=state["stop"]
            )
        finally:
            await service.close()
            up.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="service")
    thread.start()
    try:
        assert up.wait(30)
        listening = state["listening"]
        yield Running(
            listening.http_url,
            listening.https_url,
            tls.ca_certificate,
            deployment.region,
            deployment.account,
            issued.access_key_id,
            issued.secret_access_key,
            data,
            engines,
        )
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(30)
        assert not thread.is_alive()
