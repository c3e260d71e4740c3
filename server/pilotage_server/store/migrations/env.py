"""Run revisions on the connection that `pilotage_server.store.migrate` hands over.

There is no offline mode and no URL: a database is only ever changed by the process that holds its lock.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    transaction_per_migration=False,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
