"""Faults injected for real, with their number in the list of faults that the gateway must stand. Others are in
`test_kill` (1 to 7), `test_command_line` (33, 34), `test_console_terminal` (28) and with the transports.
"""

from __future__ import annotations

import asyncio
import http.server
import itertools
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from sqlalchemy import select

from gateway.app import app as app_module
from gateway.chat import Conversation, Fate, MessageRef, Reply
from gateway.errors import TransportDown
from gateway.store import messages as message_rows
from gateway.store.sweep import sweep
from gateway.store.tables import messages as table
from gateway.testing import FakeTransport, InMemoryEngine, patience
from gateway.turns import Dispatcher
from tests.conftest import World
from tests.support import databases
from tests.support.house import House, house, make_settings
from tests.support.huskies import Huskies, family
from tests.support.processes import alive, told_by, until
from tests.support.slack_api import refusing
from tests.support.slack_server import SlackServer
from tests.support.small_disk import small_disk

# --- 7, 8: events that come again, and out of step -------------------------------------------------------------------


async def test_7_the_same_event_four_times_also_across_a_restart(tmp_path: Path) -> None:
    with Huskies(tmp_path) as huskies:
        await huskies.start()
        await huskies.send("new project demo", "p")
        text = "@@run echo ran >> count"
        first = await asyncio.gather(huskies.send(text, "m1"), huskies.send(text, "m1"))
        assert await huskies.stop() == 0
        await huskies.start()
        later = [await huskies.send(text, "m1"), await huskies.send(text, "m1")]
        assert all(answer == first[0] for answer in (*first, *later))
        assert (huskies.projects / "demo" / "count").read_text() == "ran\n"


def said_in(house: House, room: str) -> list[str]:
    """The messages of a room that reached an agent, in order."""
    assert isinstance(house.engine, InMemoryEngine)
    prompts = [run.prompt for run in house.engine.runs if run.prompt.startswith(f"{room} ")]
    return [line for prompt in prompts for line in prompt.split("\n\n")]


async def test_8_shuffled_conversations_each_keep_their_order(tmp_path: Path) -> None:
    rng = random.Random(8)
    rooms = [f"room{n}" for n in range(8)]
    settings = make_settings(
        tmp_path, dispatcher={"coalesce_window_ms": 5, "coalesce_max_ms": 20, "runs_per_project": 4}
    )
    async with house(tmp_path, settings=settings) as home:
        await home.ask("new project demo", contains="is ready")
        for room in rooms:
            await home.ask("switch demo", room=room, contains="demo is active")

        async def talk(room: str) -> None:
            for number in range(40):
                await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01)))
                await home.say(f"{room} {number}", room=room)

        await asyncio.gather(*(talk(room) for room in rooms))
        await home.quiet()
        for room in rooms:
            assert said_in(home, room) == [f"{room} {n}" for n in range(40)]


# --- 10: a full disk -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_10_a_full_disk_is_no_ack_and_unhealthy_and_recovers(tmp_path: Path, unused_port: int) -> None:
    with small_disk(tmp_path / "state", 8) as disk:
        config: dict[str, dict[str, Any]] = {
            "gateway": {"state_dir": str(disk.folder), "listen": f"127.0.0.1:{unused_port}"}
        }
        with Huskies(tmp_path, config) as huskies:
            await huskies.start()
            await huskies.send("new project demo", "p")
            assert await readiness(unused_port) == (200, "ready\n")
            disk.fill()
            refused = await send_until_refused(huskies)
            async with asyncio.timeout(20 * patience()):
                while (ready := await readiness(unused_port))[0] == 200:
                    await asyncio.sleep(0.05)
            assert ready[0] == 503
            assert re.search(r"^state: the database refuses writes: .*free some space", ready[1], re.MULTILINE)
            again = await huskies("send", "hello", "--timeout", "20")
            assert "the database refuses writes" in again.complaint
            assert (await huskies("doctor")).code == 1
            assert rows(huskies, "SELECT count(*) FROM messages WHERE external_id = ?", refused) == [(0,)]

            disk.free()
            async with asyncio.timeout(30 * patience()):
                while (await readiness(unused_port))[0] != 200:
                    await asyncio.sleep(0.05)
            answer = await asyncio.wait_for(huskies.send("hello again", "after"), 30 * patience())
            assert answer["replies"][-1].endswith("hello again")
            assert rows(huskies, "SELECT count(*) FROM messages WHERE settled_at IS NULL") == [(0,)]
            assert "Traceback" not in huskies.log.read_text()


