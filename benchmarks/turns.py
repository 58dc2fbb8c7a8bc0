"""A follow-up in a warm session beside a cold `claude -p`: how long until the model is asked.

    python -m benchmarks.turns [--rounds 15]

The model's API is a stub in this process (`tests/support/claude_api.py`), the CLI is the real one. The gateway runs in
this process too, with the process engine, so that huskies is measured and not a container; its sled, runner and CLI
are separate processes, on a real wire, and the call comes back through relay and proxy. Cold and warm
alternate, and all three clocks end when the same kind of request is complete at the stub:

    cold    from right before the process is started: `claude -p`, with its own home, straight to the stub
    turn    from when the run's frame is handed to the sled
    whole   from right before `Inbox.accept`, with a coalesce window of 0

Then a gateway with the window that people have: each message is the first of its session, whose agent is started while
the window is open, in a runner that stood by. Measured is how long after the window's end the model is asked, beside
what the CLI itself takes for the first prompt of its life once it is up: a window can hide a start, but not that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest.mock import patch

import claude_agent_sdk

from benchmarks.report import Row, main
from gateway.app.app import App
from gateway.app.build import build
from gateway.chat import Conversation, Message
from gateway.config import Settings
from gateway.testing import FakeTransport
from sled.protocol import Frame, Run
from tests.support.claude_api import ClaudeApi

#: A follow-up takes at most this share of a cold start.
BOUND = 1 / 5
#: Milliseconds after the end of its window that a cold session asks the model.
AHEAD_MS = 80.0
WINDOW_MS = 1500
#: Seconds between two people: the next runner has loaded its agent by then.
PAUSE_S = 4.0
BRIEF = {"rounds": 1}
CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


class Room:
    """A gateway with one project, and a person who writes to it."""

    def __init__(self, app: App, transport: FakeTransport, api: ClaudeApi) -> None:
        self._app = app
        self._transport = transport
        self._api = api
        self._numbers = itertools.count(1)
        self._run_sent_at = 0.0

    @contextlib.contextmanager
    def timing(self) -> Iterator[None]:
        """Note when a run's frame is handed to the sled."""
        send = self._app.sleds.send

        async def timed(project_id: int, frame: Frame) -> bool:
            if isinstance(frame, Run):
                self._run_sent_at = time.monotonic()
            return await send(project_id, frame)

        with patch.object(self._app.sleds, "send", timed):
            yield

    async def say(self, text: str, room: str = "room") -> None:
        """A message, once it is accepted."""
        conversation = Conversation("fake", room)
        await self._app.inbox.accept("fake", [Message(conversation, str(next(self._numbers)), "fake:ana", text)], None)

    async def prompt(self, text: str, room: str = "room") -> tuple[float, float]:
        """Seconds from the run's frame, and from the message, until the model was asked; returns after the answer."""
        began = time.monotonic()
        await self.say(text, room)
        asked = await self._api.arrived(lambda request: request.main and text in request.prompt)
        await asyncio.wait_for(self._app.fates.all_settled(), 30)
        return asked.at - self._run_sent_at, asked.at - began

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        await asyncio.wait_for(self._app.fates.all_settled(), 30)


@contextlib.asynccontextmanager
async def gateway(folder: Path, api: ClaudeApi, window_ms: int = 0) -> AsyncIterator[Room]:
    """A gateway whose project's session is warm."""
    settings = Settings(
        gateway={"state_dir": folder / "state", "listen": "127.0.0.1:0"},
        projects={"root": folder / "projects"},
        dispatcher={"coalesce_window_ms": window_ms},
        access={"operators": ["fake:ana"]},
        agent={"kind": "claude", "api_key": "sk-benchmark", "api_base_url": api.base_url},
        engine={"kind": "process", "allow_unsandboxed": True},
        git={"user_name": "b", "user_email": "b@example.org"},
    )
    (folder / "state" / ".gateway").mkdir(parents=True)
    transport = FakeTransport()
    app = await build(settings, None, more_transports={"fake": transport})
    end = asyncio.Event()
    running = asyncio.create_task(app.run(end))
    await app.started.wait()
    room = Room(app, transport, api)
    try:
        await room.say("new project demo")
        await transport.until(lambda texts: any("is ready" in text for text in texts), 60)
        with room.timing():
            await room.prompt("make it warm")
            yield room
    finally:
        await asyncio.gather(*(app.engine.stop(app.projects.spec(project)) for project in app.projects.all()))
        end.set()
        await running


