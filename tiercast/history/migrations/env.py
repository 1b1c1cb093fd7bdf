"""What Alembic runs for every command: it migrates on the connection that `migrating.py` hands over."""

from alembic import context

from tiercast.history.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
context.run_migrations()