async def send_until_refused(huskies: Huskies) -> str:
    """Long messages, for the log of the database has some room of its own; the id of the one that is refused."""
    url = "http://gateway/send"
    async with asyncio.timeout(60 * patience()), huskies._session() as web:
        for number in range(200):
            body = {"text": f"/{'x' * 90_000}", "conversation": "default", "id": f"big{number}"}
            async with web.post(url, json=body) as answer:
                if answer.status == 503:
                    return f"big{number}"
                assert answer.status == 200
    raise AssertionError("the disk never was full")


async def readiness(port: int) -> tuple[int, str]:
    async with aiohttp.ClientSession() as web, web.get(f"http://127.0.0.1:{port}/readyz") as answer:
        return answer.status, await answer.text()


def rows(huskies: Huskies, statement: str, *values: object) -> list[Any]:
    return databases.rows(huskies.state, statement, *values)


# --- 12: one conversation is limited ---------------------------------------------------------------------------------


class Limited(FakeTransport):
    """A platform that wants one room to rest for a while after each try."""

    rest_s = 1.5
    until_s = float("inf")

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        if conversation.room == "limited":
            now = time.monotonic()
            if self.until_s == float("inf"):
                self.until_s = now + self.rest_s
            if now < self.until_s:
                self.calls.append("refused")
                raise TransportDown("429", retry_after_s=self.until_s - now)
        return await super().send(conversation, reply, key)


async def test_11_a_refused_token_is_not_tried_again_and_again_and_the_others_go_on(tmp_path: Path) -> None:
    async with SlackServer() as slack:
        slack.faults["auth.test"] = refusing("invalid_auth")
        section = {"bot_token": "xoxb-revoked", "app_token": "xapp-1", "api_base_url": slack.api_url}
        settings = make_settings(tmp_path, transports={"slack": section}, engine={"allow_unsandboxed": True})
        async with house(tmp_path, settings=settings) as home:
            await slack.until(lambda: slack.called("auth.test"))
            assert "demo" in await home.ask("new project demo", contains="is ready")
            assert await home.ask("hello", contains="hello")
            (part,) = [part for part in await home.app.parts() if part.name == "slack"]
            assert not part.ok
            assert "bot_token" in part.text
            assert slack.called("auth.test") == 1
    assert app_module._PAUSE_S >= 60


async def test_12_a_limited_conversation_waits_as_told_and_no_other_does(tmp_path: Path) -> None:
    transport = Limited()
    async with house(tmp_path, transport=transport) as home:
        began = time.monotonic()
        await home.say("version", room="limited")
        await until(lambda: "refused" in transport.calls)
        for number in range(5):
            await home.ask("version", room=f"other{number}", within_s=1)
        assert time.monotonic() - began < transport.rest_s, "the others were not held up"
        assert len(transport.sent) == 5
        await transport.until(lambda texts: len(texts) == 6)
        assert time.monotonic() - began >= transport.rest_s
        assert transport.calls.count("refused") == 1, "no try before its time"


