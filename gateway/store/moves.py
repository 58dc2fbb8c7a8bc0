"""Rooms that continue as other ones: what was agreed in the old one holds in the new one."""

from __future__ import annotations

from sqlalchemy import Connection, update

from gateway import clock
from gateway.chat import Conversation
from gateway.store import conversations
from gateway.store.tables import conversations as table
from gateway.store.tables import outbox

#: Seconds for which an answer that the old room did not take is still worth telling in the new one.
_WORTH_TELLING_S = 24 * 3600.0


def move(connection: Connection, old: Conversation, new: Conversation) -> bool:
    """Let a room's conversation continue in another room: project, sessions, questions, what waits to be sent.

    False if the conversation stays: there is none, or people have already used the new room. That one keeps what it
    has, and only takes the active project if it has none. Threads stay behind, as do the messages that they hang from.
    """
    here, there = conversations.find(connection, old), conversations.find(connection, new)
    if here is None:
        return False
    if there is not None:
        if there.project_id is None:
            conversations.switch(connection, there.id, here.project_id)
        return False
    connection.execute(update(table).where(table.c.id == here.id).values(room=new.room))
    ours = outbox.c.conversation_id == here.id
    # Messages in the old room can be neither edited nor answered any more.
    live = outbox.c.kind.in_(("progress", "question"))
    connection.execute(update(outbox).where(ours, live, outbox.c.state == "sent").values(state="dropped"))
    refused = (outbox.c.state == "failed") & (outbox.c.created_at > clock.now() - _WORTH_TELLING_S)
    connection.execute(update(outbox).where(ours, refused).values(state="pending", error=""))
    connection.execute(update(outbox).where(ours, outbox.c.state == "pending").values(reply_to=""))
    return True
