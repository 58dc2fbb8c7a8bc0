"""What agents tell each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("messages", sa.Column("room_id", sa.Integer(), nullable=True))
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("call", sa.String(), nullable=False),
        sa.Column("from_id", sa.Integer(), nullable=False),
        sa.Column("to_id", sa.Integer(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("hops", sa.Integer(), nullable=False),
        sa.Column("asks", sa.Boolean(), nullable=False),
        sa.Column("deadline", sa.Float(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["from_id"], ["projects.id"], name=op.f("fk_notes_from_id")),
        sa.ForeignKeyConstraint(["to_id"], ["projects.id"], name=op.f("fk_notes_to_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notes")),
        sa.UniqueConstraint("call", name=op.f("uq_notes_call")),
    )
    op.create_index("ix_notes_from_id_to_id_sent_at", "notes", ["from_id", "to_id", "sent_at"])
    op.create_index("ix_notes_message_id", "notes", ["message_id"])
