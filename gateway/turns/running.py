"""What the dispatcher deals in: limits, what runs are like, open turns, and what `stop` did."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway.chat.text import quote
from gateway.clock import Alarm
from gateway.store import Connection
from gateway.store.messages import StoredMessage
from gateway.store.turns import Turn
from gateway.turns.allowance import Allowance
from gateway.turns.progress import Live
from sled.protocol import Frame, McpServer, Run


@dataclass(frozen=True, slots=True)
class Limits:
    """How messages become turns; see the configuration."""

    window_s: float = 1.5
    window_max_s: float = 10.0
    queue: int = 100
    mode: Literal["collect", "steer", "interrupt"] = "collect"
    runs_per_project: int = 1
    runs: int = 8
    silence_s: float = 420.0
    turn_s: float = 3600.0
    warm_s: float = 600.0
    told_after_s: float = 20.0


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a project's runs are like; asked anew for each turn."""

    project: str
    agent: str
    permissions: Literal["auto", "ask", "allow"]
    isolated: bool
    model: str
    #: What the agent is told of the commands that it may use.
    door: str = ""
    #: With which release the project runs, in a few words.
    release: str = ""
    #: What only the lead is told.
    lead: str = ""
    #: The servers of tools that an operator chose for it.
    mcp: tuple[McpServer, ...] = ()


class Wire(Protocol):
    """The sleds, as the dispatcher sees them."""

    async def send(self, project_id: int, frame: Frame) -> bool:
        """False when the sled is away; its next hello asks again."""

    def journal(self, project_id: int) -> str | None:
        """The journal of a project's sled; None while it is away."""

    def trouble(self, project_id: int) -> str:
        """Why a project's sled is away, as far as that is known; empty while it is not."""


class Waker(Protocol):
    """Who tells the lead of what needs a decision."""

    def wake(self, connection: Connection, project_id: int, key: str, told: str) -> StoredMessage | None:
        """Within a unit: something happened in a project, `key` tells it from all else. What `hand` is to take."""

    def hand(self, message: StoredMessage | None) -> None:
        """After the commit."""


@dataclass(slots=True)
class Running:
    """An open turn."""

    turn: Turn
    frame: Run
    live: Live
    began_at: float
    heard_at: float
    seen: int = 0
    tools: set[str] = field(default_factory=set)
    allowance: Allowance = field(default_factory=Allowance)
    stop_reason: str = ""
    quiet: bool = False  # whoever stopped it tells of it
    finishing: bool = False
    parked_at: float = 0.0  # on the event loop's clock; 0: the run is at work
    held_until: float = 0.0  # on that clock: parked no longer than it was to be, though the wall's was set back
    timer: asyncio.TimerHandle | Alarm | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    #: The dialogue that the run told first, until that is committed.
    noting: asyncio.Future[None] | None = None
    dialogue: str = ""
    #: At whose word it works: those whose messages it took, from the first one on or since.
    people: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What `stop` did."""

    discarded: list[StoredMessage]
    ended: list[Turn]
    unanswered: list[Turn]  # the sled did not report in time

    def by_force(self) -> Stopped:
        """The same once what ran it is gone: nothing has still to end."""
        return Stopped(self.discarded, [*self.ended, *self.unanswered], [])

    @property
    def told(self) -> str:
        """What people must know of it: every discarded message is named. Empty, or lines behind a line break."""
        lines = []
        if self.ended:
            lines.append("Stopped the run." if len(self.ended) == 1 else f"Stopped {len(self.ended)} runs.")
        if self.discarded:
            lines.append("Discarded: " + ", ".join(quote(message.text) for message in self.discarded))
        if self.unanswered:
            lines.append(
                "A run has not ended yet: its sled does not answer. It is ended by force soon; `restart` does it now."
            )
        return "".join(f"\n{line}" for line in lines)