async def cold(folder: Path, api: ClaudeApi, text: str) -> float:
    """Seconds from before `claude -p` is started until it asked the model; returns when it has ended."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(str(CLI), "-p", text),
        env=environment_of(folder, api),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        asked = await api.arrived(lambda request: request.main and text in request.prompt)
        await asyncio.wait_for(process.wait(), 30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return asked.at - began


async def run(rounds: int, folder: Path) -> list[Row]:
    """Cold and warm in turn."""
    colds, turns, wholes = [], [], []
    home = folder / "cold"
    home.mkdir()
    async with ClaudeApi() as api, gateway(folder, api) as room:
        await cold(home, api, "first of all")  # writes its home, fills the disk's cache
        for number in range(rounds):
            colds.append(await cold(home, api, f"cold question {number}.") * 1000)
            turn, whole = await room.prompt(f"warm question {number}.")
            turns.append(turn * 1000)
            wholes.append(whole * 1000)
        firsts = [await first_prompt(folder / f"first{number}", api) for number in range(rounds)]
    bare, ahead = statistics.median(colds), await started_ahead(rounds, folder / "ahead")
    first = statistics.median(firsts)
    return [
        Row("turns", "run frame to the model, beside a cold claude -p", statistics.median(turns), "ms", bare, BOUND),
        Row("turns", "message to the model, the same", statistics.median(wholes), "ms", bare),
        Row("turns", "a window's end to the model, cold", statistics.median(ahead), "ms", bound=AHEAD_MS),
        Row("turns", "the same, beside the CLI's first prompt", statistics.median(ahead), "ms", first),
    ]


async def first_prompt(folder: Path, api: ClaudeApi) -> float:
    """Milliseconds that a CLI which is up takes from the first prompt of its life to the model."""
    folder.mkdir()
    options = claude_agent_sdk.ClaudeAgentOptions(cwd=folder, env=environment_of(folder, api), setting_sources=[])
    async with claude_agent_sdk.ClaudeSDKClient(options) as client:
        await asyncio.sleep(WINDOW_MS / 1000)
        began = time.monotonic()
        await client.query(f"the first of {folder.name}.")
        asked = await api.arrived(lambda request: request.main and f"the first of {folder.name}." in request.prompt)
        async for _ in client.receive_response():
            pass
    return (asked.at - began) * 1000


def environment_of(home: Path, api: ClaudeApi) -> dict[str, str]:
    """What a CLI without huskies is started with."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC", "CLAUDE"))}
    return environment | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "CLAUDE_CODE_TMPDIR": str(home),
        "ANTHROPIC_BASE_URL": api.base_url,
        "ANTHROPIC_AUTH_TOKEN": "t",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
    }


async def started_ahead(rounds: int, folder: Path) -> list[float]:
    """Milliseconds from the end of the window to the model's first call, each in a session that is cold."""
    taken = []
    async with ClaudeApi() as api, gateway(folder, api, WINDOW_MS) as room:
        for number in range(rounds):
            here = f"room{number}"
            await room.say("switch demo", here)
            await room.settled()
            await asyncio.sleep(PAUSE_S)
            _, whole = await room.prompt(f"first question {number}.", here)
            taken.append(whole * 1000 - WINDOW_MS)
    return taken


def measure(given: argparse.Namespace) -> list[Row]:
    """One gateway, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="hb", ignore_cleanup_errors=True) as folder:
        return asyncio.run(run(given.rounds, Path(folder)))


def options(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--rounds", type=int, default=15)


if __name__ == "__main__":
    sys.exit(main(__doc__, options, measure, BRIEF))