# --- 15: very much at once -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_15_ten_thousand_messages_at_once(tmp_path: Path) -> None:
    rooms, each = 100, 100
    settings = make_settings(
        tmp_path, dispatcher={"queue_limit": each, "runs_per_project": 8, "coalesce_window_ms": 100}
    )
    async with house(tmp_path, settings=settings) as home:
        await home.ask("new project demo", contains="is ready")
        for room in range(rooms):
            await home.say("switch demo", room=f"room{room}")
        await home.quiet()
        store, process = home.app.store, psutil.Process()
        commits, answered, memory = store.commits, home.app.fates.counts[Fate.ANSWERED], process.memory_info().rss
        turn = [(room, number) for number in range(each) for room in range(rooms)]
        await asyncio.gather(*(home.say(f"room{room} {number}", room=f"room{room}") for room, number in turn))
        accepted_in = store.commits - commits
        await asyncio.wait_for(home.app.fates.all_settled(), 120 * patience())
        assert await home.app.outbox.drain(60)
        grown = process.memory_info().rss - memory
        for room in range(rooms):
            assert said_in(home, f"room{room}") == [f"room{room} {n}" for n in range(each)]
        assert home.app.fates.counts[Fate.ANSWERED] - answered == rooms * each
        assert home.app.fates.counts[Fate.REFUSED] == 0
        assert accepted_in < rooms * each / 10, "messages that come together are committed together"
        assert grown < 150 * 2**20, f"{grown / 2**20:.0f} MiB"


async def test_15_a_full_queue_refuses_visibly_and_loses_nothing(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, dispatcher={"queue_limit": 10, "coalesce_window_ms": 500})
    async with house(tmp_path, settings=settings) as home:
        await home.ask("new project demo", contains="is ready")
        await asyncio.gather(*(home.say(f"room {n}") for n in range(50)))
        await home.quiet()
        assert said_in(home, "room") == [f"room {n}" for n in range(10)]
        assert home.app.fates.counts[Fate.REFUSED] == 40
        assert sum("The queue is full (10 messages," in text for text in home.transport.texts) == 40


# --- 28: hostile output ----------------------------------------------------------------------------------------------


async def test_28_what_an_agent_prints_reaches_the_pipe_inert(tmp_path: Path) -> None:
    with Huskies(tmp_path) as huskies:
        process = huskies.popen("run", "--pipe", stdin=-1)
        assert process.stdin is not None
        process.stdin.write(b"new project demo\n")
        process.stdin.flush()
        demo = huskies.projects / "demo"
        await until(demo.is_dir, 20)
        (demo / "hostile").write_text("<!channel> @room \x1b[2J\x9b1A<script>\0\u202e\nend")
        out, _ = await asyncio.to_thread(process.communicate, b"@@run cat hostile\n", 30)
        assert out.endswith("\n<!channel> @room \ufffd[2J\ufffd1A<script>\ufffd\ufffd\nend\n".encode())


# --- 30: secrets -----------------------------------------------------------------------------------------------------

KEY, TOKEN = "sk-ant-canary-30", "syt_canary_30"


@contextmanager
def talkative_server() -> Iterator[str]:
    """Answers whatever it is asked with an error that quotes the request's credentials, and the model key."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            told = f"{self.headers.get('Authorization')} {self.headers.get('x-api-key')} {KEY} {TOKEN} at {self.path}"
            body = json.dumps({"errcode": "M_UNKNOWN", "error": told}).encode()
            self.send_response(500)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_30_canary_secrets_are_in_no_log_reply_or_process(tmp_path: Path, log_format: str) -> None:
    with talkative_server() as url:
        matrix = {"homeserver": url, "user_id": "@bot:x", "access_token": TOKEN}
        config: dict[str, dict[str, Any]] = {
            "agent": {"kind": "claude", "api_key": KEY, "api_base_url": url},
            "transports": {"matrix": matrix},
        }
        environment = {"HUSKIES_GATEWAY__LOG_LEVEL": "debug", "HUSKIES_GATEWAY__LOG_FORMAT": log_format}
        with Huskies(tmp_path, config) as huskies:
            huskies.spawn(**environment)
            async with asyncio.timeout(30 * patience()):
                while not huskies.log.exists() or "[secret]" not in huskies.log.read_text():
                    await asyncio.sleep(0.05)  # what the homeserver quotes was logged, and blotted out
            told = str(await huskies.send("new project demo", "p"))
            assert "is ready" in told
            ((token,),) = rows(huskies, "SELECT token FROM projects")
            wire = huskies.state / "demo" / "wire" / "gateway.sock"
            # A turn that the provider refuses again and again is open for long, so that its project may call the model.
            turn = asyncio.create_task(huskies.send("hello", "m"))
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(wire))) as web:
                headers = {"Authorization": f"Bearer {token}", "x-api-key": token}
                async with asyncio.timeout(60 * patience()):
                    status = 403
                    while status == 403:  # not before the turn is open
                        async with web.post("http://wire/model/v1/messages", json={}, headers=headers) as answer:
                            status = answer.status
                assert status == 500, "the upstream's answer came through"
            told += str(await huskies.send("stop", "stop"))
            told += str(await turn)
            told += "".join([(await huskies("doctor")).out, (await huskies("status", "demo")).out])
            told += str(await huskies.send("status", "s"))
            assert huskies.process is not None
            (sled,) = huskies.sleds()
            for process in (psutil.Process(huskies.process.pid), *family(sled)):
                told += told_by(process)
            await huskies.stop()
            told += huskies.log.read_text()
            assert "[secret]" in told
            assert KEY not in told
            assert TOKEN not in told


# --- 32: a message that crashes its handler --------------------------------------------------------------------------


async def poisoned(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a prompt that says "poison" raises whenever it is handed to the dispatcher."""
    submit = Dispatcher.submit

    def fragile(self: Dispatcher, message: Any, project_id: int, words: str | None = None) -> None:
        if "poison" in message.text:
            raise ZeroDivisionError("a defect")
        submit(self, message, project_id, words)

    monkeypatch.setattr(Dispatcher, "submit", fragile)


