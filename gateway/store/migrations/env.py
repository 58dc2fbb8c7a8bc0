"""Alembic's entry: migrates the SQLite file that `gateway.store.schema` names."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from gateway.store.tables import metadata

path = context.config.attributes["path"]
engine = create_engine(f"sqlite:///{path}")
with engine.begin() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
