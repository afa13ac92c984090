"""What Alembic runs for each upgrade: on the connection, and in the transaction, that ``base.tables`` holds open."""

from alembic import context

from outcrop.base.faultpoints import point

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,
    target_metadata=None,
    on_version_apply=lambda **step: point("base.upgrade.step"),
)
context.run_migrations()
