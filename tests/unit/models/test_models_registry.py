from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_files import CONFIG, edit_json, make_model
from safetensors.torch import load_file, save_file

from outcrop.base.errors import AlreadyExists, ModelRefused, NotFound, TemplateRefused, UserError
from outcrop.models.registry import ModelInfo, ModelRegistry

# From the public service model of Amazon Bedrock: BedrockModelId and GetFoundationModelIdentifier.
BEDROCK_MODEL_ID = re.compile(
    r"[a-z0-9-]{1,63}[.]{1}[a-z0-9-]{1,63}([a-z0-9-]{1,63}[.]){0,2}[a-z0-9-]{1,63}([:][a-z0-9-]{1,63}){0,2}"
    r"(/[a-z0-9]{12}|)"
)
GET_IDENTIFIER = re.compile(r"[a-z0-9-]{1,63}[.]{1}[a-z0-9-]{1,63}([.]?[a-z0-9-]{1,63})([:][a-z0-9-]{1,63}){0,2}")
ID = "local.my-model-v1:0"


class Stop(Exception):
    pass


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "My_Model")


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "models", tmp_path / "bundled")


@pytest.fixture
def with_bundled(tmp_path: Path) -> ModelRegistry:
    folder = make_model(tmp_path / "bundled" / "pebble-v1")
    record = {"model_id": "outcrop.pebble-v1:0", "name": "Pebble", "provider": "Outcrop", "license": "Apache-2.0"}
    (folder / "outcrop.json").write_text(json.dumps(record))
    return ModelRegistry(tmp_path / "models", tmp_path / "bundled")


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "models").iterdir() if path.name != ".lock")


def test_an_imported_model_is_listed_and_loads(registry: ModelRegistry, source: Path, tmp_path: Path) -> None:
    info = registry.import_directory(source)
    expected = ModelInfo(
        model_id=ID,
        name="My_Model",
        provider="local",
        architecture="LlamaForCausalLM",
        parameters=sum(t.numel() for t in load_file(source / "model.safetensors").values()),
        max_positions=64,
        dtype="float32",
        source="imported",
        directory=tmp_path / "models" / "local.my-model-v1+0",
        size_bytes=(source / "model.safetensors").stat().st_size,
        license="apache-2.0",
    )
    assert info == expected
    assert registry.list() == [info]
    shutil.rmtree(source)
    loaded = registry.load(ID)
    assert loaded.config == CONFIG
    assert loaded.template is not None
    assert loaded.template.render([{"role": "user", "content": "fox"}]).startswith("<|im_start|>user\nfox")
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("fox")) == "fox"
    assert loaded.decoder(torch.tensor([1]), torch.tensor([0]), lambda layer, q, k, v: q).shape == (1, 320)
    assert registry.load(ID, torch.bfloat16).decoder.lm_head.weight.dtype == torch.bfloat16


def test_a_new_process_finds_it_again(registry: ModelRegistry, source: Path, tmp_path: Path) -> None:
    info = registry.import_directory(source, "acme.x1:7")
    registry.set_alias("gpt-4o", "acme.x1:7")
    again = ModelRegistry(tmp_path / "models", tmp_path / "bundled")
    assert again.list() == [info]
    assert again.get("gpt-4o") == info


def test_only_the_models_own_files_are_copied(registry: ModelRegistry, source: Path) -> None:
    (source / "pytorch_model.bin").write_bytes(b"\x80")
    (source / "modeling_custom.py").write_text("print('no')")
    (source / "outcrop.json").write_text("{}")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool_use.jinja").write_text("t")
    folder = registry.import_directory(source).directory
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *("config.json", "generation_config.json", "model.safetensors", "outcrop.json", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "additional_chat_templates/tool_use.jinja"),
    }


def test_a_sharded_model_is_imported_whole(registry: ModelRegistry, tmp_path: Path) -> None:
    source = make_model(tmp_path / "sharded", replace(CONFIG, tie_embeddings=True), shard_bytes_max=8000)
    folder = registry.import_directory(source).directory
    assert len(list(folder.glob("model-*.safetensors"))) == len(list(source.glob("model-*.safetensors"))) > 1
    registry.load("local.sharded-v1:0")


