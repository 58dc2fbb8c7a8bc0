"""The database, table by table. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.store.portable import partial_index

#: The newest migration; a database that names one we do not know is refused.
SCHEMA = "0018"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: `made_source`: the bootstrap made the folder at `path`. `revived`: it took up a tombstone. They say what undoing it
#: removes and keeps. `desired` is what people asked for (up, down, deleted: a tombstone that keeps name and history);
#: `ready_at` is null until the bootstrap succeeded. What a project *is* at the moment is derived, never stored.
#: `uid`, `gid`, `ssh_port` and `image` belong to its container; a project without an image was made without one.
#: `limits`: memory, processors and processes of its container, where they differ from the configuration's. `leads`: its
#: agent answers where no project is active; of one at most.
#: `git_url` is set while what its bootstrap cloned is all that its source holds, and stays then. `purging`: of a
#: tombstone nothing is to be kept. `grave`: what the tombstone knew that this bootstrap took up, should that fail.
projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("path", String, nullable=False),
    Column("adopted", Boolean, nullable=False),
    Column("made_source", Boolean, nullable=False),
    Column("revived", Boolean, nullable=False),
    Column("stack", String, nullable=False),
    Column("token", String, nullable=False),
    Column("permissions", String, nullable=False),
    Column("desired", String, nullable=False),
    Column("ready_at", Float),
    Column("last_error", Text, nullable=False, server_default=""),
    Column("created_by", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("uid", Integer),
    Column("gid", Integer),
    Column("ssh_port", Integer),
    Column("image", String, nullable=False, server_default=""),
    Column("git_url", String, nullable=False, server_default=""),
    Column("purging", Boolean, nullable=False, server_default="0"),
    Column("grave", Text, nullable=False, server_default=""),
    Column("wanted", String, nullable=False, server_default=""),
    Column("recipe", Text, nullable=False, server_default=""),
    Column("layers", Text, nullable=False, server_default=""),
    Column("model", String, nullable=False, server_default=""),
    Column("agent", String, nullable=False, server_default=""),
    Column("limits", String, nullable=False, server_default=""),
    Column("leads", Boolean, nullable=False, server_default="0"),
    Index("uq_projects_ssh_port", "ssh_port", unique=True),
)

#: What projects ran with, one after the other; see `releases.py`. `number` is null for what did not come about.
releases = Table(
    "releases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("number", Integer),
    Column("at", Float, nullable=False),
    Column("what", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_by", String, nullable=False),
    Column("allowed_by", String, nullable=False),
    Column("told", Text, nullable=False),
    Column("image", String, nullable=False),
    Column("layers", Text, nullable=False),
    Column("stack", String, nullable=False),
    Column("wanted", String, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("model", String, nullable=False),
    Column("agent", String, nullable=False),
    Column("limits", String, nullable=False),
    UniqueConstraint("project_id", "number"),
)

#: `project_id` is the active project. A thread without one follows its room.
conversations = Table(
    "conversations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("transport", String, nullable=False),
    Column("room", String, nullable=False),
    Column("thread", String, nullable=False),
    Column("direct", Boolean, nullable=False),
    Column("ambient", Boolean, nullable=False),
    Column("project_id", ForeignKey("projects.id")),
    UniqueConstraint("transport", "room", "thread"),
)

#: One dialogue with the agent; `agent_session` resumes it, `generation` counts its resets.
sessions = Table(
    "sessions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("conversation_id", ForeignKey("conversations.id"), nullable=False),
    Column("agent_session", String, nullable=False, server_default=""),
    Column("generation", Integer, nullable=False, server_default="0"),
    UniqueConstraint("project_id", "conversation_id"),
)

#: `files`: what came with it, as JSON; the platform keeps them until a turn fetches them. `presses`: our message whose
#: button this is, by its platform's id; the text is the choice.
messages = Table(
    "messages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("transport", String, nullable=False),
    Column("external_id", String, nullable=False),
    Column("conversation_id", ForeignKey("conversations.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id")),
    Column("turn_id", ForeignKey("turns.id")),
    Column("sender", String, nullable=False),
    Column("sender_name", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("problem", Text, nullable=False, server_default=""),
    Column("files", Text, nullable=False, server_default=""),
    Column("presses", String, nullable=False, server_default=""),
    #: What it points at, as a quotation: never read as words of its sender.
    Column("quoted", Text, nullable=False, server_default=""),
    #: The person at whose word an agent wrote it; empty: its sender is one.
    Column("word", String, nullable=False, server_default=""),
    #: Where people read what concerns it, if not where it stands: of what agents tell each other.
    Column("room_id", Integer),
    Column("fate", String, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("settled_at", Float),
    UniqueConstraint("transport", "external_id"),
    partial_index("ix_messages_waiting", "fate", where=text("settled_at IS NULL")),
    partial_index("ix_messages_session", "project_id", "conversation_id", "fate", where=text("settled_at IS NULL")),
    Index("ix_messages_settled_at", "settled_at"),
    Index("ix_messages_turn_id", "turn_id"),
    Index("ix_messages_conversation_id", "conversation_id"),
)

#: Older dialogues of a session too, so that one of them can be taken up again. `title` is its first prompt.
dialogues = Table(
    "dialogues",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("agent", String, nullable=False),
    Column("agent_session", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    UniqueConstraint("session_id", "agent_session"),
)

#: What an agent may do in a session without asking again. `own`: the gateway asked, not the sled, and asks again.
rules = Table(
    "rules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("rule", Text, nullable=False),
    Column("own", Boolean, nullable=False, server_default="0"),
    Column("allowed_by", String, nullable=False),
    Column("allowed_at", Float, nullable=False),
    UniqueConstraint("session_id", "own", "rule"),
)

#: What people were asked. `turn_id`: the turn that waits for it; null for a question of the gateway's own, about a
#: project's budget. `external_id` is the sled's name for it. `body`: the sled's frame. `card_id`: the outgoing message
#: that asks. `number` tells it from others that are open in its conversation. Times are absolute, so that a restart
#: does not forget a deadline.
questions = Table(
    "questions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("turn_id", ForeignKey("turns.id")),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("external_id", String, nullable=False),
    Column("conversation_id", ForeignKey("conversations.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("requester", String, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("deadline", Float, nullable=False),
    Column("card_id", Integer),
    Column("outcome", String, nullable=False, server_default=""),
    Column("answer", Text, nullable=False, server_default=""),
    Column("answered_by", String, nullable=False, server_default=""),
    Column("answered_at", Float),
    UniqueConstraint("turn_id", "external_id"),
    partial_index("ix_questions_open", "turn_id", where=text("answered_at IS NULL")),
    partial_index("ix_questions_asked", "conversation_id", where=text("answered_at IS NULL")),
)

#: What an operator allowed a project's agent beyond what each may do: a command, or a named set of them (`power`), over
#: another project (`over_id`), or over all of them (null).
agent_grants = Table(
    "agent_grants",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("power", String, nullable=False),
    Column("over_id", ForeignKey("projects.id")),
    Column("granted_by", String, nullable=False),
    Column("granted_at", Float, nullable=False),
)

#: What an operator allowed a project beyond its budget, on one day.
grants = Table(
    "grants",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("day", String, nullable=False),
    Column("usd", Float, nullable=False),
    Column("granted_by", String, nullable=False),
    Column("granted_at", Float, nullable=False),
)

#: One agent run over one batch. Never two open ones per session, nor per project and slot: the database says so.
#: Tokens are as the model proxy counted them, so that a run that was cut is counted too; `at_least`: a call was cut
#: before it had told all. `tools`: the uses of each, as JSON. `limits`: how often the provider said not now.
#: `parked_until`: the provider serves us again then, and the turn continues; `parks`: how often that happened.
#: `waited_s`: seconds that it waited, for people or for the provider. `booted`, `began_boot`: of which start of the
#: machine, and how long that had been awake when it began.
turns = Table(
    "turns",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", String, nullable=False, unique=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("agent", String, nullable=False),
    Column("journal", String, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("stop_reason", String, nullable=False, server_default=""),
    Column("progress_id", Integer),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("ending", String, nullable=False, server_default=""),
    Column("reason", String, nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("cost_usd", Float, nullable=False, server_default="0"),
    Column("metered_usd", Float, nullable=False, server_default="0"),
    Column("input_tokens", Integer, nullable=False, server_default="0"),
    Column("output_tokens", Integer, nullable=False, server_default="0"),
    Column("model", String, nullable=False, server_default=""),
    Column("cache_read_tokens", Integer, nullable=False, server_default="0"),
    Column("cache_write_tokens", Integer, nullable=False, server_default="0"),
    Column("calls", Integer, nullable=False, server_default="0"),
    Column("limits", Integer, nullable=False, server_default="0"),
    Column("at_least", Boolean, nullable=False, server_default="0"),
    Column("tools", Text, nullable=False, server_default=""),
    Column("parks", Integer, nullable=False, server_default="0"),
    Column("parked_until", Float),
    Column("waited_s", Float, nullable=False, server_default="0"),
    Column("booted", String, nullable=False, server_default=""),
    Column("began_boot", Float, nullable=False, server_default="0"),
    #: Its agent asked that its answer be not sent.
    Column("hushed", Boolean, nullable=False, server_default="0"),
    Index("ix_turns_project_id_started_at", "project_id", "started_at"),
    Index("ix_turns_session_id_id", "session_id", "id"),
    partial_index("uq_turns_open_session", "session_id", unique=True, where=text("ended_at IS NULL")),
    partial_index("uq_turns_open_slot", "project_id", "slot", unique=True, where=text("ended_at IS NULL")),
)

#: Messages that are due at times: by a cron line, every so many seconds, or once. `due`: the next time, null when there
#: is none. `message_id`: what it sent last, until that is settled; no reference, as messages are swept. `rests`: it
#: failed too often, and waits for people.
schedules = Table(
    "schedules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("conversation_id", ForeignKey("conversations.id"), nullable=False),
    Column("made_by", String, nullable=False),
    Column("word", String, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("times", String, nullable=False),
    Column("cron", String, nullable=False),
    Column("every_s", Float, nullable=False),
    Column("zone", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("quiet", Boolean, nullable=False),
    Column("due", Float),
    Column("message_id", Integer),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("last_error", Text, nullable=False, server_default=""),
    Column("rests", Boolean, nullable=False, server_default="0"),
    Index("ix_schedules_due", "due"),
    Index("ix_schedules_project_id", "project_id"),
)

#: What one project's agent told another one's, or asked it. No reference to the message, as messages are swept.
notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("call", String, nullable=False, unique=True),
    Column("from_id", ForeignKey("projects.id"), nullable=False),
    Column("to_id", ForeignKey("projects.id"), nullable=False),
    Column("topic", String, nullable=False),
    Column("hops", Integer, nullable=False),
    Column("asks", Boolean, nullable=False),
    Column("deadline", Float, nullable=False),
    Column("late", Boolean, nullable=False, server_default="0"),
    Column("message_id", Integer, nullable=False),
    Column("sent_at", Float, nullable=False),
    Index("ix_notes_from_id_to_id_sent_at", "from_id", "to_id", "sent_at"),
    Index("ix_notes_message_id", "message_id"),
)

#: What goes out. `replaces` is the progress row whose message this text takes the place of. `choices`: the answers that
#: it offers, as JSON. `file`: what is sent in its place, with the text as its caption, as JSON.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("conversation_id", ForeignKey("conversations.id"), nullable=False),
    Column("message_id", ForeignKey("messages.id")),
    Column("turn_id", ForeignKey("turns.id")),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("choices", Text, nullable=False, server_default=""),
    Column("file", Text, nullable=False, server_default=""),
    Column("reply_to", String, nullable=False, server_default=""),
    Column("replaces", Integer),
    Column("state", String, nullable=False),
    Column("external_id", String, nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("held", Boolean, nullable=False, server_default="0"),
    #: Where it stands among the ids of others, if not at its own.
    Column("place", Float),
    #: It is to reach people at once; and whom by name: accounts, with spaces between.
    Column("notifies", Boolean, nullable=False, server_default="0"),
    Column("mentions", String, nullable=False, server_default=""),
    partial_index("ix_outbox_pending", "conversation_id", "id", where=text("state IN ('pending', 'sending')")),
    partial_index("ix_outbox_undelivered", "conversation_id", where=text("state IN ('failed', 'unknown')")),
    Index("ix_outbox_message_id", "message_id"),
    Index("ix_outbox_turn_id", "turn_id"),
    Index("ix_outbox_conversation_id", "conversation_id"),
)

#: How far each transport has read, where its platform works that way.
cursors = Table(
    "cursors",
    metadata,
    Column("transport", String, primary_key=True),
    Column("value", Text, nullable=False),
)

#: One row: how many gateways have opened this database so far. The last one may write, and no other.
gateways = Table(
    "gateways",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),
)

#: Who is logged in to the page, as which `sender`; see `gateway/intake/logins.py`. Of the token there is a hash only.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("token_hash", String, nullable=False, unique=True),
    Column("sender", String, nullable=False),
    Column("name", String, nullable=False),
    Column("device", String, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

#: Who did what; see `audit.py`. Nothing refers to it, and nothing sweeps it. `project` is a name, so that it outlives
#: its project. `detail` is JSON.
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("actor", String, nullable=False),
    Column("word", String, nullable=False),
    Column("project", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("mac", String, nullable=False),
    Index("ix_audit_project_id", "project", "id"),
)
