"""Prints the scores of the model card: held-out packages, the model beside the overlap rule, three kinds of prompts.

    python tools/evaluate_default_model.py --model src/outcrop/models/bundled/pebble-v1 --corpus build/corpus/text

Every reply is generated greedily, in fp32. Prompts: "plain" as the card recommends, "varied" as in training, "long"
with up to twelve longer passages. Scores, each as a share of the examples it applies to:

    exact      the whole reply, sentence and citation, is the expected one
    sentence   of the answerable: the quoted sentence is the expected one, whatever the citation
    citation   of the replies that quote: the quoted text stands, letter for letter, in the passage that is cited
    refused    of the unanswerable: the reply is the refusal
    wrongly    of the answerable: the reply is the refusal

Not covered: questions that people write. Questions here are made from sentences by pattern, like those trained on,
but from packages that training never saw.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer as RustTokenizer
from tqdm import tqdm

from outcrop.models.decoder import Decoder
from outcrop.models.tokenizer import Tokenizer
from outcrop.models.weights import load_decoder
from outcrop.training.documents import render, text_documents
from outcrop.training.evaluation import bits_per_byte, share_by_kind
from outcrop.training.generate import greedy
from outcrop.training.grounded.baseline import OverlapRule
from outcrop.training.grounded.corpus import Corpus
from outcrop.training.grounded.examples import Example, Mixture, draw_example
from outcrop.training.grounded.prompts import REFUSAL

SOURCES = Path(__file__).parent / "corpus_sources.json"
MAX_REPLY_TOKENS = 160
SEED = 20_001
QUOTE = re.compile(r"> (?P<sentence>.*) \[(?P<label>\d+)\]", re.DOTALL)

Reply = Callable[[Example], str]


def packages(split: str) -> list[str]:
    return [source["package"] for source in json.loads(SOURCES.read_text()) if source["split"] == split]


MIXTURES = {
    "plain": Mixture(chat=0.0, plain_layout=True),
    "varied": Mixture(),
    "long": Mixture(chat=0.0, plain_layout=True, max_passages=12, window_chars=900),
}


def draw(corpus: Corpus, count: int, mixture: Mixture) -> list[Example]:
    rng = random.Random(SEED)
    return [draw_example(corpus, mixture, rng) for _ in range(count)]


def share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 3) if values else float("nan")


def scores(examples: Sequence[Example], replies: Sequence[str]) -> dict[str, float]:
    pairs = list(zip(examples, replies, strict=True))
    answerable = [(e, r) for e, r in pairs if e.kind not in ("refusal", "chat")]
    refusable = [r for e, r in pairs if e.kind == "refusal"]
    quoting = [(e, m) for e, r in pairs if e.passages and (m := QUOTE.fullmatch(r))]
    exact = [e.answer == r for e, r in pairs]
    return {
        "examples": len(pairs),
        "exact": share(exact),
        "sentence": share([bool((m := QUOTE.fullmatch(r)) and m["sentence"] == e.sentence) for e, r in answerable]),
        "citation": share([faithful(e, m) for e, m in quoting]),
        "refused": share([r == REFUSAL for r in refusable]),
        "wrongly": share([r == REFUSAL for _, r in answerable]),
        **{kind: round(value, 3) for kind, value in share_by_kind([e.kind for e in examples], exact).items()},
    }


def faithful(example: Example, match: re.Match[str]) -> bool:
    label = int(match["label"])
    return label in example.labels and match["sentence"] in example.passages[example.labels.index(label)]


def text_bits(decoder: Decoder, tokenizer: RustTokenizer, folder: Path, package: str) -> float:
    """Bits per byte of the first 40 kB of a package's text, in windows of 512 tokens."""
    text = (folder / f"{package}.txt").read_bytes()[:40_000].decode("utf-8", "ignore")
    documents = list(text_documents(tokenizer, [text], 512))
    return bits_per_byte(decoder, documents, len(text.encode()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True, help="the text folder made by collect_corpus.py")
    parser.add_argument("--examples", type=int, default=600, help="for each of the three kinds of prompts")
    parser.add_argument("--show", type=int, default=0, help="print this many replies as they are")
    args = parser.parse_args()
    decoder, tokenizer = load_decoder(args.model, torch.float32), Tokenizer.load(args.model)
    held_out, trained = Corpus(args.corpus, packages("heldout")), Corpus(args.corpus, packages("train"))
    rule = OverlapRule.of(trained, 4000, random.Random(SEED))
    rule.fit(draw(trained, 1000, MIXTURES["varied"]))

    def prompt(example: Example) -> list[int]:
        return tokenizer.encode(render(example.messages[:-1], add_generation_prompt=True))

    report: dict[str, object] = {"overlap_rule_threshold": rule.threshold}
    for name, mixture in MIXTURES.items():
        examples = draw(held_out, args.examples, mixture)
        prompts = [prompt(example) for example in examples]
        replies = [
            tokenizer.decode(greedy(decoder, tokens, tokenizer.eos_token_ids, MAX_REPLY_TOKENS))
            for tokens in tqdm(prompts, desc=name)
        ]
        with_passages = [example for example in examples if example.passages]
        report[name] = {
            "mean_prompt_tokens": sum(map(len, prompts)) // len(prompts),
            "longest_prompt_tokens": max(map(len, prompts)),
            "model": scores(examples, replies),
            "overlap_rule": scores(with_passages, [rule.reply(e) for e in with_passages]),
        }
        for example, reply in list(zip(examples, replies, strict=True))[: args.show]:
            print(f"--- {example.kind}\n{example.messages[-2]['content']}")
            print(f"expected: {example.answer}\nreply:    {reply}")
    rust = RustTokenizer.from_file(str(args.model / "tokenizer.json"))
    report["bits_per_byte"] = {
        package: round(text_bits(decoder, rust, args.corpus, package), 3) for package in packages("heldout")
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
