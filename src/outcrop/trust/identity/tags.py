"""Tags of users, roles, managed policies and OIDC providers; keys are unique in any case and keep the last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from outcrop.base.tables import Transaction
from outcrop.trust.identity import limits
from outcrop.trust.identity.entities import within
from outcrop.trust.identity.names import tag_pairs
from outcrop.trust.identity.part import Reader

Tags = Sequence[tuple[str, str]]


def tags_of(reader: Reader, resource: str) -> dict[str, str]:
    """The tags of one resource (an entity's id, a provider's ARN) in the order they were first given."""
    return tags_of_many(reader, "resource = :resource", {"resource": resource}).get(resource, {})


def tags_of_many(reader: Reader, where: str, parameters: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The tags of all resources that the condition ``where`` selects, by resource."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in reader.query(
        f"SELECT resource, key, value FROM tags WHERE {where} ORDER BY position, key_folded",  # noqa: S608 - ours
        parameters,
    ):
        found[row["resource"]][row["key"]] = row["value"]
    return found


def put_tags(transaction: Transaction, resource: str, tags: Tags) -> None:
    """Add tags, or give those that are there another value."""
    pairs = tag_pairs(tags)
    held = tags_of(transaction, resource)
    folded = {key.casefold() for key in (*held, *pairs)}
    within(len(folded), limits.TAGS, "TagsPerResource")
    for position, (key, value) in enumerate(pairs.items(), len(held)):
        transaction.execute(
            "INSERT INTO tags (resource, key_folded, key, value, position) "
            "VALUES (:resource, :folded, :key, :value, :position) "
            "ON CONFLICT (resource, key_folded) DO UPDATE SET key = excluded.key, value = excluded.value",
            {"resource": resource, "folded": key.casefold(), "key": key, "value": value, "position": position},
        )


def remove_tags(transaction: Transaction, resource: str, keys: Sequence[str]) -> None:
    """Take tags away; keys that are not there are no mistake."""
    for key in keys:
        transaction.execute(
            "DELETE FROM tags WHERE resource = :resource AND key_folded = :key",
            {"resource": resource, "key": key.casefold()},
        )
