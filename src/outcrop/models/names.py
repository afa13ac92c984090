"""Model ids and aliases: what they may look like, and which id a directory suggests.

A model id reads ``provider.name`` and up to two ``:version`` parts, for example ``local.smollm2-135m-v1:0``. What is
allowed here is what every one of Bedrock's own patterns allows (``BedrockModelId``, ``GetFoundationModelIdentifier``
and ``FoundationModelArn`` in the public service model), so that AWS clients accept it everywhere.
"""

from __future__ import annotations

import re
from pathlib import Path

from outcrop.base.errors import UserError

_ID_LENGTH_MAX = 140
_MODEL_ID = re.compile(r"[a-z0-9-]{1,63}\.[a-z0-9-]{2,63}(:[a-z0-9-]{1,63}){0,2}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}", re.ASCII)
_CACHE_FOLDER = re.compile(r"models--(?:.+--)?(.+)")


def is_model_id(text: str) -> bool:
    return len(text) <= _ID_LENGTH_MAX and _MODEL_ID.fullmatch(text) is not None


def check_model_id(text: str) -> str:
    """``text`` itself where it is a model id, else ``UserError``."""
    if not is_model_id(text):
        raise UserError(
            f"{text!r} is not a model id.",
            "A model id reads provider.name:version in lower-case letters, digits and hyphens, "
            "for example local.my-model-v1:0.",
        )
    return text


def check_alias(text: str) -> str:
    """``text`` itself where it can be an alias, else ``UserError``. Any AWS, Anthropic or OpenAI model name can."""
    if _ALIAS.fullmatch(text) is None:
        raise UserError(
            f"{text!r} cannot be an alias.",
            "An alias has up to 255 letters, digits, dots, colons, slashes, hyphens and underscores, and begins with "
            "a letter or digit.",
        )
    return text


def model_name(source: Path) -> str:
    """What people call the model in ``source``: the folder's name, or the repository's in a Hugging Face cache."""
    folder = source.resolve()
    if folder.parent.name == "snapshots" and (cached := _CACHE_FOLDER.fullmatch(folder.parent.parent.name)):
        return cached[1]
    return folder.name


def default_model_id(source: Path) -> str:
    """``local.<slug of the model's name>-v1:0``."""
    slug = re.sub(r"[^a-z0-9]+", "-", model_name(source).lower()).strip("-")[:60].rstrip("-")
    return f"local.{slug or 'model'}-v1:0"
