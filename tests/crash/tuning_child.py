"""One tuning run in a process of its own, for test_crash_tuning.py to kill: FOLDER lora|full."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from outcrop.models.adapters import LoraConfig, save_adapter
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder
from outcrop.models.weights import save_decoder
from outcrop.training.shards import Document
from outcrop.training.tuning import Encoded, TuneConfig, Tuner


def examples(count: int, seed: int) -> list[Encoded]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for line in range(1, count + 1):
        tokens = torch.randint(2, 60, (12,), generator=generator).tolist()
        made.append(Encoded(line, (Document([*tokens, 0], [0] * 6 + [100] * 7),)))
    return made


def main(folder: Path, kind: str) -> None:
    torch.manual_seed(5)
    decoder = Decoder(
        DecoderConfig(
            architecture="LlamaForCausalLM",
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            max_positions=64,
            layers=(LayerConfig(),) * 2,
        )
    ).eval()
    config = TuneConfig(
        LoraConfig(rank=4, alpha=8.0, dropout=0.1) if kind == "lora" else None,
        epochs=6,
        batch_examples=2,
        row_tokens=32,
        peak_lr=5e-3,
        evaluate_every=4,
        checkpoint_every=3,
    )
    tuner = Tuner(decoder, config, folder, examples(20, 1), examples(4, 2))
    assert tuner.run().finished
    if tuner.adapter is None:
        save_decoder(decoder, folder / "out")
    else:
        save_adapter(tuner.adapter, folder / "out")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
