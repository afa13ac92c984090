"""Unguessable names and secrets, from the operating system's random source."""

from __future__ import annotations

import base64
import secrets


def random_token(size_bytes: int = 32) -> str:
    """A URL-safe text of ``size_bytes`` random bytes (4 characters for every 3 bytes)."""
    return secrets.token_urlsafe(size_bytes)


def random_access_key_id() -> str:
    """A long-term access key id as AWS forms them: ``AKIA`` and 16 base32 characters, 80 random bits."""
    return "AKIA" + base64.b32encode(secrets.token_bytes(10)).decode()


def random_secret_key() -> str:
    """A secret access key as AWS forms them: 40 base64 characters, 240 random bits."""
    return base64.b64encode(secrets.token_bytes(30)).decode()
