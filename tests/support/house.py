"""A whole gateway in this process, on a fake platform and, unless told otherwise, an engine in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.app.app import App
from gateway.app.build import build
from gateway.config import Settings
from gateway.engine import Engine
from gateway.testing import FakeTransport, InMemoryEngine, patience
from tests.support import databases


def make_settings(tmp_path: Path, **sections: dict[str, Any]) -> Settings:
    """Settings in folders of the test's own, on a free port, with a short window."""
    values: dict[str, Any] = {
        "gateway": {"state_dir": tmp_path / "state", "listen": "127.0.0.1:0", **databases.settings(tmp_path / "state")},
        "projects": {"root": tmp_path / "projects"},
        # What people read does not depend on how busy the machine is.
        "dispatcher": {"coalesce_window_ms": 50, "told_after_s": 3600},
        "access": {"operators": ["fake:ana"], "members": ["fake:ben"]},
        "git": {"user_name": "Test", "user_email": "test@example.org"},
        "agent": {"kind": "scripted"},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return Settings(**values)


@dataclass
class House:
    """The gateway and the person in front of it."""

    app: App
    transport: FakeTransport
    engine: Engine
    tmp_path: Path
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    end: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, text: str, *, sender: str = "fake:ana", room: str = "room", **changes: Any) -> str:
        """A message arrives; its external id."""
        external_id = f"m{next(self._ids)}"
        message = replace(self.transport.message(text, external_id, sender=sender, room=room), **changes)
        await self.app.inbox.accept("fake", [message], None)
        return external_id

    async def ask(self, text: str, *, contains: str = "", within_s: float = 10.0, **how: Any) -> str:
        """Say something and wait for the next reply that contains a text."""
        before = len(self.transport.sent)
        await self.say(text, **how)

        def fresh(texts: list[str]) -> list[str]:
            return [t for t in texts[before:] if contains in t and not t.endswith(" …")]

        texts = await self.transport.until(lambda texts: bool(fresh(texts)), within_s)
        return fresh(texts)[0]

    async def quiet(self) -> None:
        """Wait until nothing is under way and everything is sent."""
        await asyncio.wait_for(self.app.fates.all_settled(), 10 * patience())
        assert await self.app.outbox.drain(10)


@contextlib.asynccontextmanager
async def house(
    tmp_path: Path,
    *,
    transport: FakeTransport | None = None,
    engine: Engine | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[House]:
    """A running gateway; it ends as a gateway ends."""
    transport = transport or FakeTransport()
    engine = engine or InMemoryEngine()
    settings = settings or make_settings(tmp_path)
    (settings.gateway.state_dir / ".gateway").mkdir(parents=True, exist_ok=True)
    app = await build(settings, None, engine=engine, more_transports={"fake": transport})
    made = House(app, transport, engine, tmp_path)
    running = asyncio.create_task(app.run(made.end))
    starting = asyncio.create_task(app.started.wait())
    try:
        await asyncio.wait([running, starting], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield made
    finally:
        starting.cancel()
        made.end.set()
        await asyncio.wait_for(running, 20 * patience())
        for spec in [app.projects.spec(project) for project in app.projects.all()]:
            await engine.stop(spec)
