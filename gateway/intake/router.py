"""The router: a command runs, everything else goes to the agent.

Messages of one room are routed in the order in which they came. A command runs at once, whatever the agents are doing;
the messages behind it wait only until it releases them, which a long one does early. Errors are caught here, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

from gateway import tasks
from gateway.chat import Fate
from gateway.chat.text import code, quote
from gateway.config import Role
from gateway.delivery import Fates
from gateway.errors import StateError, UserError
from gateway.hive import Calls, is_event, is_note, is_scheduled
from gateway.hive.calls import CHANGED, Admitted, CallId, Declined
from gateway.intake.carrying_out import LOOK, CarryingOut, went_wrong
from gateway.intake.command import Command, CommandContext, no_active_project
from gateway.intake.grammar import MAX_COMMAND, NearMiss, Parsed, Parser, Verbatim
from gateway.intake.services import Services
from gateway.store import conversations, messages
from gateway.store.messages import StoredMessage
from gateway.tasks import Tasks
from sled.protocol import MAX_COMMAND as MAX_CALL

log = logging.getLogger(__name__)

#: What a message is, as far as its words tell.
_Read = Parsed[Command] | NearMiss | Verbatim | UserError | None

#: What a mention alone, an empty forward and the like get.
NOTHING_SAID = "I am here. Write what the agent should do, or type `help`."


class Router:
    """See the module. `route` is the inbox's `on_accepted`."""

    def __init__(
        self, services: Services, fates: Fates, parser: Parser[Command], calls: Calls, carrying_out: CarryingOut
    ) -> None:
        self._calls = calls
        self._carrying_out = carrying_out
        self._services = services
        self._store = services.store
        self._outbox = services.outbox
        self._access = services.access
        self._dispatcher = services.dispatcher
        self._projects = services.projects
        self._answers = services.answers
        self._fates = fates
        self._parser = parser
        self._rooms: dict[tuple[str, str], deque[StoredMessage]] = {}
        self._tasks = Tasks("a message stays as it is until the next start")

    def route(self, message: StoredMessage) -> None:
        """Take a committed message. Returns at once."""
        self._fates.changed([message], Fate.RECEIVED)
        self._outbox.written_in(message.conversation)
        room = self._queue_of(message)
        waiting = self._rooms.get(room)
        if waiting is not None:
            waiting.append(message)
            return
        # The common case, a prompt with nothing before it, costs no task. Its project was read when it was
        # committed; no command has run in the room since, so that is still the active one.
        try:
            is_new = message.fate is Fate.RECEIVED
            if is_new and message.project_id is not None and self._is_plain_prompt(message):
                self._dispatcher.submit(message, message.project_id)
                return
        except Exception:
            log.exception("message %s", message.id)  # the long way sets it aside
        self._rooms[room] = deque([message])
        self._tasks.start(self._work_off(room))

    def _queue_of(self, message: StoredMessage) -> tuple[str, str]:
        """The messages that are routed one after the other: those of a room, and an agent's calls of one run.

        So a call that waits for a card does not hold up the `allow`, or the `stop`, that a person types.
        """
        here = message.conversation
        return here.transport, CallId.of(message.external_id).run if self._calls.is_call(message) else here.room

    async def recover(self) -> None:
        """Commands that were cut off by the end of the last process: run again those that may be, report the others."""
        for message in await self._store.read(lambda c: messages.with_fate(c, Fate.RUNNING)):
            if message.turn_id is not None:
                continue
            parsed = self._parse(message)
            if isinstance(parsed, Parsed) and parsed.command.repeatable:
                self.route(message)  # ahead of what came in after it
            else:
                await self._cut_off(message)

    async def _cut_off(self, message: StoredMessage) -> None:
        told = f"The gateway restarted during {quote(message.text)}. {LOOK}"
        await self._carrying_out.settle(message, Fate.INTERRUPTED, told)

    async def close(self) -> None:
        """Cut off what is running; the next start takes it up."""
        await self._tasks.close()
        await self._carrying_out.close()

    def _is_plain_prompt(self, message: StoredMessage) -> bool:
        allowed = self._access.role(message.sender) is not Role.NOBODY and not message.problem and not message.presses
        if self._calls.is_call(message) or _is_for_its_project(message):
            return False
        if self._answers.questions.open_in(message.conversation_id) or self._answers.is_elsewhere(message.text):
            return False
        if _is_empty(message):
            return False
        project = self._projects.by_id(message.project_id) if message.project_id is not None else None
        takes = project is not None and project.desired == "up"
        return allowed and takes and self._parse(message) is None

    def _parse(self, message: StoredMessage) -> _Read:
        try:
            # What an agent asks for is a command, however long: a note has no other way.
            most = MAX_CALL if self._calls.is_call(message) else MAX_COMMAND
            words = self._agent_words(message)
            return self._parser.parse(message.text.strip(), self._projects.names(), words, most=most)
        except UserError as error:
            return error

    def _agent_words(self, message: StoredMessage) -> Collection[str] | None:
        """What the agent understands after a slash that a message would go to; None where nobody knows."""
        project_id = message.project_id
        if project_id is None or not message.text.lstrip().startswith("/"):
            return ()
        known = self._dispatcher.agent_words(project_id)
        return None if known is None and self._projects.registry.runs_claude(project_id) else known or ()

    def words(self, text: str) -> str | None:
        """What the agent gets for a prompt with that text; None: the command that it carries out decides."""
        try:
            parsed = self._parser.parse(text.strip(), self._projects.names())
        except UserError:
            return text
        if isinstance(parsed, Verbatim):
            return parsed.text
        for_agent = isinstance(parsed, Parsed) and getattr(parsed.command, "for_agent", False)
        return None if for_agent else text

    async def _work_off(self, room: tuple[str, str]) -> None:
        waiting = self._rooms[room]
        try:
            while waiting:
                try:
                    await self._handle_or_set_aside(waiting[0])
                except StateError as error:
                    log.error("message %s is tried again: %s", waiting[0].id, error)
                    await asyncio.sleep(tasks.RETRY_S)
                    continue
                waiting.popleft()
        finally:
            del self._rooms[room]

    async def _handle_or_set_aside(self, message: StoredMessage) -> None:
        """A message that cannot be routed must not hold up the ones behind it."""
        try:
            await self._handle(message)
        except StateError:
            raise
        except Exception:  # noqa: BLE001 - logged with its reference
            if self._calls.is_call(message):
                await self._carrying_out.end_call(message, Fate.FAILED, went_wrong(message))
            else:
                await self._carrying_out.settle(message, Fate.FAILED, went_wrong(message))

    async def _handle(self, message: StoredMessage) -> None:
        """Route one message; return when the next one may be routed. Raises StateError: nothing has changed."""
        if self._calls.is_call(message):  # which nobody can edit, or take back
            await self._take_call(message, self._parse(message))
            return
        # As it is now: it may have been edited or taken back while it waited here.
        message = await self._store.read(lambda c: messages.by_id(c, message.id))
        if message.fate.final:
            return
        stranger = self._access.role(message.sender) is Role.NOBODY  # known when it was committed, but no longer
        if stranger or message.problem:
            await self._carrying_out.settle(message, Fate.REFUSED, "" if stranger else message.problem)
        elif _is_for_its_project(message):
            await self._prompt_of_its_project(message)
        else:
            await self._handle_persons(message)

    async def _handle_persons(self, message: StoredMessage) -> None:
        """The same for what a person wrote, pressed or attached."""
        parsed = self._parse(message)
        if message.fate is Fate.RUNNING and not isinstance(parsed, Parsed):
            # It was a command when it began, before a restart, and what it named has gone since: it is no prompt now.
            await self._cut_off(message)
            return
        if message.presses and not (isinstance(parsed, Parsed) and getattr(parsed.command, "by_tap", False)):
            await self._answer(message, self._answers.pressed)
            return
        if _is_empty(message) and not message.presses:
            await self._carrying_out.settle(message, Fate.ANSWERED, NOTHING_SAID)
            return
        if self._answers.is_elsewhere(message.text) and await self._answer(message, self._answers.elsewhere):
            return
        if self._may_answer(message, parsed) and await self._answer(message, self._answers.take):
            return
        if isinstance(parsed, Parsed) and getattr(parsed.command, "agents_only", False):
            await self._prompt(message)
        elif isinstance(parsed, Parsed) and getattr(parsed.command, "for_agent", False):
            await self._hand_on(message, parsed)
        elif isinstance(parsed, Parsed):
            await self._carrying_out.start(message, parsed)
        elif isinstance(parsed, NearMiss):
            told = (
                f"Did you mean `{parsed.text}`? Nothing was done. Type that, or "
                f"{code(f'prompt {message.text.strip()[:60]}')} to send your words to the agent."
            )
            await self._carrying_out.settle(message, Fate.REFUSED, told)
        elif isinstance(parsed, UserError):
            await self._carrying_out.settle(message, Fate.REFUSED, str(parsed))
        elif isinstance(parsed, Verbatim):
            await self._prompt(message, parsed.text)
        else:
            await self._prompt(message)

    def _may_answer(self, message: StoredMessage, parsed: _Read) -> bool:
        """Whether a message is an answer, if something is asked: one that is no command as it stands."""
        if isinstance(parsed, Parsed):
            return not parsed.exact and self._answers.names_option(message)
        certain = isinstance(parsed, UserError) and message.text.lstrip().startswith("/")
        return not certain and not isinstance(parsed, Verbatim)

    async def _answer(
        self, message: StoredMessage, take: Callable[[StoredMessage, Role], Awaitable[str | None]]
    ) -> bool:
        """Settle a message that answers what an agent asks; False when it does not."""
        try:
            told, fate = await take(message, self._access.role(message.sender)), Fate.ANSWERED
        except UserError as error:
            told, fate = str(error), Fate.REFUSED
        if told is None:
            return False
        await self._carrying_out.settle_in_the_end(
            message, fate, told
        )  # routed again it would be a prompt, not an answer
        return True

    async def _take_call(self, message: StoredMessage, parsed: _Read) -> None:
        """Carry out what an agent asks for, if it may."""
        try:
            if isinstance(parsed, UserError):
                raise parsed
            if not isinstance(parsed, Parsed):
                near = f"Did you mean `{parsed.text}`?" if isinstance(parsed, NearMiss) else "`help` lists yours."
                raise UserError(f"There is no command {quote(message.text)}. {near}")
            admitted = await self._admit(message, parsed)
        except UserError as error:
            await self._carrying_out.end_call(message, Fate.REFUSED, str(error))
            return
        await self._carrying_out.start(message, parsed, admitted)

    async def _admit(self, message: StoredMessage, parsed: Parsed[Command]) -> Admitted:
        command = parsed.command
        describe = getattr(command, "effect", None)
        if describe is None:
            return await self._calls.admit(message, command, parsed.arguments, command.summary)
        before = self._context(message, parsed)
        effect = await describe(before)
        try:
            admitted = await self._calls.admit(message, command, parsed.arguments, effect, before.difference)
        except Declined as error:
            if (hears := getattr(command, "declined", None)) is not None:
                await hears(before, error.why)
            raise
        if not admitted.allowed_by:
            return admitted
        # What was shown is what is done, whatever changed while the card was open.
        now = self._context(message, parsed)
        if (await describe(now), now.difference) != (effect, before.difference):
            raise UserError(CHANGED)
        return replace(admitted, foreseen=now.foreseen)

    def _context(self, message: StoredMessage, parsed: Parsed[Command]) -> CommandContext:
        return CommandContext(message, Role.NOBODY, parsed.arguments, self._services, lambda: None)

    async def _hand_on(self, message: StoredMessage, parsed: Parsed[Command]) -> None:
        """A command that the agent carries out goes to it like a prompt, in words that it knows."""
        role = self._access.role(message.sender)
        ctx = CommandContext(message, role, parsed.arguments, self._services, lambda: None)
        try:
            words = await parsed.command.run(ctx)
        except UserError as error:
            await self._carrying_out.settle(message, Fate.REFUSED, str(error))
            return
        await self._prompt(message, words)

    async def _prompt(self, message: StoredMessage, words: str | None = None) -> None:
        here = await self._store.read(lambda c: conversations.by_id(c, message.conversation_id))
        project = self._projects.by_id(here.project_id) if here.project_id is not None else None
        if project is None:
            await self._carrying_out.settle(message, Fate.REFUSED, no_active_project(self._projects))
        elif project.desired == "down":
            told = f"{project.name} is down. Type `up {project.name}`, then send it again."
            await self._carrying_out.settle(message, Fate.REFUSED, told)
        else:
            self._dispatcher.submit(message, project.id, words)

    async def _prompt_of_its_project(self, message: StoredMessage) -> None:
        """What a schedule or an agent sends is for the agent that it names, whatever it says and whatever is asked."""
        project = self._projects.by_id(message.project_id) if message.project_id is not None else None
        if project is None or project.desired != "up":
            name = project.name if project is not None else "Its project"
            told = f"{name} is not up, so this was not run: {quote(message.text)}"
            await self._carrying_out.settle(message, Fate.REFUSED, told)
        else:
            self._dispatcher.submit(message, project.id)


def _is_for_its_project(message: StoredMessage) -> bool:
    """Whether no person wrote it, and its words are for the agent of the project that it names."""
    return is_scheduled(message) or is_note(message) or is_event(message)


def _is_empty(message: StoredMessage) -> bool:
    """Whether a message says nothing at all."""
    return not (message.text.strip() or message.files or message.quoted)
