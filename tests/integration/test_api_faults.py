"""The model's API fails in every way it can, and the real CLI runs on: through relay, wire and proxy of a gateway.

What it used is compared with what the stub answered: equal for finished calls, "at least" where one was cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.chat import MessageRef, Reply
from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from gateway.store.tables import conversations, sessions, turns
from gateway.testing import FakeTransport, patience
from tests.support.claude_api import ClaudeApi, script
from tests.support.house import House, house, make_settings

KEY = "sk-ant-canary-faults"
#: Longer than the two deltas behind which a stream breaks.
TEXT = "one two three four five six seven"
#: What one finished call of the stub uses: input, output, from cache.
CALL = (100, 50, 2000)
REJECTED = {"anthropic-ratelimit-unified-status": "rejected", "retry-after": "3600"}

pytestmark = [pytest.mark.claude, pytest.mark.timeout(60)]


class Recorder(FakeTransport):
    """Keeps every state of every message that people saw."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        self.shown.append(reply.text)
        await super().edit(ref, reply, key)


@dataclass
class Scene:
    """A gateway with one project whose session is warm; a prompt is one turn."""

    house: House
    api: ClaudeApi
    transport: Recorder

    async def prompt(self, *steps: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """What people read of a turn in the end, and what was written down of it."""
        before = len(self.transport.sent)
        await self.house.say(f"do it {script(*steps)}")
        await asyncio.wait_for(self.house.app.fates.all_settled(), 30 * patience())
        assert await self.house.app.outbox.drain(5)
        newest = select(turns).order_by(turns.c.id.desc()).limit(1)
        row = await self.house.app.store.read(lambda c: c.execute(newest).mappings().one())
        return self.transport.texts[before:], dict(row)


@contextlib.asynccontextmanager
async def scene(tmp_path: Path, runs: int = 1, **agent: Any) -> AsyncIterator[Scene]:
    async with ClaudeApi(require_key=KEY) as api:
        section = {"kind": "claude", "api_key": KEY, "api_base_url": api.base_url, "permissions": "allow", **agent}
        engine = {"kind": "process", "allow_unsandboxed": True}
        settings = make_settings(tmp_path, agent=section, engine=engine, dispatcher={"runs_per_project": runs})
        transport = Recorder()
        async with house(
            tmp_path, transport=transport, engine=ProcessEngine(host_environment()), settings=settings
        ) as here:
            here.app.proxy.stall_s = 0.5
            await here.ask("new project demo", contains="is ready", within_s=30)
            yield Scene(here, api, transport)


def used(row: dict[str, Any]) -> tuple[int, int, int]:
    assert row["cache_write_tokens"] == 0
    return row["input_tokens"], row["output_tokens"], row["cache_read_tokens"]


@pytest.mark.parametrize(("status", "name"), [(429, "rate_limit"), (529, "overloaded")])
async def test_a_provider_that_says_not_now_is_one_line_while_it_lasts(tmp_path: Path, status: int, name: str) -> None:
    async with scene(tmp_path) as here:
        told, row = await here.prompt({"http": status, "times": 2, "text": "ok"})
        assert told == ["ok"]
        notes = [text for text in here.transport.shown if str(status) in text]
        assert notes, "a person sees why it takes so long"
        assert all(text.count("trying again") == 1 for text in notes), "one line, never a flood"
        assert name in notes[0]
        assert (row["calls"], row["limits"], row["at_least"]) == (3, 2, False)
        assert used(row) == CALL, "a call that failed costs nothing"
        assert here.house.app.proxy.limited_until is None


@pytest.mark.slow
async def test_a_limit_parks_the_turn_which_goes_on_by_itself_when_it_ends(tmp_path: Path) -> None:
    async with scene(tmp_path, api_key="", oauth_token=KEY) as here:
        ends = int(time.time() + 4 * patience())  # not over before the CLI has come up and been told
        headers = {**REJECTED, "anthropic-ratelimit-unified-reset": str(ends)}
        running = asyncio.create_task(here.prompt({"http": 429, "times": 1, "headers": headers, "text": "done"}))
        parked = "The provider's limit is reached. I'll continue at"
        await here.transport.until(lambda texts: any(parked in text for text in texts))
        assert here.house.app.proxy.limited_until == ends
        told, row = await running
        assert time.time() >= ends
        assert (row["ending"], row["parks"], row["limits"], row["parked_until"]) == ("answered", 1, 1, None)
        assert "without repeating what you have already done" in here.api.main[-1].prompt
        assert told[-1] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["truncate", "stall"])
