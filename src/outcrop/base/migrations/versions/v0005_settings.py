"""Settings of accounts: invocation logging, data retention."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table("placeholder_0005", sa.Column("id", sa.Integer, primary_key=True))
