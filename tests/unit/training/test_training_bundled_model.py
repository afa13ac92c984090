"""The bundled model does what its card says that it does, on prompts of the recommended kind."""

import json
from pathlib import Path

import pytest
import torch

from outcrop.models.chat import ChatTemplate
from outcrop.models.decoder import Decoder
from outcrop.models.prompt import encode_chat
from outcrop.models.tokenizer import Tokenizer
from outcrop.models.weights import load_decoder
from outcrop.training.documents import render
from outcrop.training.generate import greedy
from outcrop.training.grounded.prompts import GREETING, HOW_TO_USE, REFUSAL

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT / "src/outcrop/models/bundled/pebble-v1"
PERMISSIVE = {
    "Apache-2.0", "Apache-2.0 OR BSD-3-Clause", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "MIT",
    "MIT OR Apache-2.0", "PSF-2.0", "PostgreSQL", "WordNet-3.0", "public-domain",
}  # fmt: skip
PASSAGES = """[1] The region parameter names the place where a bucket is kept.
[2] The timeout parameter sets how many seconds a request may take.
[3] A bucket is a container for objects.

Question: """


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(BUNDLE)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return load_decoder(BUNDLE, torch.float32)


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        (PASSAGES + "What does the timeout parameter set?",
         "> The timeout parameter sets how many seconds a request may take. [2]"),
        (PASSAGES + "What is a bucket?", "> A bucket is a container for objects. [3]"),
        (PASSAGES + "What does the retry parameter set?", REFUSAL),
        ("Say hello", GREETING),
        ("What is the capital of Spain?", HOW_TO_USE),
    ],
)  # fmt: skip
def test_reply_has_the_fixed_form(decoder: Decoder, tokenizer: Tokenizer, asked: str, reply: str) -> None:
    template = ChatTemplate.load(BUNDLE)
    assert template is not None
    prompt = encode_chat(template, tokenizer, [{"role": "user", "content": asked}])
    assert tokenizer.decode(greedy(decoder, prompt, tokenizer.eos_token_ids, 60)) == reply


def test_template_in_the_bundle_renders_what_training_rendered() -> None:
    template = ChatTemplate.load(BUNDLE)
    assert template is not None
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    assert template.render(messages) == render(messages, add_generation_prompt=True)


def test_manifest_names_every_source_once_and_only_permissive_terms() -> None:
    manifest = json.loads((BUNDLE / "corpus.json").read_text())
    sources = json.loads((ROOT / "tools/corpus_sources.json").read_text())
    key = ("kind", "package", "version", "licence", "split")
    assert sorted([e[k] for k in key] for e in manifest) == sorted([s[k] for k in key] for s in sources)
    assert {entry["licence"] for entry in manifest} <= PERMISSIVE
    assert all(len(entry["archive_sha256"]) == len(entry["text_sha256"]) == 64 for entry in manifest)
    assert all(entry["text_bytes"] > 1000 for entry in manifest)


def test_bundled_recipe_is_the_recipe_of_the_repository() -> None:
    assert json.loads((BUNDLE / "recipe.json").read_text()) == json.loads((ROOT / "recipes/pebble-v1.json").read_text())


def test_card_says_what_the_model_cannot_do_and_repeats_the_measured_scores() -> None:
    card = (BUNDLE / "MODEL_CARD.md").read_text()
    measured = json.loads((ROOT / "recipes/pebble-v1.evaluation.json").read_text())
    assert "## What it cannot do" in card
    for kind in ("plain", "varied", "long"):
        for score in ("exact", "sentence", "citation", "refused", "wrongly"):
            assert f"{100 * measured[kind]['model'][score]:.1f}%" in card
            assert f"{100 * measured[kind]['overlap_rule'][score]:.1f}%" in card
