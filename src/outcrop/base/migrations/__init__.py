"""The history of the database's tables: one Alembic revision a file, in one line, never edited once released.

A revision is named ``vNNNN_subject.py``; its ``revision`` is ``NNNN`` and its ``down_revision`` the one before. Types
are SQLAlchemy's, so that SQLite and PostgreSQL get the same tables. There is no way down: a backup is.
"""
