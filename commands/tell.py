"""tell: a note from one agent to another."""

from __future__ import annotations

import re
from dataclasses import replace

from gateway.chat.text import quote
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive import Sender
from gateway.hive.calls import CallId
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import Connection

#: Characters of a message to a person.
_MOST = 4000
_TOPIC = re.compile(r"#(?P<topic>[\w.-]{1,40})\s+(?P<text>.*)", re.DOTALL)


class Tell:
    """For agents: sends a note to another project's agent, which works on it in a session of its own; nobody waits.
    `tell api #deploy the schema has changed` keeps notes about a topic together. It needs a grant: `grant shop tell to
    api`."""

    usage = "tell <project> <note...>"
    summary = "send another project's agent a note (#topic first keeps notes together)"
    role = Role.MEMBER
    level: Level = "free"
    agents_only = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        sender = await sender_of(ctx)
        to = ctx.services.projects.get(ctx.arguments["project"])
        topic, text = topic_of(ctx.arguments["note"])
        await ctx.services.notes.tell(sender, to.id, topic, text)
        ctx.effect = f"told {to.name}'s: {quote(text, 200)}"
        return f"{to.name}'s agent has your note."


class TellAll:
    """For agents: the same note to every project's agent that may be told, each in a session of its own. It needs a
    grant over all projects: `grant chief lead`, or `grant shop tell all to all`."""

    usage = "tell all <note...>"
    summary = "send every other project's agent a note"
    role = Role.MEMBER
    level: Level = "free"
    agents_only = True
    beyond = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        sender, projects = await sender_of(ctx), ctx.services.projects
        topic, text = topic_of(ctx.arguments["note"])
        others = [one for one in projects.all() if one.id != sender.project_id and one.desired == "up"]
        told, left = [], []
        for one in others:
            try:
                await ctx.services.notes.tell(replace(sender, call=f"{sender.call}/{one.id}"), one.id, topic, text)
                told.append(one.name)
            except UserError as error:
                left.append(f"{one.name} does not: {error}")
        if not told and not left:
            raise UserError("There is no other project that is up.")
        ctx.effect = f"told all ({len(told)}): {quote(text, 200)}"
        return "\n".join([f"These have your note: {', '.join(told) or 'none'}.", *left])


class TellMe:
    """For agents: a message to the person at whose word the agent works, in the room where that began, for which phones
    ring at once; the turn goes on. An answer is a message like any other."""

    usage = "tell me <text...>"
    summary = "send whoever you work for a message now, before your answer"
    role = Role.MEMBER
    level: Level = "free"
    agents_only = True
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        if (room := ctx.room) is None:
            raise UserError("There is no run of yours under way, so nobody to tell.")
        text, outbox = ctx.arguments["text"].strip(), ctx.services.outbox
        if len(text) > _MOST:
            raise UserError(f"That has {len(text):,} characters; a message of this kind has at most {_MOST:,}.")
        platform, _, account = ctx.message.word.partition(":")
        mentions = (account,) if platform == room.conversation.transport else ()

        def unit(connection: Connection) -> None:
            outbox.add(connection, room, f"🐾 {ctx.agent}'s agent: {text}", notifies=True, mentions=mentions)

        await ctx.services.store.write(unit)
        outbox.wake(room.conversation)
        return "They have your message."


def topic_of(note: str) -> tuple[str, str]:
    """The topic of a note, and its text."""
    found = _TOPIC.fullmatch(note.strip())
    return ("", note.strip()) if found is None else (found["topic"].lower(), found["text"].strip())


async def sender_of(ctx: CommandContext) -> Sender:
    """Whose note it is. Raises UserError."""
    call = CallId.of(ctx.message.external_id)
    turn = ctx.services.calls.turn_of(call)
    if turn is None or ctx.room is None:
        raise UserError("A note is at somebody's word: send it in a run.")
    return Sender(ctx.message.external_id, call.project_id, turn, ctx.message.word, ctx.room.id)
