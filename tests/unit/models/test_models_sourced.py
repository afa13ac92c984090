"""safetensors through a byte source: what the library reads, and what it refuses."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from model_files import make_model
from safetensors.torch import load_file, save_file

from outcrop.base.blobs import FileSource
from outcrop.base.errors import InvariantError, ModelRefused
from outcrop.models.sourced import read_header, read_tensor
from outcrop.models.weights import load_decoder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_read_is_the_model_mapped(tmp_path: Path, dtype: torch.dtype) -> None:
    model = make_model(tmp_path / "m", dtype=dtype)
    opened: list[Path] = []

    def opener(path: Path) -> FileSource:
        opened.append(path)
        return FileSource(path)

    mapped, read = load_decoder(model).state_dict(), load_decoder(model, opener=opener).state_dict()
    assert mapped.keys() == read.keys()
    assert all(torch.equal(mapped[name], read[name]) and mapped[name].dtype == read[name].dtype for name in mapped)
    assert opened


def test_every_shape_comes_back_as_the_library_has_it(tmp_path: Path) -> None:
    file = tmp_path / "t.safetensors"
    tensors = {"scalar": torch.tensor(3.5), "none": torch.empty(0, 4), "cube": torch.randn(2, 3, 5)}
    save_file(tensors, file, metadata={"format": "pt"})
    source = FileSource(file)
    entries = read_header(source, file)
    assert entries.keys() == tensors.keys()
    for name, tensor in load_file(file).items():
        assert torch.equal(read_tensor(source, entries[name], torch.float32), tensor)
    source.close()


def write(file: Path, header: object, data: bytes = b"\0" * 8, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return file


def tensor(begin: int, end: int, **changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]} | changes


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"a": tensor(0, 8)}, None),
        ({"a": tensor(0, 4)}, "end at byte"),
        ({"a": tensor(0, 4), "b": tensor(0, 8)}, "overlaps"),
        ({"a": tensor(4, 8)}, "hole"),
        ({"a": tensor(0, 12)}, "end at byte"),
        ({"a": tensor(0, 8, shape=[3])}, "8 bytes, not"),
        ({"a": tensor(0, 8, shape=[-2])}, "sizes"),
        ({"a": tensor(0, 8, shape=[True, 2])}, "sizes"),
        ({"a": tensor(0, 8, data_offsets=[8, 0])}, "bytes, not"),
        ({"a": tensor(0, 8, more=1)}, "described by"),
        ([], "JSON object"),
        (b"{", "not JSON"),
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b'{"a": NaN}', "NaN"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_what_is_no_whole_file_is_refused(tmp_path: Path, header: object, said: str | None) -> None:
    file = write(tmp_path / "t.safetensors", header)
    if said is None:
        assert read_header(FileSource(file), file)
        return
    with pytest.raises(ModelRefused, match=said) as caught:
        read_header(FileSource(file), file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("length", [2**63, 10**9, 60])
def test_a_header_that_would_reach_beyond_the_file_is_refused(tmp_path: Path, length: int) -> None:
    file = write(tmp_path / "t.safetensors", {}, length=length)
    with pytest.raises(ModelRefused, match=f"{length} bytes"):
        read_header(FileSource(file), file)


def test_a_source_that_ends_too_soon_gives_no_tensor(tmp_path: Path) -> None:
    file = write(tmp_path / "t.safetensors", {"a": tensor(0, 8)})
    source = FileSource(file)
    entry = read_header(source, file)["a"]
    with file.open("r+b") as cut:
        cut.truncate(file.stat().st_size - 1)
    with pytest.raises(InvariantError, match="bytes that its size promised"):
        read_tensor(source, entry, torch.float32)
