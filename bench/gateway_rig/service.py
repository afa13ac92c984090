"""Outcrop's service as a process: the real one, whole, with null engines behind tiny models.

What it loads is what ``outcrop up`` loads, PyTorch included; only the engines compute nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

import torch
import uvloop
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gateway_rig.engines import MODEL_IDS, engine_for
from gateway_rig.process import ROOT
from outcrop.base.clock import SystemClock
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder
from outcrop.models.registry import ModelRegistry
from outcrop.models.weights import save_decoder
from outcrop.service import assemble, server
from outcrop.service.admission import GateConfig
from outcrop.service.config import ServiceConfig
from outcrop.trust.crypto.ca import ensure_tls

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
VOCAB_SIZE = 4096


def write_model(directory: Path) -> None:
    """A one-layer decoder with a byte-level BPE tokenizer, trained on this repository's pages, and a chat template."""
    directory.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pages = [page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        pages,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    config = DecoderConfig(
        architecture="LlamaForCausalLM",
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        num_kv_heads=1,
        head_dim=16,
        max_positions=8192,
        layers=(LayerConfig(),),
        tie_embeddings=True,
    )
    torch.manual_seed(0)
    save_decoder(Decoder(config), directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": CHAT_TEMPLATE, "eos_token": "<|end|>"})
    )
    (directory / "generation_config.json").write_text(json.dumps({"do_sample": False}))


async def main(data: Path, upstream_port: int) -> None:
    # The null engine runs any number of requests at once; turns sized for a real one would be what is measured.
    config = ServiceConfig(data=data, http_port=0, https_port=0, gate=GateConfig(slots_per_model=20_000))
    deployment = assemble.open_deployment(config)
    registry = ModelRegistry(data / assemble.MODELS_FOLDER)
    write_model(data / "source" / "null")
    for model_id in MODEL_IDS:
        registry.import_directory(data / "source" / "null", model_id)
    service = assemble.assemble(
        config, deployment, engines=lambda loaded: engine_for(loaded.info.model_id, upstream_port)
    )
    issued = service.first_key
    assert issued is not None
    stop = asyncio.Event()

    async def ready(listening: server.Listening) -> None:
        for model_id in MODEL_IDS:
            await service.host.get(model_id)
        facts = {
            "port": int(listening.http_url.rpartition(":")[2]),
            "region": deployment.region,
            "access_key_id": issued.access_key_id,
            "secret_access_key": issued.secret_access_key,
        }
        print(json.dumps(facts), flush=True)

    async def stop_at_end_of_input() -> None:
        await asyncio.to_thread(sys.stdin.read)
        stop.set()

    stopping = asyncio.create_task(stop_at_end_of_input())
    plain, secure = server.bind("127.0.0.1", 0), server.bind("127.0.0.1", 0)
    tls = ensure_tls(data / assemble.TLS_FOLDER, [], SystemClock())
    await server.serve(service.app, host="127.0.0.1", plain=plain, secure=secure, tls=tls, ready=ready, stop=stop)
    await service.close()
    await stopping


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--upstream-port", type=int, required=True)
    options = parser.parse_args()
    uvloop.run(main(options.data, options.upstream_port))
