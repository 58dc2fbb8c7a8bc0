"""One connected CLI process, with what the SDK's client does not keep track of."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import msgspec
from claude_agent_sdk import ClaudeSDKClient, ClaudeSDKError, CLINotFoundError, ResultMessage
from claude_agent_sdk._errors import MessageParseError
from claude_agent_sdk.types import Message

from sled.agents.claude_events import answers_nobody
from sled.agents.claude_options import Setup, options
from sled.agents.telling import Telling
from sled.turn import Turn

log = logging.getLogger(__name__)

#: Seconds that a client may take to end; after that it is left to the runner, whose end kills it.
_CLOSE_S = 2.0
#: Seconds that it may take to confirm an interrupt before it is ended all the same.
_INTERRUPT_S = 0.5
_SESSION_ID = re.compile(r"[0-9A-Za-z-]{1,80}")


class Died(Exception):
    """The CLI's process ended, or never came up."""


class _CostState(msgspec.Struct):
    """The line of a transcript from which the CLI continues its count of costs, USD."""

    type: str = ""
    totalCostUSD: float = 0.0


class Connection:
    """A client with dialogue `resume`, or a new one if that is empty. `turn` returns the run under way."""

    def __init__(self, workspace: Path, setup: Setup, resume: str, turn: Callable[[], Turn | None]) -> None:
        #: The dialogue's id, known from the first result on; until then what was asked for.
        self.session = resume
        #: What the dialogue has cost by now, USD: the CLI reports totals, across resumes too.
        self.cost = 0.0
        self._setup = setup
        self._stderr: deque[str] = deque(maxlen=5)
        self._client = ClaudeSDKClient(
            options(setup, workspace, resume, lambda: turn() if self.under_way else None, self._stderr.append)
        )
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        #: Messages sent that no result has accounted for yet.
        self._unanswered: list[str] = []
        self._dead = False
        #: Something was sent: it is on a dialogue, though its id may not be known yet.
        self._asked = False
        self._telling = Telling()

    @property
    def under_way(self) -> bool:
        """Whether the CLI still owes a result for something that was sent."""
        return bool(self._unanswered) and not self._dead

    def fits(self, setup: Setup, resume: str) -> bool:
        """Whether a run with this setup can continue here; not in a turn that was left before its end."""
        on_it = self.session == resume and (bool(resume) or not self._asked)
        return on_it and self._setup == setup and not self.under_way and not self._dead

    async def open(self) -> None:
        """Start the CLI, or wait until it has started; cancelling the caller does not stop it.

        Raises Died, or CLINotFoundError where there is none.
        """
        await asyncio.shield(self.begin())

    def begin(self) -> asyncio.Task[None]:
        """Begin to start the CLI, once; what comes of it, `open` tells."""
        if not self._opening:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_seen)
        return self._opening

    @property
    def pids(self) -> Collection[int]:
        """The CLI's process, once it was started."""
        process = getattr(getattr(self._client, "_transport", None), "_process", None)
        return () if process is None else (process.pid,)

    async def _open(self) -> None:
        self.cost = await asyncio.to_thread(cost_before, self.session)
        try:
            await self._client.connect()
        except CLINotFoundError:
            raise
        except Exception as error:  # the SDK passes the CLI's own errors on as bare exceptions
            raise self._died(error) from error

    async def ask(self, prompt: str, context: str, news: str) -> None:
        """Send a run's prompt, with its standing facts if they are news here, and what happened. Raises Died."""
        *facts, text = self._telling.parts(prompt, context, news)
        await self.send([{"type": "text", "text": part} for part in (*facts, text)] if facts else text)

    async def send(self, content: str | list[dict[str, str]]) -> None:
        """Send a message; during a turn it joins that turn, or gets its own turn afterwards. Raises Died."""
        message_id = str(uuid.uuid4())
        self._asked = True
        self._unanswered.append(message_id)

        async def one() -> AsyncIterator[dict[str, Any]]:
            message = {"role": "user", "content": content}
            yield {"type": "user", "message": message, "parent_tool_use_id": None, "uuid": message_id}

        try:
            await self._client.query(one())
        except ClaudeSDKError as error:
            raise self._died(error) from error

    async def messages(self) -> AsyncGenerator[Message, None]:
        """What the CLI says, from where the last reader stopped. Raises Died when the CLI ends."""
        while True:
            try:
                async for message in self._client.receive_messages():
                    yield message
            except MessageParseError as error:  # one message of a shape that this SDK does not know
                log.warning("ignored a message of the CLI: %s", error)
                continue
            except Exception as error:  # whatever the SDK's reader met comes out here
                raise self._died(error) from error
            raise self._died("it ended by itself")

    def settle(self, result: ResultMessage) -> None:
        """Take account of a result: what it answers, and what the dialogue has cost."""
        self.session = result.session_id
        self.cost = result.total_cost_usd or 0.0
        if answers_nobody(result):
            return
        answered = result.user_message_uuids or self._unanswered
        self._unanswered = [message for message in self._unanswered if message not in answered]

    async def interrupt(self) -> None:
        """Ask the CLI to end its turn; its result says when it has."""
        try:
            await self._client.interrupt()
        except Exception as error:  # noqa: BLE001 - the SDK raises bare ones, and `messages` tells of a death
            log.debug("could not interrupt Claude: %s", error)

    async def close(self) -> None:
        """End the CLI. One that does not end within `_CLOSE_S` is killed by the SDK some seconds later."""
        self._closing = asyncio.create_task(self._close())
        await asyncio.wait({self._closing}, timeout=_CLOSE_S)

    async def _close(self) -> None:
        if self._opening:
            await asyncio.wait({self._opening})
        if self._unanswered:  # in a turn, the CLI does not notice the end of its input
            await asyncio.wait({asyncio.create_task(self.interrupt())}, timeout=_INTERRUPT_S)
        await self._client.disconnect()

    def _died(self, cause: object) -> Died:
        self._dead = True
        last_words = [line for line in self._stderr if line.strip()]
        return Died(last_words[-1] if last_words else str(cause).partition("\n")[0])


def _seen(opening: asyncio.Task[None]) -> None:
    """Have nobody complain that an error was not looked at, where nothing was asked in the end."""
    if not opening.cancelled():
        opening.exception()


def cost_before(session: str) -> float:
    """What the CLI will take as this dialogue's cost so far, USD: the last state in its transcript."""
    if not _SESSION_ID.fullmatch(session):
        return 0.0
    config = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    state = _CostState()
    for transcript in config.glob(f"projects/*/{session}.jsonl"):
        with transcript.open("rb") as lines:
            for line in lines:
                state = _read_state(line) or state
    return state.totalCostUSD


def _read_state(line: bytes) -> _CostState | None:
    if b'"cost-state"' not in line:
        return None
    try:
        state = msgspec.json.decode(line, type=_CostState)
    except msgspec.MsgspecError:
        return None
    return state if state.type == "cost-state" else None
