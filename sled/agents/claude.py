"""Claude, through claude-agent-sdk: one CLI process per dialogue, kept warm between runs.

The CLI reads its home, API address and token from this process's environment, which the runner sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection
from pathlib import Path

from claude_agent_sdk import CLINotFoundError, ResultMessage

from sled.agents.claude_client import Connection, Died
from sled.agents.claude_events import Reader, clip
from sled.agents.claude_options import Setup
from sled.agents.live import Live, done_or
from sled.protocol import Body, Finished, Note, Run, Warm
from sled.turn import Turn

log = logging.getLogger(__name__)

#: Seconds between two requests to stop: one is enough, unless a steered message then begins its own turn.
_INSIST_S = 0.2
_LOST = Note(text="the earlier dialogue could not be found; starting a new one")


def create(workspace: Path) -> ClaudeAgent:
    """A dialogue in `workspace`; nothing is started before its first run."""
    return ClaudeAgent(workspace)


class ClaudeAgent:
    """See `sled.agents.Agent`."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._connection: Connection | None = None
        #: Set when the run has to end: because a person stopped it (`_stopped`) or because it cannot succeed.
        self._halt = asyncio.Event()
        self._stopped = False
        self._turn: Turn | None = None

    @property
    def pids(self) -> Collection[int]:
        return self._connection.pids if self._connection else ()

    async def prepare(self, warm: Warm) -> None:
        setup = Setup.of(warm)
        if self._connection and self._connection.fits(setup, warm.resume):
            return
        await self._drop()
        self._connection = Connection(self._workspace, setup, warm.resume, lambda: self._turn)
        self._connection.begin()

    async def run(self, turn: Turn) -> Finished:
        self._halt = asyncio.Event()
        self._stopped = False
        self._turn = turn
        live = Live(turn.emit)
        try:
            return await self._run(turn.run, live)
        except CLINotFoundError:
            log.exception("no CLI")
            await self._drop()
            return Finished(ending="failed", reason="no_agent", error="the Claude CLI is not installed here")
        finally:
            self._turn = None
            await live.close()

    async def interrupt(self) -> None:
        self._stopped = True
        self._halt.set()

    async def steer(self, text: str) -> bool:
        connection = self._connection
        if not connection or not connection.under_way or self._halt.is_set():
            return False
        try:
            await connection.send(text)
        except Died:
            return False
        return True

    async def close(self) -> None:
        await self.interrupt()
        await self._drop()

    async def _run(self, run: Run, live: Live) -> Finished:
        """Try the ways to this dialogue in turn, each only if the one before failed before it began."""
        ways = [run.resume, ""]
        if self._connection and self._connection.fits(Setup.of(run), run.resume):
            ways.insert(0, run.resume)  # a warm client may have died since
        else:
            await self._drop()
        crash = ""
        for resume in ways:
            lost: list[Body] = [_LOST] if run.resume and not resume else []
            try:
                finished = await self._attempt(run, resume, live, lost)
            except Died as died:
                crash = str(died)
                log.warning("Claude ended before it took the prompt: %s", crash)
                await self._drop()
            else:
                if finished:
                    return finished
            if self._halt.is_set():
                return Finished(ending="interrupted", reason="stopped", agent_session=run.resume)
        return Finished(ending="failed", reason="crashed", error=clip(crash), agent_session=run.resume)

    async def _attempt(self, run: Run, resume: str, live: Live, first: list[Body]) -> Finished | None:
        """Try one turn; None if stopped before it began. Raises Died if the CLI did not take the prompt."""
        if not self._connection:
            self._connection = Connection(self._workspace, Setup.of(run), resume, lambda: self._turn)
        connection = self._connection
        opening = asyncio.create_task(connection.open())
        await done_or(opening, self._halt)
        if self._halt.is_set():
            opening.cancel()  # the client keeps starting; the next run, or close, takes it from there
            return None
        await opening
        reader = Reader(self._workspace, connection.cost, first)
        stopping = asyncio.create_task(self._stop_when_asked(connection))
        try:
            return await self._converse(connection, run, reader, live)
        finally:
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stopping

    async def _converse(self, connection: Connection, run: Run, reader: Reader, live: Live) -> Finished:
        try:
            await connection.ask(run.prompt, run.context, run.news)
            async with contextlib.aclosing(connection.messages()) as messages:
                async for message in messages:
                    for event in reader.read(message):
                        await live.say(event)
                    if reader.key_refused:
                        self._halt.set()
                    if isinstance(message, ResultMessage):
                        connection.settle(message)
                        if not connection.under_way:
                            break
        except Died as died:
            if not reader.session:
                raise
            await self._drop()
            return reader.finished(stopped=self._stopped, crash=str(died))
        return reader.finished(stopped=self._stopped)

    async def _stop_when_asked(self, connection: Connection) -> None:
        await self._halt.wait()
        while connection.under_way:
            await connection.interrupt()
            await asyncio.sleep(_INSIST_S)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()
