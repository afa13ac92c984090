"""Quotas by account and model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table("placeholder_0004", sa.Column("id", sa.Integer, primary_key=True))
