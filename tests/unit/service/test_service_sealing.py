"""Sealed models: no plain weight on the disk, the same model in memory, and none without its key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from outcrop.base.arn import Scope, account_id
from outcrop.base.clock import SystemClock
from outcrop.base.errors import ModelRefused, NotFound, Unsealable, UserError
from outcrop.base.tables import Database
from outcrop.inference.null import NullEngine
from outcrop.models.registry import ModelRegistry
from outcrop.service import hosting
from outcrop.service.hosting import ModelHost
from outcrop.service.sealing import VaultedFiles
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.keys import KeyRefused, KeyService, Vault
from serving import write_tiny_model

OWNER, OTHER = account_id("111122223333"), account_id("444455556666")
SCOPE = Scope("aws", "us-east-1", OTHER)
ID = "local.sealed-v1:0"


@dataclass
class House:
    root: Path
    source: Path
    keys: KeyService
    key_id: str
    registry: ModelRegistry

    def host(self) -> ModelHost:
        return ModelHost(self.registry, SCOPE, lambda loaded: NullEngine(), SystemClock())

    def folder(self) -> Path:
        return self.registry.get(ID).directory


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    database = Database(tmp_path / "outcrop.db")
    keys = KeyService(database, MemoryKeyStore(), SystemClock(), "aws", "us-east-1")
    key = keys.lifecycle.create(OWNER, keys.policies.initial(OWNER))
    files = VaultedFiles(Vault(keys, SystemClock()), SCOPE, key.key_id)
    root, source = tmp_path / "models", write_tiny_model(tmp_path / "tiny")
    registry = ModelRegistry(root, tmp_path / "bundled", sealed_files=files)
    registry.import_directory(source, ID, owner=OWNER, seal=True)
    yield House(root, source, keys, key.key_id, registry)
    database.close()


def test_a_sealed_model_is_the_same_model_and_no_weight_of_it_is_on_the_disk(house: House) -> None:
    info = house.registry.get(ID)
    assert (info.owner, info.sealed) == (OWNER, True)
    plain = load_file(house.source / "model.safetensors")
    loaded = house.registry.load(ID).decoder.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in plain.items())
    weights = house.source.joinpath("model.safetensors").read_bytes()
    bits = weights[-200:-100]  # of some tensor
    kept = {path: path.read_bytes() for path in house.root.rglob("*") if path.is_file()}
    assert not [path for path, content in kept.items() if bits in content]
    house.registry.import_directory(house.source, "local.plain-v1:0", owner=OWNER)
    assert bits in (house.registry.get("local.plain-v1:0").directory / "model.safetensors").read_bytes()


def test_without_keys_a_sealed_model_is_listed_and_not_loaded(house: House, tmp_path: Path) -> None:
    bare = ModelRegistry(house.root, tmp_path / "bundled")
    assert ID in [info.model_id for info in bare.list()]
    with pytest.raises(ModelRefused, match="sealed, and there are no keys here"):
        bare.load(ID)
    with pytest.raises(UserError, match="only where there are keys"):
        bare.import_directory(house.source, "local.another-v1:0", owner=OWNER, seal=True)
    with pytest.raises(UserError, match="Only a model with an owner"):
        house.registry.import_directory(house.source, "local.another-v1:0", seal=True)


@pytest.mark.parametrize("changes", [{"owner": OTHER}, {"resource_id": "a" * 12}])
def test_a_record_that_was_changed_opens_nothing(house: House, changes: dict[str, str]) -> None:
    record = house.folder() / "outcrop.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | changes))
    house.registry._cached = None  # the file changed behind the registry's back
    with pytest.raises(Unsealable):
        house.registry.load(ID)


def test_a_changed_byte_and_another_models_weights_are_refused(house: House) -> None:
    house.registry.import_directory(house.source, "local.second-v1:0", owner=OWNER, seal=True)
    weights = house.folder() / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes((house.registry.get("local.second-v1:0").directory / "model.safetensors").read_bytes())
    with pytest.raises(Unsealable):
        house.registry.load(ID)
    at = len(whole) // 2
    weights.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(Unsealable):
        house.registry.load(ID)
    weights.write_bytes(whole)
    assert house.registry.load(ID)


def test_a_withdrawn_key_ends_the_model_for_its_owner_also_where_it_is_loaded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "KNOWN_FOR_S", -1.0)  # names are looked up with every request

    async def run() -> None:
        host = house.host()
        served = await host.get(ID, OWNER)
        assert await host.get(ID, OWNER) is served
        house.keys.lifecycle.disable(house.key_id)
        with pytest.raises(KeyRefused):
            await host.get(ID, OWNER)
        with pytest.raises(NotFound):
            await host.get(ID, OTHER)
        house.keys.lifecycle.enable(house.key_id)
        assert await host.get(ID, OWNER) is served
        await host.close()

    asyncio.run(run())


def test_the_default_key_of_an_account_seals_for_it_alone(house: House, tmp_path: Path) -> None:
    files = VaultedFiles(Vault(house.keys, SystemClock()), SCOPE)
    registry = ModelRegistry(house.root, tmp_path / "bundled", sealed_files=files)
    registry.import_directory(house.source, "local.default-v1:0", owner=OWNER, seal=True)
    assert registry.load("local.default-v1:0")
    assert registry.load(ID)
    foreign = VaultedFiles(Vault(house.keys, SystemClock()), SCOPE, house.key_id)
    registry = ModelRegistry(house.root, tmp_path / "bundled", sealed_files=foreign)
    with pytest.raises(KeyRefused):
        registry.import_directory(house.source, "local.foreign-v1:0", owner=OTHER, seal=True)


def test_an_import_that_fails_leaves_nothing_sealed_behind(house: House) -> None:
    with pytest.raises(RuntimeError):
        house.registry.import_directory(
            house.source, "local.broken-v1:0", owner=OWNER, seal=True, progress=_stop_at_scan
        )
    assert [path.name for path in house.root.iterdir() if path.name != ".lock"] == [house.folder().name]


def _stop_at_scan(stage: str, done: int, total: int) -> None:
    if stage == "scan":
        raise RuntimeError
