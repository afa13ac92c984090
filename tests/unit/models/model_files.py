"""A small sound model directory, for tests that then break one thing in it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder
from outcrop.models.weights import save_decoder

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG = DecoderConfig(
    architecture="LlamaForCausalLM",
    vocab_size=320,
    hidden_size=16,
    intermediate_size=24,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    max_positions=64,
    layers=(LayerConfig(), LayerConfig()),
)


def make_model(directory: Path, config: DecoderConfig = CONFIG, **how: object) -> Path:
    """Write a whole model and return ``directory``."""
    torch.manual_seed(1)
    save_decoder(Decoder(config), directory, extra_config={"bos_token_id": 0, "eos_token_id": 0}, **how)
    make_tokenizer().save(str(directory / "tokenizer.json"))
    names = {"eos_token": "<|im_end|>", "bos_token": None, "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(names))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return directory


def make_tokenizer() -> Tokenizer:
    """Byte-level BPE of at most 300 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog, the end of the story"] * 4, trainer)
    return tokenizer


def make_sentence_piece_tokenizer() -> Tokenizer:
    """A Llama 2 sort of tokenizer: a mark for the space, and bytes for what the vocabulary lacks."""
    from tokenizers import normalizers

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for token in [*(f"<0x{byte:02X}>" for byte in range(256)), *"\u2581helowrd", "\u2581h", "he"]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [("\u2581", "h"), ("h", "e")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def edit_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON object on disk; ``...`` removes one."""
    value = json.loads(path.read_text())
    value = {key: item for key, item in (value | changes).items() if item is not ...}
    path.write_text(json.dumps(value))
