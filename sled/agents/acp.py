"""Any agent that speaks the Agent Client Protocol on its standard streams: one process per dialogue, kept warm.

On the wire it is called `acp:<command>`, for instance `acp:gemini --acp`. It works in the container by itself: neither
files nor terminals are served to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shlex
from collections.abc import Collection
from pathlib import Path

from acp import RequestError
from acp.schema import AllowedOutcome, DeniedOutcome, PermissionOption, RequestPermissionResponse, ToolCallUpdate
from msgspec.structs import replace

from sled.agents import allows
from sled.agents.acp_client import AcpConnection, Died, Lost
from sled.agents.acp_events import Updates, choose, rule, tool_name
from sled.agents.chosen import told_of_skills
from sled.agents.live import Live, done_or
from sled.protocol import Ending, Finished, Note, Question, Reason, Started, Warm
from sled.turn import Turn, told

log = logging.getLogger(__name__)

_LOST = "the earlier dialogue could not be found; starting a new one"
_OUTBOX = "Files that you put into .huskies/outbox/ are sent to the people in the chat when you are done."
_MISSING = (
    "`{program}` is not installed in this project ({why}): install it there so that it is on the PATH, "
    "or choose another agent"
)
_AUTH_REQUIRED = -32000
_MAX_ERROR = 300
#: Why a turn failed that its agent ended without being done.
_STOPS = {
    "max_tokens": "the answer reached the model's maximum length",
    "max_turn_requests": "the agent reached its limit of calls",
    "refusal": "the model refused to continue",
    "cancelled": "the agent gave up its turn",
}
_CANCELLED = RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))


def create(workspace: Path, command: str) -> AcpAgent:
    """A dialogue in `workspace`; nothing is started before its first run."""
    return AcpAgent(workspace, command)


class AcpAgent:
    """See `sled.agents.Agent`."""

    def __init__(self, workspace: Path, command: str) -> None:
        self._workspace = workspace
        self._command = command
        self._connection: AcpConnection | None = None
        self._halt = asyncio.Event()
        self._turn: Turn | None = None
        self._live: Live | None = None
        self._updates = Updates(0.0)

    @property
    def pids(self) -> Collection[int]:
        return self._connection.pids if self._connection else ()

    async def prepare(self, warm: Warm) -> None:
        """Nothing: it begins a dialogue when it starts, and one that no run uses would stay with it."""

    async def run(self, turn: Turn) -> Finished:
        self._halt, self._turn, self._live = asyncio.Event(), turn, Live(turn.emit)
        try:
            words = shlex.split(self._command)
        except ValueError as error:
            return _no_agent(f"the agent's command `{self._command}` cannot be read: {error}")
        try:
            return await self._run(turn, words, self._live)
        except (FileNotFoundError, PermissionError) as error:
            why = (error.strerror or "cannot be started").lower()
            return _no_agent(_MISSING.format(program=words[0], why=why))
        finally:
            live, self._turn, self._live = self._live, None, None
            await live.close()

    async def interrupt(self) -> None:
        self._halt.set()

    async def steer(self, text: str) -> bool:
        return False

    async def close(self) -> None:
        await self.interrupt()
        await self._drop()

    async def _run(self, turn: Turn, words: list[str], live: Live) -> Finished:
        run = turn.run
        notes: list[str] = []
        try:
            opening = asyncio.create_task(self._connect(turn, words, notes))
            await done_or(opening, self._halt)
            if not opening.done():
                opening.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await opening
                await self._drop()
                return _stopped(run.resume)
            connection = opening.result()
            await live.say(Started(agent_session=connection.session))
            for note in notes:
                await live.say(Note(text=note))
            return replace(await self._converse(turn, connection), notes=notes)
        except Died as died:
            session = (self._connection.session if self._connection else "") or run.resume
            await self._drop()
            end = _stopped(session) if self._halt.is_set() else _failed(session, str(died), "crashed")
            return replace(self._updates.account(end, None), notes=notes)
        except RequestError as error:
            session = self._connection.session if self._connection else ""
            if not session:
                await self._drop()
            return self._updates.account(_failed(session or run.resume, self._complaint(error)), None)

    async def _connect(self, turn: Turn, words: list[str], notes: list[str]) -> AcpConnection:
        """The warm process with the run's dialogue, or a new one; with that dialogue if possible."""
        run = turn.run
        self._updates = Updates(0.0)
        warm = self._connection
        if warm and warm.alive and warm.fits(run):
            self._updates = Updates(warm.cost)
            return warm
        for resume in dict.fromkeys((run.resume, "")):
            await self._drop()
            connection = AcpConnection(words, self._workspace, run, self._hear, self._permit)
            self._connection = connection
            try:
                await connection.open(resume)
                break
            except Lost as lost:
                log.warning("dialogue %s: %s", resume, lost)
                notes.append(_LOST)
        notes += connection.notes
        if run.model and (why := await connection.choose_model()):
            notes.append(why)
        return connection

    async def _converse(self, turn: Turn, connection: AcpConnection) -> Finished:
        """One prompt, to the end that the agent gives it."""
        run, session = turn.run, connection.session
        ready = asyncio.create_task(turn.ready())
        await done_or(ready, self._halt)
        if not ready.done():
            ready.cancel()
            return _stopped(session)
        context = "\n".join(filter(None, (run.context, _OUTBOX, told_of_skills())))
        texts = connection.telling.parts(run.prompt, context, run.news)
        prompting = asyncio.create_task(connection.prompt(texts))
        try:
            await done_or(prompting, self._halt)
            if self._halt.is_set():
                await connection.cancel()
            response = await prompting
        finally:
            prompting.cancel()
        if self._halt.is_set():
            end = _stopped(session)
        elif error := _STOPS.get(response.stop_reason):
            end = _failed(session, error)
        else:
            end = Finished(ending="answered", agent_session=session)
        connection.cost = self._updates.cost
        return self._updates.account(end, response.usage)

    async def _hear(self, update: object) -> None:
        if self._live is not None:
            for event in self._updates.read(update):
                await self._live.say(event)

    async def _permit(self, call: ToolCallUpdate, options: list[PermissionOption]) -> RequestPermissionResponse:
        turn, live = self._turn, self._live
        if turn is None or live is None or self._halt.is_set():
            return _CANCELLED
        if allows(turn.run.permissions, turn.run.isolated):
            return _answer(options, allow=True)
        known = self._updates.call(call)
        await live.flush()
        question = Question(
            id=secrets.token_hex(8),
            kind="permission",
            tool=tool_name(known),
            arguments=told(known),
            rule=rule(known),
        )
        asking = asyncio.create_task(turn.ask(question))
        try:
            await done_or(asking, self._halt)
            return _CANCELLED if self._halt.is_set() else _answer(options, allow=asking.result().allow)
        finally:
            asking.cancel()  # which withdraws the question if it has not been answered
            await asyncio.wait({asking})

    def _complaint(self, error: RequestError) -> str:
        if error.code == _AUTH_REQUIRED:
            return f"`{self._command}` asks for a login ({error}): open a shell in the project and log in there once"
        return str(error)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()


def _answer(options: list[PermissionOption], *, allow: bool) -> RequestPermissionResponse:
    chosen = choose(options, allow)
    if chosen is None:
        return _CANCELLED
    return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=chosen))


def _stopped(session: str) -> Finished:
    return Finished(ending="interrupted", reason="stopped", agent_session=session)


def _failed(session: str, error: str, reason: Reason = "") -> Finished:
    ending: Ending = "failed"
    return Finished(ending=ending, reason=reason, error=error[:_MAX_ERROR], agent_session=session)


def _no_agent(error: str) -> Finished:
    return Finished(ending="failed", reason="no_agent", error=error[:_MAX_ERROR])
