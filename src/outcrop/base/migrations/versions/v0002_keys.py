"""Customer-managed keys, their versions, aliases and grants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "kms_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, nullable=False, index=True),
        sa.Column("manager", sa.Text, nullable=False),
        sa.Column("usage", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("rotating", sa.Text, nullable=False),
        sa.Column("rotation_days", sa.Integer),
        sa.Column("rotation_next", sa.Text),
        sa.Column("deletion_at", sa.Text),
        sa.Column("deletion_days", sa.Integer),
        sa.Column("material", sa.LargeBinary),
    )
    op.create_table(
        "kms_versions",
        sa.Column("key_id", sa.Text, sa.ForeignKey("kms_keys.key_id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "kms_aliases",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, sa.ForeignKey("kms_keys.key_id"), nullable=False, index=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
    )
    op.create_table(
        "kms_grants",
        sa.Column("grant_id", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, sa.ForeignKey("kms_keys.key_id"), nullable=False, index=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("grantee", sa.Text, nullable=False),
        sa.Column("retiring", sa.Text, nullable=False, index=True),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("operations", sa.Text, nullable=False),
        sa.Column("constraints", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "kms_tags",
        sa.Column("key_id", sa.Text, sa.ForeignKey("kms_keys.key_id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
