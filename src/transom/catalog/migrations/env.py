"""How Alembic runs the steps: on the connection and in the transaction that it is handed."""

from alembic import context

from transom.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    render_as_batch=True,
)
context.run_migrations()
