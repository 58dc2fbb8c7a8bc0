"""A follow-up in a warm session beside a cold `claude -p`: how long until the model is asked.

    python benchmarks/turns.py [--rounds 15]

The model's API is a stub in this process (`tests/support/claude_api.py`), the CLI is the real one. The gateway runs in
this process too, with the process engine, so that huskies is measured and not a container; its sled, runner and CLI
are separate processes, on a real wire, and the call comes back through relay and proxy. Cold and warm
alternate, and all three clocks end when the same kind of request is complete at the stub:

    cold    from right before the process is started: `claude -p`, with its own home, straight to the stub
    turn    from when the run's frame is handed to the sled
    whole   from right before `Inbox.accept`, with a coalesce window of 0
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
from collections.abc import AsyncIterator
from pathlib import Path

import claude_agent_sdk

from gateway.app.app import App, build
from gateway.chat import Conversation, Message
from gateway.config import Settings
from gateway.testing import FakeTransport
from sled.protocol import Frame, Run
from tests.support.claude_api import ClaudeApi

#: A follow-up takes at most this share of a cold start.
BOUND = 1 / 5
CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


class Room:
    """A gateway with one project, and a person who writes to it."""

    def __init__(self, app: App, transport: FakeTransport, api: ClaudeApi) -> None:
        self._app = app
        self._transport = transport
        self._api = api
        self._numbers = itertools.count(1)
        self._run_sent_at = 0.0
        send = app.sleds.send

        async def timed(project_id: int, frame: Frame) -> bool:
            if isinstance(frame, Run):
                self._run_sent_at = time.monotonic()
            return await send(project_id, frame)

        app.sleds.send = timed

    async def say(self, text: str) -> None:
        """A message, once it is accepted."""
        conversation = Conversation("fake", "room")
        await self._app.inbox.accept("fake", [Message(conversation, str(next(self._numbers)), "fake:ana", text)], None)

    async def prompt(self, text: str) -> tuple[float, float]:
        """Seconds from the run's frame, and from the message, until the model was asked; returns after the answer."""
        began = time.monotonic()
        await self.say(text)
        asked = await self._api.arrived(lambda request: request.main and text in request.prompt)
        await asyncio.wait_for(self._app.fates.all_settled(), 30)
        return asked.at - self._run_sent_at, asked.at - began


@contextlib.asynccontextmanager
async def gateway(folder: Path, api: ClaudeApi) -> AsyncIterator[Room]:
    """A gateway whose project's session is warm."""
    settings = Settings(
        gateway={"state_dir": folder / "state", "listen": "127.0.0.1:0"},
        projects={"root": folder / "projects"},
        dispatcher={"coalesce_window_ms": 0},
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
        await room.prompt("make it warm")
        yield room
    finally:
        await asyncio.gather(*(app.engine.stop(app.projects.spec(project)) for project in app.projects.all()))
        end.set()
        await running


async def cold(folder: Path, api: ClaudeApi, text: str) -> float:
    """Seconds from before `claude -p` is started until it asked the model; returns when it has ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC", "CLAUDE"))}
    environment |= {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "CLAUDE_CODE_TMPDIR": str(folder),
        "ANTHROPIC_BASE_URL": api.base_url,
        "ANTHROPIC_AUTH_TOKEN": "t",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
    }
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(str(CLI), "-p", text),
        env=environment,
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


def show(name: str, taken: list[float]) -> None:
    """One row, in milliseconds."""
    ms = sorted(seconds * 1000 for seconds in taken)
    print(f"{name:<32} {len(ms):>6} {statistics.median(ms):>9.1f} {ms[0]:>9.1f} {ms[-1]:>9.1f}")


async def main(rounds: int) -> int:
    """Measure, print, and say whether the bound holds."""
    colds, turns, wholes = [], [], []
    with tempfile.TemporaryDirectory(prefix="hb", ignore_cleanup_errors=True) as name:
        home = Path(name) / "cold"
        home.mkdir()
        async with ClaudeApi() as api, gateway(Path(name), api) as room:
            await cold(home, api, "first of all")  # writes its home, fills the disk's cache
            for number in range(rounds):
                colds.append(await cold(home, api, f"cold question {number}."))
                turn, whole = await room.prompt(f"warm question {number}.")
                turns.append(turn)
                wholes.append(whole)
    print(f"{'until the model is asked':<32} {'count':>6} {'median ms':>9} {'min ms':>9} {'max ms':>9}")
    show("cold: claude -p", colds)
    show("turn: run frame, warm session", turns)
    show("whole: message in, warm session", wholes)
    share, of_all = (statistics.median(taken) / statistics.median(colds) for taken in (turns, wholes))
    print(f"of cold: turn {share:.3f}, whole {of_all:.3f}")
    print(f"bound (turn <= {BOUND:.2f} of cold):", "holds" if share <= BOUND else "DOES NOT HOLD")
    return 0 if share <= BOUND else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    sys.exit(asyncio.run(main(parser.parse_args().rounds)))
