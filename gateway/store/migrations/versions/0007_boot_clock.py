"""When a turn began, by a clock that nobody sets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("turns", sa.Column("booted", sa.String(), server_default="", nullable=False))
    op.add_column("turns", sa.Column("began_boot", sa.Float(), server_default="0", nullable=False))
