"""Whom a message is to reach at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("notifies", sa.Boolean(), server_default="0", nullable=False))
    op.add_column("outbox", sa.Column("mentions", sa.String(), server_default="", nullable=False))
