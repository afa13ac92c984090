"""Accounts and the organisation, principals and their credentials, policies and what they are attached to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _organisation()
    _entities()
    _policies()
    _credentials()
    op.create_table(
        "oidc_providers",
        sa.Column("arn", sa.Text, primary_key=True),
        _account(),
        _text("url"),
        _text("client_ids"),  # JSON
        _text("thumbprints"),  # JSON
        _text("jwks"),  # JSON, empty until given
        _text("created_at"),
    )
    op.create_table(
        "tags",
        sa.Column("resource", sa.Text, primary_key=True),
        sa.Column("key_folded", sa.Text, primary_key=True),
        _text("key"),
        _text("value"),
        sa.Column("position", sa.Integer, nullable=False),
    )
    # Counts changes to the tables of this revision, so that caches outlive changes to others.
    op.create_table("identity_changes", sa.Column("count", sa.BigInteger, nullable=False))
    op.execute("INSERT INTO identity_changes VALUES (0)")


def _organisation() -> None:
    op.create_table(
        "organisation",
        sa.Column("id", sa.Text, primary_key=True),
        _text("root"),
        _text("management_account"),
        _text("created_at"),
    )
    op.create_table("organisational_units", sa.Column("id", sa.Text, primary_key=True), _text("parent"), _text("name"))
    op.create_table(
        "accounts",
        sa.Column("account", sa.Text, primary_key=True),
        _text("partition"),
        _text("name"),
        _text("status"),
        _text("parent"),  # the organisation's root, a unit, or empty outside the organisation
        sa.Column("alias", sa.Text, unique=True),
        _text("created_at"),
    )
    op.create_table(
        "control_policies",
        sa.Column("id", sa.Text, primary_key=True),
        _text("kind"),
        _text("name"),
        _text("description"),
        _text("document"),
        _text("created_at"),
        sa.UniqueConstraint("kind", "name"),
    )
    op.create_table(
        "control_attachments",
        sa.Column("policy", sa.Text, sa.ForeignKey("control_policies.id"), primary_key=True),
        sa.Column("target", sa.Text, primary_key=True),
    )


def _entities() -> None:
    op.create_table(
        "entities",
        sa.Column("id", sa.Text, primary_key=True),
        _account(),
        _text("kind"),
        _text("name"),
        _text("name_folded"),
        _text("path"),
        _text("created_at"),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("boundary", sa.Text),  # users and roles: a managed policy's ARN
        sa.Column("trust_policy", sa.Text),  # roles
        sa.Column("max_session_s", sa.Integer),
        sa.Column("revoked_before", sa.Text),
        sa.Column("versions_made", sa.Integer),  # policies
        sa.Column("updated_at", sa.Text),
        sa.UniqueConstraint("account", "kind", "name_folded"),
    )
    op.create_table("memberships", _entity("group_id"), _entity("user_id"))
    op.create_index("memberships_by_user", "memberships", ["user_id"])


def _policies() -> None:
    op.create_table(
        "policy_versions",
        _entity("policy"),
        sa.Column("version", sa.Integer, primary_key=True),
        _text("document"),
        sa.Column("is_default", sa.Integer, nullable=False),
        _text("created_at"),
    )
    op.create_table(
        "inline_policies", _entity("entity"), sa.Column("name", sa.Text, primary_key=True), _text("document")
    )
    op.create_table("attachments", _entity("entity"), sa.Column("policy_arn", sa.Text, primary_key=True))
    op.create_index("attachments_by_policy", "attachments", ["policy_arn"])


def _credentials() -> None:
    op.create_table(
        "access_keys",
        sa.Column("access_key_id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, sa.ForeignKey("entities.id"), nullable=False, index=True),
        sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
        sa.Column("active", sa.Integer, nullable=False),
        _text("created_at"),
    )
    op.create_table(
        "service_credentials",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, sa.ForeignKey("entities.id"), nullable=False, index=True),
        _text("service"),
        sa.Column("alias", sa.Text, nullable=False, unique=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("verifier", sa.LargeBinary, nullable=False),
        sa.Column("active", sa.Integer, nullable=False),
        _text("created_at"),
        sa.Column("expires_at", sa.Text),
    )
    op.create_table(
        "last_uses",
        sa.Column("id", sa.Text, primary_key=True),  # an access key or a role
        _text("used_at"),
        _text("service"),
        _text("region"),
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _account() -> sa.Column[str]:
    return sa.Column("account", sa.Text, sa.ForeignKey("accounts.account"), nullable=False)


def _entity(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, sa.ForeignKey("entities.id"), primary_key=True)
