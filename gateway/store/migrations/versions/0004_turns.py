"""What a turn used, what it asks of people, what it is waiting for; files; older dialogues of a session."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("projects", sa.Column("model", sa.String(), server_default="", nullable=False))
    op.add_column("projects", sa.Column("agent", sa.String(), server_default="", nullable=False))
    op.add_column("messages", sa.Column("files", sa.Text(), server_default="", nullable=False))
    op.add_column("messages", sa.Column("presses", sa.String(), server_default="", nullable=False))
    op.create_index("ix_messages_conversation_id", "messages", ["conversation_id"])
    op.add_column("outbox", sa.Column("choices", sa.Text(), server_default="", nullable=False))
    op.add_column("outbox", sa.Column("file", sa.Text(), server_default="", nullable=False))
    op.add_column("turns", sa.Column("model", sa.String(), server_default="", nullable=False))
    for name in ("cache_read_tokens", "cache_write_tokens", "calls", "limits", "parks"):
        op.add_column("turns", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.add_column("turns", sa.Column("at_least", sa.Boolean(), server_default="0", nullable=False))
    op.add_column("turns", sa.Column("tools", sa.Text(), server_default="", nullable=False))
    op.add_column("turns", sa.Column("parked_until", sa.Float()))
    op.add_column("turns", sa.Column("waited_s", sa.Float(), server_default="0", nullable=False))
    op.create_index("ix_turns_project_id_started_at", "turns", ["project_id", "started_at"])
    op.create_table(
        "questions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("turn_id", sa.Integer()),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("conversation_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("requester", sa.String(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("deadline", sa.Float(), nullable=False),
        sa.Column("card_id", sa.Integer()),
        sa.Column("outcome", sa.String(), server_default="", nullable=False),
        sa.Column("answer", sa.Text(), server_default="", nullable=False),
        sa.Column("answered_by", sa.String(), server_default="", nullable=False),
        sa.Column("answered_at", sa.Float()),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_questions_turn_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_questions_project_id"),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name="fk_questions_conversation_id"),
        sa.PrimaryKeyConstraint("id", name="pk_questions"),
        sa.UniqueConstraint("turn_id", "external_id", name="uq_questions_turn_id_external_id"),
    )
    waiting = sa.text("answered_at IS NULL")
    op.create_index("ix_questions_open", "questions", ["turn_id"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_index(
        "ix_questions_asked", "questions", ["conversation_id"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_table(
        "rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("allowed_by", sa.String(), nullable=False),
        sa.Column("allowed_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_rules_session_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
        sa.UniqueConstraint("session_id", "rule", name="uq_rules_session_id_rule"),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("usd", sa.Float(), nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("granted_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_grants_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
    )
    op.create_table(
        "dialogues",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("agent_session", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("began_at", sa.Float(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_dialogues_session_id"),
        sa.PrimaryKeyConstraint("id", name="pk_dialogues"),
        sa.UniqueConstraint("session_id", "agent_session", name="uq_dialogues_session_id_agent_session"),
    )
