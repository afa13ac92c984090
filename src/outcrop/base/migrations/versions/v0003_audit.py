"""What the audit trail keeps in tables: the index of management events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table("placeholder_0003", sa.Column("id", sa.Integer, primary_key=True))
