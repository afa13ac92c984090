from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_files import CONFIG, edit_json, make_model
from safetensors.torch import load_file, save_file

from outcrop.base.errors import ModelRefused
from outcrop.models.decoder import Decoder, DenseAttention
from outcrop.models.weights import load_decoder, save_decoder

FILE = "model.safetensors"
NORM = "model.norm.weight"
UNUSABLE = ["nul\0.safetensors", "\ud800.safetensors", "x" * 250 + ".safetensors"]
EMBEDDING = "model.embed_tokens.weight"


def change(directory: Path, **changes: torch.Tensor | None) -> Path:
    """Replace or remove tensors of a single-file model; double underscores stand for dots."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    for key, tensor in changes.items():
        name = key.replace("__", ".")
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    save_file(tensors, path)
    return path


def logits(decoder: Decoder) -> torch.Tensor:
    ids = torch.arange(12)[None]
    with torch.no_grad():
        return decoder(ids, ids, DenseAttention(decoder.config))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return make_model(tmp_path / "sharded", shard_bytes_max=10_000)


def test_weights_stay_in_the_mapped_file(model: Path) -> None:
    decoder = load_decoder(model)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(model / FILE))]
    spans = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in mapped]
    for parameter in decoder.parameters():
        assert any(low <= parameter.data_ptr() < high for low, high in spans)


def test_writing_to_a_loaded_model_leaves_its_file_alone(model: Path) -> None:
    before = (model / "model.safetensors").read_bytes()
    with torch.no_grad():
        for parameter in load_decoder(model).parameters():
            parameter.zero_()
    assert (model / "model.safetensors").read_bytes() == before


def test_a_model_can_be_saved_over_the_file_it_is_mapped_from(model: Path) -> None:
    decoder = load_decoder(model)
    expected = logits(decoder)
    save_decoder(decoder, model)
    assert torch.equal(logits(load_decoder(model)), expected)


def test_saving_replaces_the_other_form(model: Path) -> None:
    decoder = load_decoder(model)
    save_decoder(decoder, model, shard_bytes_max=10_000)
    assert not (model / "model.safetensors").exists()
    save_decoder(decoder, model)
    assert not (model / "model.safetensors.index.json").exists()
    load_decoder(model)


def test_shards_give_the_same_model(model: Path, sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert torch.equal(logits(load_decoder(sharded)), logits(load_decoder(model)))


@pytest.mark.parametrize(
    ("stored", "asked", "loaded"),
    [
        (torch.bfloat16, None, torch.bfloat16),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.bfloat16, torch.bfloat16),
        (torch.float16, None, torch.float32),
    ],
)
def test_dtypes(tmp_path: Path, stored: torch.dtype, asked: torch.dtype | None, loaded: torch.dtype) -> None:
    decoder = load_decoder(make_model(tmp_path, dtype=stored), asked)
    assert {parameter.dtype for parameter in decoder.parameters()} == {loaded}
    assert logits(decoder).dtype == loaded


def test_casting_a_model_keeps_its_rotary_frequencies_exact(model: Path) -> None:
    decoder = load_decoder(model)
    exact = decoder.model.rotary.inverse.clone()
    assert torch.equal(decoder.to(torch.bfloat16).model.rotary.inverse, exact)


def test_tied_embeddings_are_one_tensor_and_stored_once(tmp_path: Path) -> None:
    make_model(tmp_path, replace(CONFIG, tie_embeddings=True))
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    decoder = load_decoder(tmp_path)
    assert decoder.lm_head.weight is decoder.model.embed_tokens.weight


def test_a_head_that_repeats_the_tied_embedding_is_fine_and_one_that_differs_is_not(tmp_path: Path) -> None:
    make_model(tmp_path, replace(CONFIG, tie_embeddings=True))
    embedding = load_file(tmp_path / "model.safetensors")[EMBEDDING]
    change(tmp_path, lm_head__weight=embedding.clone())
    load_decoder(tmp_path)
    path = change(tmp_path, lm_head__weight=embedding + 1)
    with pytest.raises(ModelRefused, match=f"{path}: lm_head.weight differs .* tie_word_embeddings"):
        load_decoder(tmp_path)


def test_stored_rotary_frequencies_of_old_checkpoints_are_passed_over(model: Path) -> None:
    change(model, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))
    load_decoder(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    make_model(tmp_path, dtype=dtype)
    spoilt = torch.ones(16, dtype=dtype)
    spoilt[11] = value
    path = change(tmp_path, model__norm__weight=spoilt)
    with pytest.raises(ModelRefused, match=f"{path}: {NORM} holds NaN or infinity"):
        load_decoder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__norm__weight": None}, f"lacks {NORM}"),
        ({"model__extra__weight": torch.ones(2)}, "has model.extra.weight, for which config.json has no place"),
        ({"model__norm__weight": torch.ones(17)}, rf"{NORM} has shape \[17\], but config.json asks for \[16\]"),
        ({"model__norm__weight": torch.ones(16, dtype=torch.float64)}, "dtype F64"),
        ({"model__norm__weight": torch.ones(16, dtype=torch.int8)}, "dtype I8"),
        ({"model__norm__weight": torch.ones(16).to(torch.float8_e4m3fn)}, "dtype F8_E4M3"),
    ],
)
def test_tensors_that_do_not_fit_the_configuration_are_refused(
    model: Path, changes: dict[str, torch.Tensor | None], said: str
) -> None:
    path = change(model, **changes)
    with pytest.raises(ModelRefused, match=f"{path}.*{said}"):
        load_decoder(model)


def test_a_configuration_that_does_not_fit_the_tensors_is_refused(model: Path) -> None:
    edit_json(model / "config.json", num_hidden_layers=3)
    with pytest.raises(ModelRefused, match=r"model.safetensors lacks model.layers.2.* and 8 more"):
        load_decoder(model)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 1e-320},
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 1e-320},
        {"rope_type": "yarn", "factor": 2.0, "mscale": 1.0, "mscale_all_dim": -10 / math.log(2)},
    ],
    ids=["infinite", "overflows", "divides-by-zero"],
)
def test_rotary_settings_without_finite_frequencies_are_refused(model: Path, rope: dict[str, object]) -> None:
    edit_json(model / "config.json", rope_scaling=None, rope_parameters=rope)
    with pytest.raises(ModelRefused, match=r"config.json: these rotary settings"):
        load_decoder(model)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(model: Path, keep: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelRefused, match=f"{path} is not a whole safetensors file"):
        load_decoder(model)


def test_bytes_beyond_the_tensors_are_refused(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ModelRefused, match="not a whole safetensors file"):
        load_decoder(model)


def test_a_git_lfs_pointer_is_told_from_weights(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelRefused, match="git lfs pull"):
        load_decoder(model)


def test_a_folder_in_place_of_the_weights_is_refused(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()
    with pytest.raises(ModelRefused, match="not a regular file"):
        load_decoder(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt"])
def test_pickles_are_refused_unopened_with_a_remedy(model: Path, name: str) -> None:
    (model / "model.safetensors").rename(model / name)
    with pytest.raises(ModelRefused, match=f"{name} is a pickle file, which can run code.*save_pretrained"):
        load_decoder(model)


def test_a_pickle_beside_safetensors_is_left_alone(model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    load_decoder(model)


def test_a_directory_without_weights_is_refused(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelRefused, match=r"neither model.safetensors nor"):
        load_decoder(model)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    gone = sorted(sharded.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelRefused, match=f"{gone} is missing"):
        load_decoder(sharded)


@pytest.mark.parametrize(
    "target", ["../other.safetensors", "/etc/passwd", "pytorch_model.bin", "a\\b.safetensors", 7, *UNUSABLE]
)
def test_an_index_that_points_elsewhere_is_refused(sharded: Path, target: object) -> None:
    edit_index(sharded, **{NORM: target})
    with pytest.raises(ModelRefused, match=r"index.json points to"):
        load_decoder(sharded)


def test_an_index_that_promises_too_much_is_refused(sharded: Path) -> None:
    edit_index(sharded, ghost=sorted(sharded.glob("model-*.safetensors"))[0].name)
    with pytest.raises(ModelRefused, match=r"lacks ghost, which model.safetensors.index.json promises"):
        load_decoder(sharded)


def test_an_index_that_promises_too_little_is_refused(sharded: Path) -> None:
    edit_index(sharded, **{NORM: ...})
    with pytest.raises(ModelRefused, match=f"has {NORM}, which model.safetensors.index.json does not list"):
        load_decoder(sharded)


def test_an_index_that_confuses_shards_is_refused(sharded: Path) -> None:
    first = sorted(sharded.glob("model-*.safetensors"))[0]
    edit_index(sharded, **{NORM: first.name})
    with pytest.raises(ModelRefused, match=rf"places {NORM} in {first.name}, but model-\d+-of-\d+.safetensors has it"):
        load_decoder(sharded)


def test_a_tensor_in_two_shards_is_refused(sharded: Path) -> None:
    first, *_, last = sorted(sharded.glob("model-*.safetensors"))
    save_file(load_file(last) | {EMBEDDING: load_file(first)[EMBEDDING]}, last)
    with pytest.raises(ModelRefused, match=f"repeats {EMBEDDING}"):
        load_decoder(sharded)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": []}])
def test_an_index_without_a_map_is_refused(sharded: Path, index: object) -> None:
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelRefused, match="has no weight_map"):
        load_decoder(sharded)


def edit_index(directory: Path, **changes: object) -> None:
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    merged = index["weight_map"] | changes
    index["weight_map"] = {name: file for name, file in merged.items() if file is not ...}
    path.write_text(json.dumps(index))
