"""Agents that are started while people still write, so that a turn need not wait for its agent to come up.

Each has a place as a turn has, from when its window opens; it is given up if nothing comes of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.store import Connection, turns
from gateway.store.turns import SessionKey
from gateway.turns.running import RunSettings
from gateway.turns.runs import Around
from sled.protocol import Cool, Warm

#: Seconds that what was started is kept beyond the longest window.
_BEYOND_S = 30.0


class Ahead:
    """See the module."""

    def __init__(self, around: Around) -> None:
        self._wire = around.wire
        self._run_settings = around.run_settings
        self._for_s = around.limits.window_max_s + _BEYOND_S
        #: The session's name on the wire; empty until its sled is told.
        self._sessions: dict[SessionKey, str] = {}

    def __contains__(self, key: SessionKey) -> bool:
        """Whether a session's agent already has its place."""
        return key in self._sessions

    def __iter__(self) -> Iterator[SessionKey]:
        """The sessions whose agents already have their places."""
        return iter(list(self._sessions))

    def __len__(self) -> int:
        return len(self._sessions)

    def reserve(self, key: SessionKey) -> RunSettings:
        """Give a session's agent its place; what it is to be started with."""
        self._sessions[key] = ""
        return self._run_settings(key.project_id)

    def warm(self, connection: Connection, key: SessionKey, settings: RunSettings) -> Warm:
        """Within a unit: what to tell the sled."""
        session, resume = turns.dialogue(connection, key, settings.agent)
        return Warm(
            session=session,
            agent=settings.agent,
            resume=resume,
            permissions=settings.permissions,
            isolated=settings.isolated,
            model=settings.model,
            for_s=self._for_s,
            door=settings.door,
            mcp=list(settings.mcp),
        )

    async def start(self, key: SessionKey, warm: Warm) -> None:
        """Tell the sled, unless nothing came of it in the meantime."""
        if key in self._sessions:
            self._sessions[key] = warm.session
            await self._wire.send(key.project_id, warm)

    def take(self, key: SessionKey) -> str:
        """The place is free, or the session's turn begins in it; what was started, if anything was."""
        return self._sessions.pop(key, "")

    async def end(self, key: SessionKey, session: str) -> None:
        """End what was started for a turn that does not begin."""
        if session:
            await self._wire.send(key.project_id, Cool(session=session))
