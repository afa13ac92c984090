"""The forms of names, paths, tags and aliases, as the IAM API reference states them, and the ids that go with them.

Id prefixes: IAM User Guide, "IAM identifiers". A tag that looks like one of our secrets is refused: tags are shown to
whoever may list them. Not covered: a secret of another form, or in a name or description.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from outcrop.base.errors import UserError
from outcrop.trust.identity import limits
from outcrop.trust.identity.records import EntityKind

ID_PREFIXES: Mapping[EntityKind, str] = {"user": "AIDA", "role": "AROA", "group": "AGPA", "policy": "ANPA"}
NAME_MAX: Mapping[EntityKind, int] = {"user": 64, "role": 64, "group": 128, "policy": 128}
SECRET_PREFIXES = ("ABSK", "bedrock-api-key-", "AKIA", "ASIA")
RESERVED_PATHS = ("/aws-service-role/", "/aws-reserved/")

_NAME = re.compile(r"[\w+=,.@-]+", re.ASCII)
_PATH = re.compile(r"/|/[!-~]+/")
_POLICY_PATH = re.compile(r"((/[A-Za-z0-9.,+@=_-]+)*)/")
_ALIAS = re.compile(r"[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]")
_SECRET_KEY = re.compile(r"[A-Za-z0-9/+]{40}")


def entity_name(kind: EntityKind, name: str) -> str:
    """``name`` if it can stand for an entity of this kind, else a ``UserError``."""
    if _NAME.fullmatch(name) is None or len(name) > NAME_MAX[kind]:
        raise UserError(
            f"The specified value for {kind}Name is invalid. It must contain only alphanumeric characters and/or the "
            f"following: +=,.@_- and have at most {NAME_MAX[kind]} of them."
        )
    return name


def entity_path(kind: EntityKind, path: str) -> str:
    """``path`` if it can lead to an entity of this kind, else a ``UserError``."""
    form = _POLICY_PATH if kind == "policy" else _PATH
    if form.fullmatch(path) is None or len(path) > 512:
        raise UserError(
            "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric "
            "characters and/or / characters."
        )
    if path.startswith(RESERVED_PATHS):
        raise UserError(f"The path {path} is kept for roles that services make for themselves.")
    return path


def account_alias(alias: str) -> str:
    """``alias`` if it can stand for an account, else a ``UserError``."""
    if _ALIAS.fullmatch(alias) is None:
        raise UserError(
            f"{alias!r} cannot be an account's alias.",
            "Use 3 to 63 lower-case letters, digits and single hyphens; begin and end with a letter or digit.",
        )
    return alias


def tag_pairs(tags: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Tags as a mapping; ``UserError`` for a malformed one, one given twice, or one that looks like a secret."""
    found: dict[str, str] = {}
    for key, value in tags:
        _check_tag(key, value)
        if key.casefold() in {other.casefold() for other in found}:
            raise UserError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
        found[key] = value
    if len(found) > limits.TAGS:
        raise UserError(f"A resource has at most {limits.TAGS} tags; {len(found)} were given.")
    return found


def _check_tag(key: str, value: str) -> None:
    if not 1 <= len(key) <= 128 or not _taggable(key):
        raise UserError("A tag's key has 1 to 128 letters, digits, spaces and _.:/=+-@ characters.")
    if len(value) > 256 or not _taggable(value):
        raise UserError(f"The value of tag {key!r} has at most 256 letters, digits, spaces and _.:/=+-@ characters.")
    if key.casefold().startswith("aws:"):
        raise UserError(f"Tag keys beginning with aws: are kept for AWS; {key!r} is not allowed.")
    if any(text.startswith(SECRET_PREFIXES) or _SECRET_KEY.fullmatch(text) for text in (key, value)):
        # the value itself is left out: it may be a secret, and errors are logged
        raise UserError("A tag looks like a key or a secret.", "Tags are shown to many; keep secrets elsewhere.")


def _taggable(text: str) -> bool:
    return all(letter in "_.:/=+-@" or unicodedata.category(letter)[0] in "LZN" for letter in text)