@pytest.mark.parametrize("behind_a_command", [False, True])
async def test_32_a_poisonous_message_fails_with_a_reference_and_the_others_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind_a_command: bool
) -> None:
    async with house(tmp_path) as home:
        await home.ask("new project demo", contains="is ready")
        await poisoned(home, monkeypatch)
        feed = [home.transport.message(text, f"x{n}") for n, text in enumerate(["before", "poison", "behind"])]
        if behind_a_command:
            feed.insert(0, home.transport.message("version", "v"))
        await home.app.inbox.accept("fake", feed, None)
        texts = await home.transport.until(lambda texts: any("behind" in text for text in texts), 5)
        assert any(re.search(r"Something went wrong \(ref [0-9a-f]{4}\)", text) for text in texts)
        await home.quiet()
        assert await fate_of(home, "x1") == Fate.FAILED
        assert await home.ask("still there?") == "still there?"


async def test_32_a_poisonous_message_does_not_keep_a_gateway_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home:
        await home.ask("new project demo", contains="is ready")
        feed = [home.transport.message("poison", "x1")]
        monkeypatch.setattr(home.app.inbox, "_on_accepted", lambda message: None)  # as if killed behind the commit
        await home.app.inbox.accept("fake", feed, None)
    await poisoned(home, monkeypatch)
    async with house(tmp_path) as home:
        home._ids = itertools.count(100)
        await home.transport.until(lambda texts: any("Something went wrong" in text for text in texts), 5)
        assert await home.ask("still there?") == "still there?"


async def fate_of(home: House, external_id: str) -> str:
    def read(connection: Any) -> str:
        return str(connection.scalar(select(table.c.fate).where(table.c.external_id == external_id)))

    return await home.app.store.read(read)


class Buggy(FakeTransport):
    """A platform's module with a defect: one reply makes it stumble."""

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        if "poison" in reply.text:
            raise ZeroDivisionError("a defect")
        return await super().send(conversation, reply, key)


async def test_32_a_reply_that_its_transport_stumbles_over_holds_up_no_other(tmp_path: Path) -> None:
    async with house(tmp_path, transport=Buggy()) as home:
        await home.ask("new project demo", contains="is ready")
        await home.say("poison")
        await home.quiet()
        assert await home.ask("and this?", contains="and this?") == "and this?"
        assert "1 replies in this conversation may not have been delivered" in await home.ask("status", contains="demo")


# --- housekeeping, and a sled that keeps dying -----------------------------------------------------------------------


