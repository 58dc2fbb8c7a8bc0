"""What a project's container is made of: the stack asked for, the recipe, and the layers that it was built from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("projects", sa.Column("wanted", sa.String(), server_default="", nullable=False))
    # Whether a file or a person decided is not known of these; what they run stays so, until `--stack auto`.
    op.execute("UPDATE projects SET wanted = stack")
    op.add_column("projects", sa.Column("recipe", sa.Text(), server_default="", nullable=False))
    op.add_column("projects", sa.Column("layers", sa.Text(), server_default="", nullable=False))
