"""What a project's container has of its own: user, SSH port, image; and where its source was cloned from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("projects", sa.Column("uid", sa.Integer(), nullable=True))
    op.add_column("projects", sa.Column("gid", sa.Integer(), nullable=True))
    op.add_column("projects", sa.Column("ssh_port", sa.Integer(), nullable=True))
    op.add_column("projects", sa.Column("image", sa.String(), server_default="", nullable=False))
    op.add_column("projects", sa.Column("git_url", sa.String(), server_default="", nullable=False))
    op.add_column("projects", sa.Column("purging", sa.Boolean(), server_default="0", nullable=False))
    op.add_column("projects", sa.Column("grave", sa.Text(), server_default="", nullable=False))
    op.create_index("uq_projects_ssh_port", "projects", ["ssh_port"], unique=True)