async def test_a_sweep_spares_what_is_not_settled_and_sweeping_again_changes_nothing(world: World) -> None:
    demo = await world.project()
    await world.activate(demo)
    for text in ("answered", "failed"):
        await world.say(text, text)
        _, run = await world.next_run()
        await world.sleds.finish(demo, run)
        await world.settled(text)
    await world.say("running", "running")
    await world.next_run()
    await world.say("queued", "queued")
    await until(lambda: world.fates.counts[Fate.QUEUED] >= 4)
    assert await world.outbox.drain(5)
    first = world.accepted[0]
    await world.store.write(lambda c: world.outbox.add(c, first.destination, "unsent"))
    long_ago = time.time() - 100 * 86400

    def age(connection: Any) -> None:
        connection.exec_driver_sql(f"UPDATE messages SET received_at = {long_ago}, settled_at = settled_at - 8640000")
        connection.exec_driver_sql(f"UPDATE turns SET started_at = {long_ago}, ended_at = ended_at - 8640000")
        connection.exec_driver_sql(f"UPDATE outbox SET created_at = {long_ago}")

    def left(connection: Any) -> list[list[Any]]:
        queries = ("SELECT external_id FROM messages", "SELECT ended_at FROM turns", "SELECT text, state FROM outbox")
        return [[tuple(row) for row in connection.exec_driver_sql(f"{query} ORDER BY id")] for query in queries]

    await world.store.write(age)
    before = time.time() - 90 * 86400
    assert await world.store.write(lambda c: sweep(c, before)) == 2
    swept = await world.store.read(left)
    assert swept[0] == [("running",), ("queued",)]
    assert swept[1] == [(None,)]
    assert swept[2] == [("unsent", "pending")]
    assert await world.store.write(lambda c: sweep(c, before)) == 0
    assert await world.store.read(left) == swept
    if world.store.kind == "SQLite":  # PostgreSQL never lets it come to that
        assert await world.store.read(lambda c: c.exec_driver_sql("PRAGMA foreign_key_check").all()) == []
    assert [m.text for m in await world.store.read(lambda c: message_rows.with_fate(c, Fate.QUEUED))] == ["queued"]


async def dies_again_and_again(huskies: Huskies) -> None:
    """From now on the project's sled ends at once whenever it is started."""
    (sled,) = huskies.sleds()
    lock = huskies.state / "demo" / "home" / ".huskies" / "sled.lock"
    sled.kill()
    await until(lambda: not alive(sled.pid))
    lock.unlink()
    lock.mkdir()  # what it must lock is no file


async def recovers(huskies: Huskies) -> None:
    """What killed the sled is put right: it is up again by itself."""
    (huskies.state / "demo" / "home" / ".huskies" / "sled.lock").rmdir()
    answer = await asyncio.wait_for(huskies.send("back again?", "b"), 30 * patience())
    assert answer["replies"] == ["You said:\nback again?"]


@pytest.mark.slow
async def test_a_sled_that_keeps_dying_is_restarted_at_a_bounded_rate(tmp_path: Path) -> None:
    with Huskies(tmp_path, {"engine": {"allow_unsandboxed": True, "reconcile_s": 1.0}}) as huskies:
        await huskies.start()
        await huskies.send("new project demo", "p")
        await dies_again_and_again(huskies)
        await until(lambda: "starting the sled of demo" in huskies.log.read_text(), 20)
        began, starts = time.monotonic(), huskies.log.read_text().count("starting the sled of demo")
        await until(lambda: huskies.log.read_text().count("starting the sled of demo") >= starts + 3, 30)
        assert time.monotonic() - began >= 2.5, "not more often than it looks"
        assert (await huskies("status", "demo")).code == 1
        await recovers(huskies)


async def test_a_sled_that_keeps_dying_is_seen_in_the_status(tmp_path: Path) -> None:
    with Huskies(tmp_path) as huskies:
        await huskies.start()
        await huskies.send("new project demo", "p")
        await dies_again_and_again(huskies)

        async def told() -> str:
            return str((await huskies.get("/projects/demo"))["last_error"])

        try:
            async with asyncio.timeout(5 * patience()):
                while not await told():
                    await asyncio.sleep(0.1)
        finally:
            await recovers(huskies)
        async with asyncio.timeout(10 * patience()):
            while await told():
                await asyncio.sleep(0.1)
