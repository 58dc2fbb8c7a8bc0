"""At whose word a message was written, and what agents were granted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("messages", sa.Column("word", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "agent_grants",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("power", sa.String(), nullable=False),
        sa.Column("over_id", sa.Integer(), nullable=True),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("granted_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["over_id"], ["projects.id"], name=op.f("fk_agent_grants_over_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_agent_grants_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_grants")),
    )