def poison(source: Path) -> None:
    tensors = load_file(source / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, source / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda source: (source / "config.json").unlink(), "config.json is missing"),
        (lambda source: (source / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda source: (source / "model.safetensors").unlink(), "neither model.safetensors"),
        (lambda source: os.truncate(source / "model.safetensors", 3000), "model.safetensors is not a whole"),
        (lambda source: edit_json(source / "config.json", architectures=["Other"]), "config.json: architectures"),
        (lambda source: edit_json(source / "config.json", vocab_size=8), "model.safetensors: .* has shape"),
        (lambda source: edit_json(source / "generation_config.json", eos_token_id=320), "token ids up to 320"),
        (lambda source: (source / "tokenizer.json").write_text("{}"), "tokenizer.json decodes with"),
        (
            lambda source: edit_json(source / "tokenizer_config.json", chat_template="{{ 'a' * 10 ** 10 }}"),
            "tokenizer_config.json was not rendered: it needed too much memory",
        ),
        (
            lambda source: (source / "chat_template.jinja").write_text("{{ raise_exception('no') }}"),
            "chat_template.jinja was not rendered: no",
        ),
        (poison, "model.safetensors: model.norm.weight holds NaN"),
    ],
)
def test_a_refused_model_leaves_nothing_behind(
    registry: ModelRegistry, source: Path, tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(source)
    with pytest.raises((ModelRefused, TemplateRefused), match=f"{source}.*{said}"):
        registry.import_directory(source)
    assert registry.list() == []
    assert left_behind(tmp_path) == []


def test_a_directory_that_is_none_is_refused(registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="not a directory"):
        registry.import_directory(tmp_path / "nowhere")


@pytest.mark.parametrize("stage", ["copy", "scan", "register"])
def test_an_interrupted_import_leaves_nothing_behind(
    registry: ModelRegistry, source: Path, tmp_path: Path, stage: str
) -> None:
    def progress(at: str, done: int, total: int) -> None:
        if at == stage:
            raise Stop

    with pytest.raises(Stop):
        registry.import_directory(source, progress=progress)
    assert registry.list() == []
    assert left_behind(tmp_path) == []


def test_progress_tells_every_stage_to_its_end(registry: ModelRegistry, source: Path) -> None:
    last: dict[str, tuple[int, int]] = {}
    registry.import_directory(source, progress=lambda stage, done, total: last.update({stage: (done, total)}))
    assert list(last) == ["copy", "scan", "register"]
    assert last["copy"][0] == last["copy"][1] > 0
    assert last["register"] == (1, 1)


def test_of_two_imports_of_one_id_one_wins(registry: ModelRegistry, source: Path, tmp_path: Path) -> None:
    outcomes: list[str] = []
    both_checked = threading.Barrier(2)

    def run() -> None:
        def progress(stage: str, done: int, total: int) -> None:
            if (stage, done) == ("register", 0):
                both_checked.wait()

        try:
            other = ModelRegistry(tmp_path / "models", tmp_path / "bundled")
            other.import_directory(source, ID, progress=progress)
            outcomes.append("won")
        except AlreadyExists:
            outcomes.append("lost")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost", "won"]
    assert left_behind(tmp_path) == ["local.my-model-v1+0"]
    registry.load(ID)


def test_a_start_sweeps_dead_imports_and_spares_living_ones(
    registry: ModelRegistry, source: Path, tmp_path: Path
) -> None:
    dead = tmp_path / "models" / ".staging-dead"
    dead.mkdir()
    (dead / "model.safetensors").write_bytes(b"x")
    (tmp_path / "models" / ".removed-half").mkdir()
    seen: list[list[str]] = []

    def progress(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("register", 0):
            assert ModelRegistry(tmp_path / "models", tmp_path / "bundled").list() == []
            seen.append(left_behind(tmp_path))

    registry.import_directory(source, progress=progress)
    assert len(seen[0]) == 1
    assert seen[0][0].startswith(".staging-")
    assert ".staging-dead" not in seen[0]


def test_a_taken_id_is_refused(registry: ModelRegistry, source: Path) -> None:
    registry.import_directory(source)
    with pytest.raises(AlreadyExists, match="--id"):
        registry.import_directory(source)
    registry.set_alias("acme.alias-v1:0", ID)
    with pytest.raises(AlreadyExists, match="is an alias"):
        registry.import_directory(source, "acme.alias-v1:0")


@pytest.mark.parametrize(
    ("folder", "model_id"),
    [
        ("SmolLM2-135M-Instruct", "local.smollm2-135m-instruct-v1:0"),
        ("Qwen2.5-0.5B", "local.qwen2-5-0-5b-v1:0"),
        ("_weird__näme!", "local.weird-n-me-v1:0"),
        ("模型", "local.model-v1:0"),
        ("x" * 200, f"local.{'x' * 60}-v1:0"),
        ("models--Org--Tiny-1B/snapshots/abc123", "local.tiny-1b-v1:0"),
    ],
)
def test_a_directory_suggests_an_id_that_aws_clients_accept(
    registry: ModelRegistry, source: Path, folder: str, model_id: str
) -> None:
    target = source.parent / "downloads" / folder
    target.parent.mkdir(parents=True)
    source.rename(target)
    assert registry.import_directory(target).model_id == model_id
    assert BEDROCK_MODEL_ID.fullmatch(model_id)
    assert GET_IDENTIFIER.fullmatch(model_id)


@pytest.mark.parametrize("model_id", ["acme.m1", "a.bb:0:1", "local.a-b-c-v12:0:28k", f"{'p' * 63}.{'n' * 63}:0"])
def test_ids_of_ones_own(registry: ModelRegistry, source: Path, model_id: str) -> None:
    assert BEDROCK_MODEL_ID.fullmatch(model_id)
    assert GET_IDENTIFIER.fullmatch(model_id)
    assert registry.import_directory(source, model_id).model_id == model_id


@pytest.mark.parametrize(
    "model_id",
    [
        *("", "model", "Local.Model", "local.m:0:1:2", "local/x.y", "../x.y", "local.x y", "a.é", "a.b.c.d", ".ab"),
        *("a.bc\n", "a.b", f"{'p' * 64}.name", "a.x+y", f"{'p' * 63}.{'n' * 63}:{'v' * 63}"),
    ],
)
def test_ids_that_aws_clients_would_refuse_are_refused(registry: ModelRegistry, source: Path, model_id: str) -> None:
    with pytest.raises(UserError, match="not a model id"):
        registry.import_directory(source, model_id)


@pytest.mark.parametrize("name", ["nothing.here-v1:0", "../My_Model", "/etc", "", "local.my-model-v1+0"])
def test_unknown_names_are_not_found(registry: ModelRegistry, source: Path, name: str) -> None:
    registry.import_directory(source)
    for act in (registry.get, registry.load, registry.resolve, registry.remove):
        with pytest.raises(NotFound):
            act(name)


def test_a_removed_model_is_gone_for_everybody(registry: ModelRegistry, source: Path, tmp_path: Path) -> None:
    other = ModelRegistry(tmp_path / "models", tmp_path / "bundled")
    registry.import_directory(source)
    loaded = other.load(ID)
    registry.remove(ID)
    assert other.list() == []
    assert left_behind(tmp_path) == []
    assert loaded.decoder(torch.tensor([1]), torch.tensor([0]), lambda layer, q, k, v: q).isfinite().all()
    assert registry.import_directory(source).model_id == ID


def test_listing_models_does_not_import_pytorch(with_bundled: ModelRegistry, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from outcrop.models.registry import ModelRegistry\n"
        "registry = ModelRegistry(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "assert registry.list() and 'torch' not in sys.modules"
    )
    folders = [str(tmp_path / "models"), str(tmp_path / "bundled")]
    subprocess.run([sys.executable, "-c", script, *folders], check=True)


def test_bundled_models_come_first_and_stay(with_bundled: ModelRegistry, source: Path, tmp_path: Path) -> None:
    with_bundled.import_directory(source, "a.first-v1:0")
    pebble, first = with_bundled.list()
    assert (pebble.model_id, pebble.source, pebble.name) == ("outcrop.pebble-v1:0", "bundled", "Pebble")
    assert pebble.directory == tmp_path / "bundled" / "pebble-v1"
    assert pebble.license == "Apache-2.0"
    assert first.source == "imported"
    assert with_bundled.load("outcrop.pebble-v1:0").info == pebble
    with pytest.raises(UserError, match="part of Outcrop and cannot be removed"):
        with_bundled.remove("outcrop.pebble-v1:0")
    with pytest.raises(AlreadyExists):
        with_bundled.import_directory(source, "outcrop.pebble-v1:0")


def test_aliases_stand_for_models(with_bundled: ModelRegistry, source: Path) -> None:
    with_bundled.import_directory(source)
    with_bundled.set_alias("anthropic.claude-3-haiku-20240307-v1:0", "outcrop.pebble-v1:0")
    with_bundled.set_alias("gpt-4o-mini", "outcrop.pebble-v1:0")
    with_bundled.set_alias("gpt-4o-mini", ID)
    assert with_bundled.aliases() == {
        "anthropic.claude-3-haiku-20240307-v1:0": "outcrop.pebble-v1:0",
        "gpt-4o-mini": ID,
    }
    assert with_bundled.resolve("gpt-4o-mini") == ID
    assert with_bundled.resolve(ID) == ID
    assert with_bundled.load("gpt-4o-mini").info.model_id == ID
    with_bundled.remove_alias("gpt-4o-mini")
    with pytest.raises(NotFound):
        with_bundled.resolve("gpt-4o-mini")
    with pytest.raises(NotFound):
        with_bundled.remove_alias("gpt-4o-mini")


def test_aliases_neither_shadow_nor_chain_nor_dangle(with_bundled: ModelRegistry, source: Path) -> None:
    with_bundled.import_directory(source)
    with pytest.raises(AlreadyExists, match="cannot stand before it"):
        with_bundled.set_alias(ID, "outcrop.pebble-v1:0")
    with_bundled.set_alias("one", ID)
    with pytest.raises(NotFound, match="not for an alias"):
        with_bundled.set_alias("two", "one")
    with pytest.raises(UserError, match="has aliases: one"):
        with_bundled.remove(ID)
    with pytest.raises(UserError, match="is an alias"):
        with_bundled.remove("one")
    for bad in ("", "-x", "a b", "x" * 256, "é", "a\n"):
        with pytest.raises(UserError, match="cannot be an alias"):
            with_bundled.set_alias(bad, ID)


def test_changes_of_another_process_show_at_once(registry: ModelRegistry, source: Path, tmp_path: Path) -> None:
    registry.import_directory(source)
    os.utime(tmp_path / "models", ns=(10**18, 10**18))  # long settled, so that the snapshot is kept
    assert registry.aliases() == {}
    ModelRegistry(tmp_path / "models", tmp_path / "bundled").set_alias("a", ID)
    assert registry.aliases() == {"a": ID}


@pytest.mark.parametrize("content", ["", "{}", '{"model_id": "x"}', "[]"])
def test_a_damaged_record_is_named_with_a_remedy(registry: ModelRegistry, source: Path, content: str) -> None:
    record = registry.import_directory(source).directory / "outcrop.json"
    record.write_text(content)
    os.utime(record.parent.parent)
    with pytest.raises(ModelRefused, match=re.escape(str(record))):
        registry.list()


def cache_snapshot(source: Path) -> Path:
    """Move the files of ``source`` into a Hugging Face cache: blobs, and a snapshot of links to them."""
    repository = source.parent / "models--Org--Tiny"
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for i, path in enumerate(sorted(source.iterdir())):
        path.rename(repository / "blobs" / f"blob{i}")
        (snapshot / path.name).symlink_to(f"../../blobs/blob{i}")
    return snapshot


def test_a_snapshot_of_a_hugging_face_cache_is_imported_as_copies(registry: ModelRegistry, source: Path) -> None:
    info = registry.import_directory(cache_snapshot(source))
    assert (info.name, info.model_id) == ("Tiny", "local.tiny-v1:0")
    assert not any(path.is_symlink() for path in info.directory.rglob("*"))


def test_links_within_the_directory_and_to_the_directory_are_followed(registry: ModelRegistry, source: Path) -> None:
    (source / "model.safetensors").rename(source / "weights-here")
    (source / "model.safetensors").symlink_to("weights-here")
    link = source.parent / "link"
    link.symlink_to(source)
    assert registry.import_directory(link).size_bytes == (source / "weights-here").stat().st_size


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "model.safetensors", "chat_template.jinja"])
def test_links_out_of_the_directory_are_refused(
    registry: ModelRegistry, source: Path, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(secret)
    with pytest.raises(ModelRefused, match=rf"{name} is a link to {secret}, outside the model directory"):
        registry.import_directory(source)
    (source / name).unlink()
    (source / name).symlink_to("nowhere")
    with pytest.raises(ModelRefused, match=r"leads nowhere|neither model.safetensors"):
        registry.import_directory(source)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "LICENSE"])
