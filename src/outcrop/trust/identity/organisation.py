"""Accounts, and the organisation that holds them: a root, units below it as a tree, the management account.

The first account is the management account, to which no control policy applies. Source of the rules and the forms of
ids: AWS Organizations User Guide. Not covered: invitations, delegated administrators, consolidated billing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from outcrop.base.arn import AccountId, Arn, account_id
from outcrop.base.errors import AlreadyExists, NotFound, StillInUse, UserError
from outcrop.base.tables import Row, Transaction
from outcrop.trust.crypto import random_lower_id
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.names import account_alias
from outcrop.trust.identity.part import Part, Reader
from outcrop.trust.identity.records import Account, AccountStatus, Organisation, OrganisationalUnit

_UNIT_NAME = re.compile(r"[ -~]{1,128}")
FULL_AWS_ACCESS = "p-FullAWSAccess"


class Organisations(Part):
    """The accounts of the deployment and the tree that they stand in."""

    def create_account(self, account: str | None, partition: str, name: str = "") -> Account:
        """Make a further account below the organisation's root; without a number, a random one."""
        chosen = account_id(account) if account else AccountId(str(random.SystemRandom().randrange(10**11, 10**12)))
        with self._change("account.create") as transaction:
            return self.insert_account(transaction, chosen, partition, name)

    def insert_account(self, transaction: Transaction, account: AccountId, partition: str, name: str = "") -> Account:
        """Make an account with its root within a transaction; the first one also makes the organisation."""
        if transaction.query("SELECT 1 FROM accounts WHERE account = :account", {"account": account}):
            raise AlreadyExists(f"There is an account {account} already.")
        if _UNIT_NAME.fullmatch(name or account) is None:
            raise UserError("An account's name has up to 128 printable ASCII characters.")
        organisation = _organisation(transaction) or self._found(transaction, account)
        transaction.execute(
            "INSERT INTO accounts (account, partition, name, status, parent, created_at) "
            "VALUES (:account, :partition, :name, 'ACTIVE', :parent, :now)",
            {
                "account": account,
                "partition": partition,
                "name": name or account,
                "parent": organisation.root,
                "now": self._now(),
            },
        )
        _attach_default(transaction, account)
        transaction.execute(
            "INSERT INTO entities (id, account, kind, name, name_folded, path, created_at) "
            "VALUES (:account, :account, 'root', 'root', 'root', '/', :now)",
            {"account": account, "now": self._now()},
        )
        return _account(_account_row(transaction, account))

    def account(self, account: str) -> Account:
        """The account of this number, or ``NotFound``."""
        return _account(_account_row(self._database, account))

    def accounts(self) -> Sequence[Account]:
        """All accounts by number."""
        return [_account(row) for row in self._database.query("SELECT * FROM accounts ORDER BY account")]

    def set_status(self, account: str, status: AccountStatus) -> Account:
        """Suspend an account, whose credentials then prove nothing, or make it active again."""
        with self._change("account.status") as transaction:
            _account_row(transaction, account)
            if status != "ACTIVE" and self._manages(transaction, account):
                raise UserError("The management account cannot be suspended.")
            transaction.execute(
                "UPDATE accounts SET status = :status WHERE account = :account", {"status": status, "account": account}
            )
        return self.account(account)

    def set_alias(self, account: str, alias: str) -> None:
        """Give an account its alias, instead of the one it may have; each alias once in the deployment."""
        account_alias(alias)
        with self._change("alias.set") as transaction:
            _account_row(transaction, account)
            holder = transaction.query("SELECT account FROM accounts WHERE alias = :alias", {"alias": alias})
            if holder:
                raise AlreadyExists(f"The account alias {alias} already exists.")
            transaction.execute(
                "UPDATE accounts SET alias = :alias WHERE account = :account", {"alias": alias, "account": account}
            )

    def delete_alias(self, account: str, alias: str) -> None:
        """Take the alias from an account, or ``NotFound`` when it is not its own."""
        with self._change("alias.delete") as transaction:
            if not transaction.execute(
                "UPDATE accounts SET alias = NULL WHERE account = :account AND alias = :alias",
                {"account": account, "alias": alias},
            ):
                raise NotFound(f"The account alias {alias} cannot be found.")

    def organisation(self) -> Organisation:
        """The organisation; ``NotFound`` before the first account."""
        found = _organisation(self._database)
        if found is None:
            raise NotFound("There is no organisation yet.", "`outcrop up` makes the first account, and it.")
        return found

    def create_unit(self, name: str, parent: str | None = None) -> OrganisationalUnit:
        """A new unit below ``parent`` (the root); names are unique below one parent."""
        with self._change("unit.create") as transaction:
            organisation = _organisation(transaction)
            above = parent or (organisation.root if organisation else "")
            depth = len(path_to(transaction, above))  # the root is level 0
            if _UNIT_NAME.fullmatch(name) is None:
                raise UserError("A unit's name has 1 to 128 printable ASCII characters.")
            if transaction.query(
                "SELECT 1 FROM organisational_units WHERE parent = :parent AND name = :name",
                {"parent": above, "name": name},
            ):
                raise AlreadyExists(f"There is a unit {name!r} below {above} already.")
            entities.within(depth, limits.UNIT_DEPTH, "OUDepth")
            known = transaction.query("SELECT count(*) AS n FROM organisational_units")[0]["n"]
            entities.within(known + 1, limits.UNITS, "OrganizationalUnits")
            identifier = random_lower_id(f"ou-{path_to(transaction, above)[0].removeprefix('r-')}-", 8)
            transaction.execute(
                "INSERT INTO organisational_units (id, parent, name) VALUES (:id, :parent, :name)",
                {"id": identifier, "parent": above, "name": name},
            )
            _attach_default(transaction, identifier)
        return OrganisationalUnit(identifier, above, name)

    def units(self) -> Sequence[OrganisationalUnit]:
        """All units, by parent and name."""
        rows = self._database.query("SELECT * FROM organisational_units ORDER BY parent, name")
        return [OrganisationalUnit(row["id"], row["parent"], row["name"]) for row in rows]

    def delete_unit(self, unit: str) -> None:
        """Delete a unit that holds no account and no unit, or ``StillInUse``."""
        with self._change("unit.delete") as transaction:
            if unit not in [row["id"] for row in transaction.query("SELECT id FROM organisational_units")]:
                raise no_target(unit)
            below = {"unit": unit}
            if transaction.query("SELECT 1 FROM accounts WHERE parent = :unit", below) or transaction.query(
                "SELECT 1 FROM organisational_units WHERE parent = :unit", below
            ):
                raise StillInUse(f"The unit {unit} is not empty.", "Move its accounts and units elsewhere first.")
            transaction.execute("DELETE FROM control_attachments WHERE target = :unit", below)
            transaction.execute("DELETE FROM organisational_units WHERE id = :unit", below)

    def move_account(self, account: str, parent: str | None) -> Account:
        """Put an account below another unit or the root; ``None`` takes it out of the organisation."""
        with self._change("account.move") as transaction:
            held = _account_row(transaction, account)
            if parent is None and self._manages(transaction, account):
                raise UserError("The management account cannot leave the organisation.")
            if parent is not None:
                path_to(transaction, parent)
                if not held["parent"]:
                    _attach_default(transaction, account)
            else:
                transaction.execute("DELETE FROM control_attachments WHERE target = :account", {"account": account})
            transaction.execute(
                "UPDATE accounts SET parent = :parent WHERE account = :account",
                {"parent": parent or "", "account": account},
            )
        return self.account(account)

    def organisation_path(self, account: str) -> str:
        """``o-…/r-…/ou-…/`` of an account, as the condition key ``aws:PrincipalOrgPaths`` has it; empty outside."""
        found = _organisation(self._database)
        held = _account_row(self._database, account)
        if found is None or not held["parent"]:
            return ""
        return "/".join([found.id, *path_to(self._database, held["parent"])]) + "/"

    def arn(self, account: str) -> Arn:
        """The ARN of an account's root."""
        return Arn(_account_row(self._database, account)["partition"], "iam", "", account, "root")

    def _found(self, transaction: Transaction, management: AccountId) -> Organisation:
        made = Organisation(random_lower_id("o-", 10), random_lower_id("r-", 4), management, self._now())
        transaction.execute(
            "INSERT INTO organisation (id, root, management_account, created_at) "
            "VALUES (:id, :root, :management, :now)",
            {"id": made.id, "root": made.root, "management": management, "now": made.created_at},
        )
        transaction.execute(
            "INSERT INTO control_policies (id, kind, name, description, document, created_at) "
            "VALUES (:id, 'SERVICE_CONTROL_POLICY', 'FullAWSAccess', 'Allows access to every operation', :text, :now)",
            {
                "id": FULL_AWS_ACCESS,
                "text": '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
                "now": made.created_at,
            },
        )
        _attach_default(transaction, made.root)
        return made

    @staticmethod
    def _manages(reader: Reader, account: str) -> bool:
        found = _organisation(reader)
        return found is not None and found.management_account == account


