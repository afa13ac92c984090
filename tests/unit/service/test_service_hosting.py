"""Models at work: what an id means while models come and go."""

from __future__ import annotations

from pathlib import Path

import boto3
import botocore.exceptions
import pytest

from outcrop.models.registry import ModelRegistry
from outcrop.service import assemble, hosting
from serving import TINY_MODEL_ID, running_service


def test_a_model_imported_anew_under_its_old_id_is_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hosting, "KNOWN_FOR_S", -1.0)  # names are looked up with every request
    with running_service(tmp_path / "data") as service:
        client = boto3.client(
            "bedrock-runtime",
            endpoint_url=service.http_url,
            region_name=service.region,
            aws_access_key_id=service.access_key_id,
            aws_secret_access_key=service.secret_access_key,
        )

        def ask() -> str:
            messages = [{"role": "user", "content": [{"text": "Hi"}]}]
            return client.converse(modelId=TINY_MODEL_ID, messages=messages)["stopReason"]

        assert ask() == "end_turn"
        assert ask() == "end_turn"
        assert len(service.engines) == 1
        registry = ModelRegistry(service.data / assemble.MODELS_FOLDER)
        registry.remove(TINY_MODEL_ID)
        with pytest.raises(botocore.exceptions.ClientError, match="model identifier is invalid"):
            ask()
        registry.import_directory(tmp_path / "data-source" / "tiny", TINY_MODEL_ID)
        assert ask() == "end_turn"
        assert len(service.engines) == 2