def test_a_loop_of_links_is_refused(registry: ModelRegistry, source: Path, name: str) -> None:
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to("round")
    (source / "round").symlink_to(name)
    with pytest.raises(ModelRefused, match=rf"{name} is a link that leads nowhere"):
        registry.import_directory(source)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": "hot"}, {"temperature": -1}, {"top_p": 7}, {"top_k": [1]}, {"top_k": 1.5}, {"top_p": True}],
)
def test_generation_defaults_that_no_request_could_use_are_refused(
    registry: ModelRegistry, source: Path, wrong: dict[str, object]
) -> None:
    edit_json(source / "generation_config.json", **wrong)
    with pytest.raises(ModelRefused, match=rf"generation_config.json: {next(iter(wrong))} should be"):
        registry.import_directory(source)
    edit_json(source / "generation_config.json", temperature=0.6, top_p=1, top_k=20)
    registry.import_directory(source)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_swapped_in_after_the_check_is_not_copied(
    registry: ModelRegistry, source: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "secret").write_text("secret")

    def swap(stage: str, done: int, total: int) -> None:
        if stage == "copy" and not (source / "README.md").is_symlink() and (source / "README.md").is_file():
            (source / "README.md").unlink()
            if kind == "link":
                (source / "README.md").symlink_to(tmp_path / "secret")
            else:
                os.mkfifo(source / "README.md")

    with pytest.raises(UserError, match=r"README.md was not copied"):
        registry.import_directory(source, progress=swap)
    assert registry.list() == []


