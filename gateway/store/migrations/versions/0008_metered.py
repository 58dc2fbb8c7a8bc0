"""What a turn's calls cost by the gateway's own account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("turns", sa.Column("metered_usd", sa.Float(), server_default="0", nullable=False))
