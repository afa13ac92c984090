"""Users, and the groups that they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outcrop.base.errors import StillInUse
from outcrop.base.tables import Row, Transaction
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.holdings import checked_boundary, must_hold_nothing, release
from outcrop.trust.identity.part import Part
from outcrop.trust.identity.records import Group, User
from outcrop.trust.identity.tags import Tags, put_tags, remove_tags, tags_of, tags_of_many


class Users(Part):
    """The users of every account."""

    def create(self, account: str, name: str, path: str = "/", boundary: str | None = None, tags: Tags = ()) -> User:
        """Make a user, who may do nothing yet."""
        with self._change("user.create") as transaction:
            columns = {"boundary": checked_boundary(transaction, account, boundary)}
            row = entities.insert(transaction, account, "user", name, path=path, now=self._now(), columns=columns)
            put_tags(transaction, row["id"], tags)
            return user_of(row, tags_of(transaction, row["id"]))

    def get(self, account: str, name: str) -> User:
        """The user of this name, or ``NotFound``."""
        row = entities.find(self._database, account, "user", name)
        return user_of(row, tags_of(self._database, row["id"]))

    def all(self, account: str, path_prefix: str = "/") -> list[User]:
        """The users of an account by name."""
        tags = tags_of_many(
            self._database,
            "resource IN (SELECT id FROM entities WHERE account = :account AND kind = 'user')",
            {"account": account},
        )
        rows = entities.listed(self._database, account, "user", path_prefix)
        return [user_of(row, tags.get(row["id"], {})) for row in rows]

    def update(self, account: str, name: str, new_name: str | None = None, new_path: str | None = None) -> None:
        """Rename or move a user; keys, groups and policies stay."""
        with self._change("user.update") as transaction:
            entities.rename(transaction, entities.find(transaction, account, "user", name), new_name, new_path)

    def delete(self, account: str, name: str, *, force: bool = False) -> None:
        """Delete a user who has nothing any more (``StillInUse`` else); ``force`` removes what it has as well."""
        with self._change("user.delete") as transaction:
            row = entities.find(transaction, account, "user", name)
            if not force:
                _must_be_bare(transaction, row)
            release(transaction, row["id"])
            owner = {"id": row["id"]}
            transaction.execute("DELETE FROM memberships WHERE user_id = :id", owner)
            transaction.execute(
                "DELETE FROM last_uses WHERE id IN (SELECT access_key_id FROM access_keys WHERE owner = :id)", owner
            )
            transaction.execute("DELETE FROM access_keys WHERE owner = :id", owner)
            transaction.execute("DELETE FROM service_credentials WHERE owner = :id", owner)
            entities.delete(transaction, row["id"])

    def tag(self, account: str, name: str, tags: Tags) -> None:
        """Add or replace tags."""
        with self._change("user.tag") as transaction:
            put_tags(transaction, entities.find(transaction, account, "user", name)["id"], tags)

    def untag(self, account: str, name: str, keys: Sequence[str]) -> None:
        """Take tags away."""
        with self._change("user.untag") as transaction:
            remove_tags(transaction, entities.find(transaction, account, "user", name)["id"], keys)


class Groups(Part):
    """The groups of every account and who is in them."""

    def create(self, account: str, name: str, path: str = "/") -> Group:
        """Make an empty group."""
        with self._change("group.create") as transaction:
            return Group(
                *entities.common(entities.insert(transaction, account, "group", name, path=path, now=self._now()))
            )

    def get(self, account: str, name: str) -> Group:
        """The group of this name, or ``NotFound``."""
        return Group(*entities.common(entities.find(self._database, account, "group", name)))

    def all(self, account: str, path_prefix: str = "/") -> list[Group]:
        """The groups of an account by name."""
        return [Group(*entities.common(row)) for row in entities.listed(self._database, account, "group", path_prefix)]

    def update(self, account: str, name: str, new_name: str | None = None, new_path: str | None = None) -> None:
        """Rename or move a group."""
        with self._change("group.update") as transaction:
            entities.rename(transaction, entities.find(transaction, account, "group", name), new_name, new_path)

    def delete(self, account: str, name: str) -> None:
        """Delete a group without users and policies, or ``StillInUse``."""
        with self._change("group.delete") as transaction:
            row = entities.find(transaction, account, "group", name)
            if transaction.query("SELECT 1 FROM memberships WHERE group_id = :id", {"id": row["id"]}):
                raise StillInUse("Cannot delete entity, must remove users from group first.")
            must_hold_nothing(transaction, row["id"])
            entities.delete(transaction, row["id"])

    def add_user(self, account: str, group: str, user: str) -> None:
        """Put a user into a group; being in it already is no mistake."""
        with self._change("group.add_user") as transaction:
            members = _membership(transaction, account, group, user)
            held = transaction.query("SELECT group_id FROM memberships WHERE user_id = :user", members)
            if members["group"] not in [row["group_id"] for row in held]:
                entities.within(len(held) + 1, limits.GROUPS_PER_USER, "GroupsPerUser")
                transaction.execute("INSERT INTO memberships (group_id, user_id) VALUES (:group, :user)", members)

    def remove_user(self, account: str, group: str, user: str) -> None:
        """Take a user out of a group; not being in it is no mistake."""
        with self._change("group.remove_user") as transaction:
            members = _membership(transaction, account, group, user)
            transaction.execute("DELETE FROM memberships WHERE group_id = :group AND user_id = :user", members)

    def members(self, account: str, name: str) -> list[User]:
        """The users in a group by name."""
        row = entities.find(self._database, account, "group", name)
        rows = self._database.query(
            f"{entities.SELECT} JOIN memberships ON user_id = entities.id WHERE group_id = :id ORDER BY name_folded",
            {"id": row["id"]},
        )
        return [user_of(row, tags_of(self._database, row["id"])) for row in rows]

    def of_user(self, account: str, user: str) -> list[Group]:
        """The groups that a user is in, by name."""
        row = entities.find(self._database, account, "user", user)
        rows = self._database.query(
            f"{entities.SELECT} JOIN memberships ON group_id = entities.id WHERE user_id = :id ORDER BY name_folded",
            {"id": row["id"]},
        )
        return [Group(*entities.common(row)) for row in rows]


def user_of(row: Row, tags: Mapping[str, str]) -> User:
    return User(*entities.common(row), boundary=row["boundary"], tags=tags)


def _must_be_bare(transaction: Transaction, row: Row) -> None:
    owner = {"id": row["id"]}
    if transaction.query("SELECT 1 FROM access_keys WHERE owner = :id", owner):
        raise StillInUse("Cannot delete entity, must delete access keys first.")
    if transaction.query("SELECT 1 FROM service_credentials WHERE owner = :id", owner):
        raise StillInUse("Cannot delete entity, must delete service-specific credentials first.")
    if transaction.query("SELECT 1 FROM memberships WHERE user_id = :id", owner):
        raise StillInUse("Cannot delete entity, must remove user from groups first.")
    must_hold_nothing(transaction, row["id"])


def _membership(transaction: Transaction, account: str, group: str, user: str) -> dict[str, str]:
    return {
        "group": entities.find(transaction, account, "group", group)["id"],
        "user": entities.find(transaction, account, "user", user)["id"],
    }
