"""``kill -9`` at many points of an import: the model is registered whole or not at all, and nothing is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder
from outcrop.models.registry import ModelRegistry
from outcrop.models.weights import save_decoder

MODEL_ID = "local.victim-v1:0"

IMPORT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from outcrop.models.registry import ModelRegistry

source, root, stage, at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])

def progress(now, done, total):
    if now == stage and done >= at * total:
        os.kill(os.getpid(), signal.SIGKILL)

ModelRegistry(root).import_directory(source, sys.argv[5], progress=progress)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("source")
    config = DecoderConfig(
        architecture="LlamaForCausalLM",
        vocab_size=256,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        num_kv_heads=1,
        head_dim=16,
        max_positions=64,
        layers=(LayerConfig(),) * 2,
    )
    torch.manual_seed(0)
    save_decoder(Decoder(config), directory, shard_bytes_max=40_000)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}"}))
    return directory


def import_and_die(source: Path, root: Path, stage: str, at: float) -> None:
    arguments = [str(source), str(root), stage, str(at), MODEL_ID]
    died = subprocess.run([sys.executable, "-c", IMPORT_AND_DIE, *arguments], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()


@pytest.mark.parametrize(
    ("stage", "at"), [("copy", 0.0), ("copy", 0.5), ("copy", 1.0), ("scan", 0.0), ("scan", 0.7), ("register", 0.0)]
)
def test_an_import_killed_before_it_registers_leaves_nothing(
    source: Path, tmp_path: Path, stage: str, at: float
) -> None:
    import_and_die(source, tmp_path, stage, at)
    assert list(tmp_path.glob(".staging-*"))  # it did die in the middle
    registry = ModelRegistry(tmp_path)
    assert all(info.source == "bundled" for info in registry.list())
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert registry.import_directory(source, MODEL_ID).model_id == MODEL_ID
    registry.load(MODEL_ID)


def test_an_import_killed_after_it_registers_is_whole(source: Path, tmp_path: Path) -> None:
    import_and_die(source, tmp_path, "register", 1.0)
    registry = ModelRegistry(tmp_path)
    assert registry.get(MODEL_ID).model_id == MODEL_ID
    assert not list(tmp_path.glob(".staging-*"))
    for parameter in registry.load(MODEL_ID).decoder.parameters():
        assert parameter.isfinite().all()


def test_a_template_worker_does_not_outlive_its_killed_parent(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from outcrop.models import chat\n"
        "chat.ChatTemplate('x').render([])\n"
        "print(chat._POOL._idle[0]._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    stat = Path(f"/proc/{int(died.stdout)}/stat")
    for _ in range(500):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        signal.sigtimedwait([], 0.02)
    pytest.fail("the worker is still there")
