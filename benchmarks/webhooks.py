"""Messages that a platform posts: signed, committed, acknowledged - beside a handler that only checks the signature.

    python -m benchmarks.webhooks [--seconds 3] [--rounds 4]

Slack (HTTP) and WhatsApp, each as the gateway serves it (transport, inbox, a durable SQLite database), beside a bare
aiohttp handler that computes the same HMAC over the same request. The two servers are processes on one core, the load
comes from another one, both in turn in one run. What counts is what is in the database afterwards. Then the gateway
is offered half the rate that it took, at a steady pace, and the times until its answers are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import itertools
import os
import secrets
import sqlite3
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import aiohttp
import msgspec
from aiohttp import web

from benchmarks.report import Row, main
from gateway.config import Access
from gateway.intake import Inbox
from gateway.store import Store
from gateway.web.webhooks import SERVER
from tests.support.slack_bot import SlackBot
from tests.support.slack_server import BOT, SECRET, TEAM, SlackServer, signed
from tests.support.twilio_server import ANA, PUBLIC_URL, TOKEN, TwilioServer, sign
from tests.support.whatsapp_bot import WhatsAppBot

#: The smallest share of the bare handler's rate, and the longest 99th percentile at half load, in milliseconds.
BOUND, BOUND_MS = 0.35, 100.0
BRIEF = {"seconds": 0.5, "rounds": 1}
CLIENTS = 32
PLATFORMS = {"slack": "/webhooks/slack", "whatsapp": "/webhooks/whatsapp"}


# --- the servers, each a process of its own ---------------------------------------------------------------------------


async def bare(platform: str) -> None:
    """Checks the HMAC and says yes."""

    async def slack(request: web.Request) -> web.Response:
        body = await request.read()
        stamp = request.headers["X-Slack-Request-Timestamp"].encode()
        made = hmac.new(SECRET.encode(), b"v0:" + stamp + b":" + body, hashlib.sha256).hexdigest()
        good = hmac.compare_digest(f"v0={made}", request.headers["X-Slack-Signature"])
        return web.Response(status=200 if good else 401)

    async def whatsapp(request: web.Request) -> web.Response:
        fields = sorted(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        text = PUBLIC_URL + request.path + "".join(name + value for name, value in fields)
        made = b64encode(hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()).decode()
        good = hmac.compare_digest(made, request.headers["X-Twilio-Signature"])
        return web.Response(status=200 if good else 403, text="<Response/>")

    app = web.Application()
    app.router.add_post(PLATFORMS[platform], slack if platform == "slack" else whatsapp)
    runner = web.AppRunner(app, access_log=None, **SERVER)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def gateway(platform: str, folder: Path) -> None:
    """The platform's transport and the inbox, as a gateway has them."""
    store = await Store.open(folder / "huskies.db")
    person = "slack:U0ANA" if platform == "slack" else f"whatsapp:{ANA}"
    inbox = Inbox(store, Access([person], []), on_accepted=lambda _: None, on_withdrawn=lambda _: None).of(platform)
    async with contextlib.AsyncExitStack() as stack:
        if platform == "slack":
            server = await stack.enter_async_context(SlackServer("http"))
            server.channel("D0ANA")
            await stack.enter_async_context(SlackBot(server, inbox))
            port = int(server.webhook.split(":")[2].split("/")[0])
        else:
            bot = await stack.enter_async_context(WhatsAppBot(await stack.enter_async_context(TwilioServer())))
            await bot.start(inbox)
            port = bot.port
        print(port, flush=True)
        await asyncio.Event().wait()


# --- the load ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Post:
    """A signed request."""

    body: bytes
    headers: dict[str, str]


def posts(platform: str, run: str) -> Iterator[Post]:
    """Messages from one person, each a new one."""
    twilio = TwilioServer()
    for number in itertools.count():
        if platform == "whatsapp":
            fields = twilio.fields(f"message {number}") | {"MessageSid": f"SM{run}{number:028x}"}
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            signature = sign(PLATFORMS[platform], fields)
            yield Post(urlencode(fields).encode(), {"X-Twilio-Signature": signature, **kind})
            continue
        ts = f"{1_700_000_000 + int(run, 16)}.{number:06d}"
        event = {"type": "message", "user": "U0ANA", "text": f"message {number}", "ts": ts, "event_ts": ts}
        event |= {"channel": "D0ANA", "channel_type": "im", "team": TEAM}
        told = {
            "type": "event_callback",
            "team_id": TEAM,
            "event_id": f"Ev{run}{number}",
            "event": event,
            "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True}],
        }
        body = msgspec.json.encode(told)
        yield Post(body, {**signed(body), "Content-Type": "application/json"})


