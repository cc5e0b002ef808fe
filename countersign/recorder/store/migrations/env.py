"""What Alembic runs; it is given the connection, and with it the transaction, by :func:`.upgrade`."""

from __future__ import annotations

from alembic import context

from countersign.recorder.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite's is as well, once the driver is kept from committing by itself
)
with context.begin_transaction():
    context.run_migrations()
