"""Trains the default model from a recipe: tokenizer, shards, training, bundle.

    python tools/collect_corpus.py --work build/corpus
    python tools/train_default_model.py --recipe recipes/pebble-v1.json --corpus build/corpus/text --work build/pebble

Stages already done are kept, and an interrupted training resumes; ``--stage`` runs one stage only.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from outcrop.models.config import DecoderConfig, LayerConfig, RopeConfig
from outcrop.models.decoder import Decoder
from outcrop.training.bpe import train_bpe
from outcrop.training.documents import (
    SPECIAL_TOKENS,
    chat_documents,
    copying_documents,
    text_documents,
)
from outcrop.training.evaluation import bits_per_byte, exact_replies, share_by_kind
from outcrop.training.grounded.corpus import Corpus
from outcrop.training.grounded.examples import Mixture, draw_example
from outcrop.training.initial import initialise
from outcrop.training.loop import Evaluate, Trainer
from outcrop.training.records import OptimizerConfig, Phase, ScheduleConfig, TrainConfig
from outcrop.training.shards import Document, write_shard

SOURCES = Path(__file__).parent / "corpus_sources.json"
PROBE_EXAMPLES = 300
PROBE_TEXTS = 40


def packages(split: str) -> list[str]:
    return [source["package"] for source in json.loads(SOURCES.read_text()) if source["split"] == split]


def decoder_config(model: dict[str, Any]) -> DecoderConfig:
    return DecoderConfig(
        architecture="Qwen3ForCausalLM",
        vocab_size=model["vocab_size"],
        hidden_size=model["hidden_size"],
        intermediate_size=model["intermediate_size"],
        num_heads=model["num_heads"],
        num_kv_heads=model["num_kv_heads"],
        head_dim=model["head_dim"],
        max_positions=model["max_positions"],
        layers=(LayerConfig(),) * model["num_layers"],
        rope=RopeConfig(theta=model["rope_theta"]),
        tie_embeddings=True,
        qk_norm=True,
    )


def train_config(recipe: dict[str, Any]) -> TrainConfig:
    train = dict(recipe["train"])
    return TrainConfig(
        phases=tuple(Phase(**phase) for phase in train.pop("phases")),
        optimizer=OptimizerConfig(**train.pop("optimizer")),
        schedule=ScheduleConfig(**train.pop("schedule")),
        seed=recipe["seed"],
        **train,
    )


def make_tokenizer(recipe: dict[str, Any], corpus: Corpus, path: Path) -> Tokenizer:
    """Train a tokenizer on a like amount of text of every package."""
    rng = random.Random(recipe["seed"])
    limit = recipe["tokenizer"]["chars_per_package"]
    texts: list[str] = []
    for package in sorted(corpus.texts):
        lines = [line for text in corpus.texts[package] for line in text.paragraphs]
        rng.shuffle(lines)
        size = 0
        for line in lines:
            texts.append(line)
            size += len(line)
            if size > limit:
                break
    tokenizer = train_bpe(texts, recipe["model"]["vocab_size"], SPECIAL_TOKENS)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return tokenizer


def mixed_documents(
    tokenizer: Tokenizer, corpus: Corpus, shard: dict[str, Any], rng: random.Random
) -> Iterator[Document]:
    """Chat, text and copying documents until ``shard["tokens"]`` tokens, in the shard's shares of tokens."""
    mixture = Mixture(**shard.get("mixture", {}))
    row = shard["row_tokens"]
    streams = {
        "chat": chat_documents(tokenizer, (draw_example(corpus, mixture, rng).messages for _ in iter(int, 1))),
        "text": text_documents(tokenizer, ("\n".join(corpus.draw(rng).paragraphs) for _ in iter(int, 1)), row // 2),
        "copying": copying_documents(tokenizer.get_vocab_size(), len(SPECIAL_TOKENS), row // 4, rng),
    }
    made = dict.fromkeys(streams, 0)
    while (total := sum(made.values())) < shard["tokens"]:
        behind = max(streams, key=lambda name: shard[name] * (total + row) - made[name])
        document = next(streams[behind])
        made[behind] += len(document.tokens)
        if len(document.tokens) <= row:
            yield document


def probe(tokenizer: Tokenizer, corpus: Corpus, seed: int) -> Evaluate:
    """Scores on held-out packages, quick enough to be taken while training."""
    rng = random.Random(seed)
    examples = [draw_example(corpus, Mixture(), rng) for _ in range(PROBE_EXAMPLES)]
    documents = list(chat_documents(tokenizer, (example.messages for example in examples)))
    texts = ["\n".join(corpus.draw(rng).paragraphs)[:1500] for _ in range(PROBE_TEXTS)]
    plain = list(text_documents(tokenizer, texts, 10**6))
    size = sum(len(text.encode()) for text in texts)

    def evaluate(decoder: Decoder) -> dict[str, float]:
        with torch.autocast("cpu", torch.bfloat16):
            exact = exact_replies(decoder, documents)
            bits = bits_per_byte(decoder, plain, size)
        shares = share_by_kind([example.kind for example in examples], exact)
        return {"bits_per_byte": bits, "exact": sum(exact) / len(exact), **shares}

    return evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True, help="the text folder made by collect_corpus.py")
    parser.add_argument("--work", type=Path, required=True, help="folder for shards, checkpoints and metrics")
    parser.add_argument("--stage", choices=("shards", "train"), help="run one stage only")
    args = parser.parse_args()
    recipe = json.loads(args.recipe.read_text())
    tokenizer_path = args.work / "tokenizer.json"
    if args.stage in (None, "shards"):
        corpus = Corpus(args.corpus, packages("train"))
        tokenizer = make_tokenizer(recipe, corpus, tokenizer_path)
        for index, (name, shard) in enumerate(recipe["shards"].items()):
            if not (args.work / "shards" / name / "shard.json").is_file():
                rng = random.Random(recipe["seed"] * 1000 + index)
                documents = mixed_documents(tokenizer, corpus, shard, rng)
                rows = write_shard(args.work / "shards" / name, documents, shard["row_tokens"])
                print(f"shard {name}: {rows} rows of {shard['row_tokens']} tokens", file=sys.stderr)
    if args.stage in (None, "train"):
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
        decoder = Decoder(decoder_config(recipe["model"]))
        initialise(decoder, recipe["seed"], induction=recipe.get("induction_circuit", True))
        trainer = Trainer(decoder, train_config(recipe), args.work, args.work / "shards")
        trainer.run(probe(tokenizer, Corpus(args.corpus, packages("heldout")), recipe["seed"]))


if __name__ == "__main__":
    main()