class Server:
    """One of the two processes of a platform, on the first core."""

    def __init__(self, platform: str, kind: str, folder: Path) -> None:
        self.platform = platform
        self.kind = kind
        self.folder = folder
        folder.mkdir()
        self.url = ""

    async def __aenter__(self) -> Server:
        arguments = ["--serve", self.kind, self.platform, str(self.folder)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.webhooks",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, {0}),
        )
        assert self._process.stdout is not None
        port = int(await asyncio.wait_for(self._process.stdout.readline(), 30))
        self.url = f"http://127.0.0.1:{port}{PLATFORMS[self.platform]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()

    def rows(self) -> int:
        """The messages that are committed."""
        if self.kind == "bare":
            return 0
        with contextlib.closing(sqlite3.connect(self.folder / "huskies.db")) as connection:
            return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])

    async def flood(self, seconds: float) -> tuple[int, float]:
        """Send as many as it takes, for a while: how many were acknowledged, and in what time."""
        ready = list(itertools.islice(posts(self.platform, secrets.token_hex(2)), int(6000 * seconds)))
        todo = iter(ready)
        done = 0
        async with session() as http:
            began = time.monotonic()

            async def client() -> None:
                nonlocal done
                for post in todo:
                    async with http.post(self.url, data=post.body, headers=post.headers) as answer:
                        assert answer.status == 200, answer.status
                    done += 1
                    if time.monotonic() - began > seconds:
                        return

            await asyncio.gather(*(client() for _ in range(CLIENTS)))
            return done, time.monotonic() - began

    async def pace(self, rate: float, seconds: float) -> list[float]:
        """Send at a fixed rate, whether or not earlier ones are answered: the times until the answers, in ms."""
        ready = list(itertools.islice(posts(self.platform, secrets.token_hex(2)), int(rate * seconds)))
        took: list[float] = []
        async with session() as http:

            async def one(post: Post) -> None:
                began = time.monotonic()
                async with http.post(self.url, data=post.body, headers=post.headers) as answer:
                    assert answer.status == 200, answer.status
                took.append((time.monotonic() - began) * 1000)

            start = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for number, post in enumerate(ready):
                    await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
                    group.create_task(one(post))
        return took


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CLIENTS * 4))


async def run(platform: str, seconds: float, rounds: int, folder: Path) -> list[Row]:
    """Both servers of a platform in turn."""
    rates: dict[str, list[float]] = {"bare": [], "gateway": []}
    async with Server(platform, "bare", folder / "bare") as plain, Server(platform, "gateway", folder / "own") as own:
        for server in (plain, own):
            await server.flood(0.5)  # both warm
        for _ in range(rounds):
            for server in (plain, own):
                before = server.rows()
                done, took = await server.flood(seconds)
                assert server.kind == "bare" or server.rows() - before == done, (
                    "every one that was acknowledged is there"
                )
                rates[server.kind].append(done / took)
        half = statistics.median(rates["gateway"]) / 2
        times = sorted(await own.pace(half, seconds * 2))
    ours, bare = (statistics.median(rates[kind]) for kind in ("gateway", "bare"))
    p99 = times[int(len(times) * 0.99)]
    return [
        Row("webhooks", f"{platform}: committed and acknowledged", ours, "/s", bare, BOUND, at_least=True),
        Row("webhooks", f"{platform}: acknowledged, at {half:.0f}/s", statistics.median(times), "ms"),
        Row("webhooks", f"{platform}: acknowledged, at {half:.0f}/s, p99", p99, "ms", bound=BOUND_MS),
    ]


def measure(given: argparse.Namespace) -> list[Row]:
    """One platform after the other; the load does not use the first core if there is another one."""
    os.sched_setaffinity(0, set(range(1, os.cpu_count() or 2)) or {0})
    rows: list[Row] = []
    for platform in PLATFORMS:
        with tempfile.TemporaryDirectory(prefix="hb") as folder:
            rows += asyncio.run(run(platform, given.seconds, given.rounds, Path(folder)))
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    """How long, how often."""
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=4)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        kind, served, where = sys.argv[2:]
        asyncio.run(bare(served) if kind == "bare" else gateway(served, Path(where)))
        sys.exit(0)
    sys.exit(main(__doc__, options, measure, BRIEF))