def path_to(reader: Reader, target: str) -> list[str]:
    """The root, the units on the way and ``target`` itself, a unit or the root; ``NotFound`` for anything else."""
    found = _organisation(reader)
    parents = {row["id"]: row["parent"] for row in reader.query("SELECT id, parent FROM organisational_units")}
    path = [target]
    while path[0] in parents:
        path.insert(0, parents[path[0]])
    if found is None or path[0] != found.root:
        raise no_target(target)
    return path


def no_target(target: str) -> NotFound:
    return NotFound(
        f"There is no root, unit or account {target} in the organisation.", "`outcrop admin ou list` shows the tree."
    )


def _attach_default(transaction: Transaction, target: str) -> None:
    transaction.execute(
        "INSERT INTO control_attachments (policy, target) VALUES (:policy, :target) "
        "ON CONFLICT (policy, target) DO NOTHING",
        {"policy": FULL_AWS_ACCESS, "target": target},
    )


def _organisation(reader: Reader) -> Organisation | None:
    rows = reader.query("SELECT * FROM organisation")
    if not rows:
        return None
    row = rows[0]
    return Organisation(row["id"], row["root"], AccountId(row["management_account"]), row["created_at"])


def _account_row(reader: Reader, account: str) -> Row:
    rows = reader.query("SELECT * FROM accounts WHERE account = :account", {"account": account})
    if not rows:
        raise entities.no_account(account)
    return rows[0]


def _account(row: Row) -> Account:
    return Account(
        AccountId(row["account"]),
        row["partition"],
        row["name"],
        row["status"],
        row["parent"],
        row["alias"],
        row["created_at"],
    )
