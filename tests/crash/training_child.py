"""A tiny training run in a process of its own, for tests that kill it. Arguments: run folder, shard folder."""

import sys
from pathlib import Path

import torch

from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder
from outcrop.training.initial import initialise
from outcrop.training.loop import Trainer
from outcrop.training.records import OptimizerConfig, Phase, ScheduleConfig, TrainConfig

VOCAB, WIDTH, LAYERS = 64, 32, 3
STEPS_BY_PHASE = (25, 15)


def tiny_decoder() -> Decoder:
    config = DecoderConfig(
        architecture="Qwen3ForCausalLM",
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_heads=4,
        num_kv_heads=4,
        head_dim=WIDTH // 4,
        max_positions=64,
        layers=(LayerConfig(),) * LAYERS,
        tie_embeddings=True,
        qk_norm=True,
    )
    decoder = Decoder(config)
    initialise(decoder, seed=3, induction=False)
    return decoder


def tiny_config() -> TrainConfig:
    return TrainConfig(
        phases=tuple(Phase("a", steps, batch_rows=4, micro_rows=2) for steps in STEPS_BY_PHASE),
        optimizer=OptimizerConfig(peak_lr=1e-2),
        schedule=ScheduleConfig(warmup_steps=3, decay_steps=10),
        bf16=False,
        log_every=1,
        checkpoint_every=4,
        keep_checkpoints=2,
    )


def main() -> None:
    torch.set_num_threads(1)
    run, shards = map(Path, sys.argv[1:])
    Trainer(tiny_decoder(), tiny_config(), run, shards).run()


if __name__ == "__main__":
    main()
