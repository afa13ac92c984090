"""Denied decisions, kept for administrators to have explained."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table("placeholder_0006", sa.Column("id", sa.Integer, primary_key=True))
