"""Customer-managed keys, their versions, aliases and grants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table("placeholder_0002", sa.Column("id", sa.Integer, primary_key=True))
