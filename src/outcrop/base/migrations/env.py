"""What Alembic runs for each upgrade: on the connection, and in the transaction, that ``base.tables`` holds open."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True, target_metadata=None)
context.run_migrations()
