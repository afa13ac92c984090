"""Makes the bundled model's directory from a training checkpoint, in Hugging Face format.

    python tools/bundle_default_model.py --recipe recipes/pebble-v1.json --work build/pebble --created 2026-11-22

The directory appears by one rename, whole. ``MODEL_CARD.md`` and ``corpus.json`` of an existing one are carried over.
Beside the recipe, ``RECIPE.metrics.jsonl`` keeps the run's evaluations and every fiftieth step.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from tokenizers import Tokenizer

from outcrop.models.decoder import Decoder
from outcrop.models.weights import save_decoder
from outcrop.training import checkpoint
from outcrop.training.documents import CHAT_TEMPLATE, TEXT_END, TURN_END
from train_default_model import decoder_config

BUNDLE = Path(__file__).parent.parent / "src/outcrop/models/bundled/pebble-v1"
CARRIED_OVER = ("MODEL_CARD.md", "corpus.json")


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def thin_metrics(source: Path, target: Path, every: int) -> None:
    """Keep all evaluations and one training line in ``every`` steps."""
    lines = source.read_text().splitlines(keepends=True)
    kept = [line for line in lines if (e := json.loads(line))["event"] == "evaluate" or e["step"] % every == 0]
    target.write_text("".join(kept))


def bundle(recipe_path: Path, work: Path, step: Path, created: str, target: Path) -> None:
    recipe = json.loads(recipe_path.read_text())
    decoder = Decoder(decoder_config(recipe["model"]))
    checkpoint.restore(step, decoder)
    temporary = target.with_name("." + target.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    ends = [tokenizer.token_to_id(TURN_END), tokenizer.token_to_id(TEXT_END)]
    save_decoder(decoder, temporary, extra_config={"eos_token_id": ends, "pad_token_id": ends[1]})
    shutil.copyfile(work / "tokenizer.json", temporary / "tokenizer.json")
    write_json(
        temporary / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": CHAT_TEMPLATE,
            "eos_token": TURN_END,
            "pad_token": TEXT_END,
            "model_max_length": decoder.config.max_positions,
            "clean_up_tokenization_spaces": False,
        },
    )
    write_json(
        temporary / "generation_config.json",
        {"eos_token_id": ends, "pad_token_id": ends[1], "do_sample": False, "max_new_tokens": 160},
    )
    write_json(
        temporary / "outcrop.json",
        {
            "model_id": "outcrop.pebble-v1:0",
            "name": "Pebble",
            "provider": "Outcrop",
            "license": "Apache-2.0",
            "created": created,
        },
    )
    shutil.copyfile(recipe_path, temporary / "recipe.json")
    for name in CARRIED_OVER:
        if (target / name).is_file():
            shutil.copyfile(target / name, temporary / name)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, help="default: the newest of WORK/checkpoints")
    parser.add_argument("--created", required=True, help="date of the model, YYYY-MM-DD")
    parser.add_argument("--target", type=Path, default=BUNDLE)
    args = parser.parse_args()
    step = args.checkpoint or checkpoint.published(args.work / "checkpoints")[-1]
    bundle(args.recipe, args.work, step, args.created, args.target)
    thin_metrics(args.work / "metrics.jsonl", args.recipe.with_suffix(".metrics.jsonl"), every=50)
    size = sum(path.stat().st_size for path in args.target.iterdir())
    print(f"{args.target.name} from {step.name}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
