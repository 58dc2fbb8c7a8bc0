"""Whether a reply was held until its person writes again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("held", sa.Boolean(), server_default="0", nullable=False))
