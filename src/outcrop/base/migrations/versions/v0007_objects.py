"""Buckets and the objects in them; what is in an object lies in a sealed file that its version names.

Keys are bytes, so that they sort the same in every database whatever its collation: by UTF-8, as S3 lists them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "buckets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, nullable=False, index=True),
        sa.Column("kms_key", sa.Text),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "objects",
        sa.Column("bucket", sa.Text, sa.ForeignKey("buckets.name"), primary_key=True),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("version", sa.Text, nullable=False, unique=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("modified_at", sa.Text, nullable=False),
    )
