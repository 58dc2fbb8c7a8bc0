"""A command is carried out, and a message is settled: its fate, the reply to it and the audit are one transaction."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from gateway import kill_points
from gateway.chat import Fate
from gateway.chat.text import code, quote
from gateway.config import Role
from gateway.delivery import Fates
from gateway.errors import StateError, UserError
from gateway.hive.calls import Admitted
from gateway.intake.command import Command, CommandContext
from gateway.intake.grammar import Parsed
from gateway.intake.services import Services
from gateway.store import Connection, audit, messages, outbox
from gateway.store.messages import StoredMessage
from gateway.tasks import Tasks, insist

log = logging.getLogger(__name__)

#: Characters of a command's reply.
MAX_REPLY = 50_000
#: Of a command that may have run.
LOOK = "Check whether it is done; if not, send it again."

#: Lets whoever waits for the answer to a call have it.
Told = Callable[[StoredMessage, Fate, str], Awaitable[None]]


class CarryingOut:
    """See the module. `told` hears of each call's answer, once that is committed."""

    def __init__(self, services: Services, fates: Fates, told: Told) -> None:
        self._services = services
        self._store = services.store
        self._outbox = services.outbox
        self._access = services.access
        self._projects = services.projects
        self._fates = fates
        self._told = told
        self._tasks = Tasks("a message stays as it is until the next start")

    async def close(self) -> None:
        """Cut off what is running; the next start takes it up."""
        await self._tasks.close()

    async def start(self, message: StoredMessage, parsed: Parsed[Command], admitted: Admitted | None = None) -> None:
        """Run a command; return when it has ended, or has released the messages behind it.

        `admitted`: an agent asks for it; as whom.
        """
        released = asyncio.Event()
        work = self._tasks.start(self._run(message, parsed, released, admitted))
        wait_released = asyncio.create_task(released.wait())
        await asyncio.wait([work, wait_released], return_when=asyncio.FIRST_COMPLETED)
        wait_released.cancel()

    async def end_call(self, message: StoredMessage, fate: Fate, told: str) -> None:
        """Settle a call that did not become a command."""
        ctx = CommandContext(message, Role.NOBODY, {}, self._services, lambda: None)
        await self.settle_in_the_end(message, fate, told, ctx)

    async def _run(
        self, message: StoredMessage, parsed: Parsed[Command], released: asyncio.Event, admitted: Admitted | None
    ) -> None:
        command: Command = parsed.command
        role = self._access.role(message.sender) if admitted is None else admitted.role
        fate = Fate.ANSWERED
        ctx = CommandContext(message, role, parsed.arguments, self._services, released.set)
        if admitted is not None:
            ctx.room, ctx.allowed_by, ctx.foreseen = admitted.room, admitted.allowed_by, admitted.foreseen
        try:
            if role < command.role:
                raise UserError(f"Only an operator can use `{command.usage.split(' <')[0].split(' [')[0]}`.")
            # A call that may be repeated is, if this process ends before its answer: nobody can take it back meanwhile.
            if admitted is None or not command.repeatable:
                if not await self._store.write(lambda c: self._begin(c, message, ctx)):
                    return  # taken back before it began
                kill_points.reach("command.begun")
                self._fates.changed([message], Fate.RUNNING)
            told = await command.run(ctx)
            if command.level == "ask" and not ctx.effect:
                ctx.effect = code(message.text.strip())
        except UserError as error:
            told, fate = str(error), Fate.REFUSED
        except StateError as error:
            log.error("a command of message %s: %s", message.id, error)
            told, fate = f"The gateway could not write to its disk. {LOOK}", Fate.FAILED
        except Exception:  # noqa: BLE001 - logged with its reference
            told, fate = went_wrong(message), Fate.FAILED
        await self.settle_in_the_end(message, fate, told, ctx)
        for call in ctx.afterwards:
            call()

    def _begin(self, connection: Connection, message: StoredMessage, ctx: CommandContext) -> bool:
        began = messages.begin_command(connection, message.id)
        if began:
            self._audit(connection, message, ctx, "command", {})
        return began

    def _audit(
        self,
        connection: Connection,
        message: StoredMessage,
        ctx: CommandContext,
        kind: audit.Kind,
        more: dict[str, str],
    ) -> None:
        """Who typed what, where, as whom; `more` says what came of it."""
        project = self._projects.by_id(message.project_id) if message.project_id is not None else None
        detail = {"role": ctx.role.name.lower(), "conversation": str(message.conversation), **more}
        named = [ctx.get("project"), ctx.get("new-name"), ctx.get("name")]  # the last may be a model's
        known = {*self._projects.names(), ctx.get("new-name")}
        name = next((one for one in named if one and one in known), project.name if project else "")
        text = message.text.strip()
        audit.add(connection, kind, message.sender, text, word=message.word, project=name, detail=detail)

    async def settle_in_the_end(
        self, message: StoredMessage, fate: Fate, told: str, ctx: CommandContext | None = None
    ) -> None:
        """People must be told what was done, however long the disk refuses writes."""
        await insist(lambda: self.settle(message, fate, told, ctx), f"the reply to message {message.id}")

    async def settle(self, message: StoredMessage, fate: Fate, told: str, ctx: CommandContext | None = None) -> None:
        """Commit a message's fate together with the reply to it; and what an agent did, for the `room` of its run."""
        told = _sendable(told)
        left = await self._store.write(lambda c: self._settle(c, message, fate, told, ctx))
        kill_points.reach("command.settled")
        self._fates.changed([message], fate)
        if ctx is not None and ctx.agent:
            await self._told(message, fate, told)
        for conversation in {message.conversation, *(each.conversation for each in left)}:
            self._outbox.wake(conversation)
        if ctx is not None and ctx.room is not None and ctx.effect:
            self._outbox.wake(ctx.room.conversation)

    def _settle(
        self, connection: Connection, message: StoredMessage, fate: Fate, told: str, ctx: CommandContext | None
    ) -> list[StoredMessage]:
        """Within a unit; the discarded messages that are named besides."""
        messages.set_fate(connection, [message.id], fate)
        if ctx is None:
            self._outbox.reply(connection, message, told)
            return []
        self._audit(connection, message, ctx, "done", {"fate": fate, "told": told[:500]})
        messages.set_fate(connection, ctx.told_of, Fate.DISCARDED)
        answered = fate is Fate.ANSWERED
        # What it discarded before it failed is named all the same.
        left = [] if answered else messages.untold(connection, message.conversation)
        for discarded in left:
            messages.set_fate(connection, [discarded.id], Fate.DISCARDED)
            self._outbox.reply(connection, discarded, f"⏹ Not run: {quote(discarded.text)}")
        if ctx.agent:  # its sled is told, or asks: nothing has to be sent
            outbox.add(connection, message.conversation_id, [told], message_id=message.id, state="sent")
        else:
            replaces = None if ctx.replaces is None or not answered else outbox.reply_to(connection, ctx.replaces)
            choices = outbox.encode_choices(ctx.offers if answered else [])
            self._outbox.reply(connection, message, told, replaces=replaces, choices=choices)
        if ctx.room is not None and ctx.effect and answered:
            self._outbox.add(connection, ctx.room, f"🐾 {ctx.agent}'s agent: {ctx.effect}")
        return left


def _sendable(told: str) -> str:
    """A reply that platforms can send, and that nobody minds to pay for."""
    told = told.encode(errors="replace").decode()
    if len(told) <= MAX_REPLY:
        return told
    # What a sled made long, in a log or a difference.
    more = f"{len(told) - MAX_REPLY:,} more characters are not shown; look at it in the project, over SSH."
    return f"{told[:MAX_REPLY]}\n\n(… {more})"


def went_wrong(message: StoredMessage) -> str:
    """An unexpected error: the person gets a reference, the log the rest."""
    reference = secrets.token_hex(2)
    log.exception("ref %s: message %s", reference, message.id)
    return f"Something went wrong (ref {reference})."
