"""What the audit trail keeps in tables: the index of management events, which the log can always make again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("happened_at", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("read_only", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("access_key_id", sa.Text, nullable=False),
        sa.Column("segment", sa.Text, nullable=False),
        sa.Column("line_offset", sa.BigInteger, nullable=False),
    )
    op.create_index("audit_events_by_time", "audit_events", ["account", "happened_at", "position"])
    op.create_index("audit_events_by_id", "audit_events", ["event_id"])
    op.create_table(
        "audit_resources",
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_index("audit_resources_by_position", "audit_resources", ["position"])
    op.create_index("audit_resources_by_name", "audit_resources", ["name"])
    # How far the index has read, in which log: another log's positions would mean nothing.
    op.create_table(
        "audit_index",
        sa.Column("log", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