def test_what_is_no_file_is_refused(registry: ModelRegistry, source: Path) -> None:
    (source / "LICENSE").mkdir()
    with pytest.raises(ModelRefused, match="LICENSE is not a regular file"):
        registry.import_directory(source)
    (source / "LICENSE").rmdir()
    os.mkfifo(source / "LICENSE")
    with pytest.raises(ModelRefused, match="LICENSE is not a regular file"):
        registry.import_directory(source)


def test_a_full_disk_is_told_before_copying(
    registry: ModelRegistry, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(source)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="has room for 0 MiB"):
        registry.import_directory(source)


@pytest.mark.parametrize(
    ("card", "license_name"),
    [
        ("---\nlicense: mit\ntags: [a]\n---\n", "mit"),
        ("---\ntags:\n- x\nlicense: 'llama3.2'\n---\n", "llama3.2"),
        ("license: mit\n", "unknown"),
        ("---\n---\nlicense: mit\n", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_licence_is_what_the_card_names(
    registry: ModelRegistry, source: Path, card: str, license_name: str
) -> None:
    (source / "README.md").write_text(card)
    assert registry.import_directory(source).license == license_name


def test_a_base_model_without_template_is_imported(registry: ModelRegistry, source: Path) -> None:
    edit_json(source / "tokenizer_config.json", chat_template=...)
    registry.import_directory(source)
    assert registry.load(ID).template is None