async def test_a_stream_that_breaks_or_stalls_is_taken_up_again(tmp_path: Path, how: str) -> None:
    async with scene(tmp_path) as here:
        began = time.monotonic()
        told, row = await here.prompt({"text": TEXT, "sse": how, "times": 1})
        assert time.monotonic() - began < 20 * patience(), "the CLI by itself would wait for five minutes"
        assert told == [TEXT], "one answer"
        assert (row["calls"], row["at_least"]) == (2, True)
        # Of the cut call: its input exactly, and of its output what was told by then.
        assert used(row) == (200, 51, 4000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("<html>a captive portal</html>", "text/html"),
        ("{not json", "application/json"),
        ("event: message_start\ndata: {not json\n\n", "text/event-stream"),
    ],
)
async def test_garbage_is_asked_for_once_more_and_then_said(tmp_path: Path, raw: str, kind: str) -> None:
    async with scene(tmp_path) as here:
        garbage = {"raw": raw, "raw_type": kind}
        told, row = await here.prompt({**garbage, "times": 1, "text": "ok"})
        assert told == ["ok"]
        assert (row["calls"], row["at_least"]) == (2, True), "nobody knows what the first one cost"
        assert used(row) == CALL
        (failed,), row = await here.prompt(garbage)
        assert "The run failed: API Error" in failed
        assert row["ending"] == "failed"
        assert (await here.prompt({"text": "well again"}))[0] == ["well again"]


async def test_a_key_that_is_revoked_in_the_middle_of_a_run_is_one_state(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        wait = {
            "name": "Bash",
            "input": {"command": f"touch {tmp_path}/began; until test -e {tmp_path}/go; do sleep 0.05; done"},
        }
        running = asyncio.create_task(here.prompt({"tools": [wait]}, {"text": "went on"}))
        while not (tmp_path / "began").exists():
            await asyncio.sleep(0.02)
        here.api.require_key = "sk-another-key-0123456789"
        (tmp_path / "go").touch()
        await here.transport.until(lambda texts: any("huskies secrets set all api_key" in text for text in texts))
        assert here.house.app.proxy.key_problem
        here.house.app.secrets.set("all", "api_key", here.api.require_key)
        told, row = await running
        assert (row["ending"], row["parks"]) == ("answered", 1)
        assert told[0] in ("went on", "stub done")
        assert row["input_tokens"] >= CALL[0], "what it used before is kept"
        assert not here.house.app.proxy.key_problem


async def test_the_tokens_of_a_turn_are_those_of_its_calls(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        sizes = [
            {"input_tokens": 11, "cache_creation_input_tokens": 7, "output_tokens": 3},
            {"cache_read_input_tokens": 5},
        ]
        read = {"name": "Read", "input": {"file_path": str(tmp_path / "nothing")}}
        told, row = await here.prompt({"tools": [read], "usage": sizes[0]}, {"text": "done", "usage": sizes[1]})
        assert told[-1] == "done"
        assert (row["calls"], row["limits"], row["at_least"]) == (2, 0, False)
        assert (row["input_tokens"], row["output_tokens"]) == (11 + 100, 3 + 50)
        assert (row["cache_read_tokens"], row["cache_write_tokens"]) == (2000 + 5, 7)
        assert row["model"] == here.api.main[-1].body["model"]


async def test_an_api_that_stays_overloaded_is_said_and_retry_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        (told,), row = await here.prompt({"http": 529, "times": 3, "text": "at last"})
        assert "Overloaded" in told, "the CLI gives up at the third"
        assert "`retry`" in told
        assert (row["calls"], row["limits"]) == (3, 3)
        await here.house.ask("retry", contains="Running again")
        await here.transport.until(lambda texts: texts[-1] == "at last", 20)


async def test_a_gateway_that_ends_in_the_middle_of_a_call_keeps_its_account(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.house.say(f"do it {script({'text': TEXT, 'gate': 'never'})}")
        await here.api.arrived(lambda request: request.main)
        await here.transport.until(lambda texts: "one two" in texts[-1])
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / ".gateway" / "huskies.db")) as database:
        columns = "calls, at_least, input_tokens, output_tokens, cache_read_tokens, ended_at"
        assert database.execute(f"SELECT {columns} FROM turns").fetchall() == [(1, 1, 100, 1, 2000, None)]


async def test_two_sessions_of_a_project_at_once_are_told_apart(tmp_path: Path) -> None:
    async with scene(tmp_path, runs=2) as here:
        here.house.app.proxy.stall_s = 60  # the first waits at the gate while the second one's client starts
        for room, written in (("room", 7), ("another", 900)):
            if room != "room":
                await here.house.ask("switch demo", room=room, contains="demo")
            step = {"text": TEXT, "gate": "both", "usage": {"output_tokens": written}}
            await here.house.say(f"do it {script(step)}", room=room)
        await here.api.until(lambda: len(here.api.main) == 2)
        here.api.open("both")
        await asyncio.wait_for(here.house.app.fates.all_settled(), 30 * patience())
        told = select(conversations.c.room, turns.c.calls, turns.c.output_tokens)
        told = told.join_from(turns, sessions).join(conversations, conversations.c.id == sessions.c.conversation_id)
        rows = await here.house.app.store.read(lambda c: c.execute(told).all())
        assert sorted(tuple(row) for row in rows) == [("another", 1, 900), ("room", 1, 7)]
