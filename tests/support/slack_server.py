"""A workspace on loopback: the part of Slack's Web API that the bot uses, the Socket Mode websocket with the documented
envelopes, and what posts to a Request URL. Deliveries are repeated as Slack's are, only sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from gateway.testing import patience
from tests.support.slack_api import APP, BOT, FORM, TEAM, WebApi, limited, refusing

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
#: Seconds until a delivery that nobody acknowledged comes again, for the first, second and third time.
RETRIES_S = (0.05, 0.2, 0.4)


@dataclass
class Delivery:
    """One event on its way to the bot: what each try was answered with (status, or None for no answer)."""

    payload: dict[str, Any]
    kind: str = "events_api"
    tries: list[int | None] = field(default_factory=list)
    #: What the acknowledgement said: shown to the person who did it.
    answer: dict[str, Any] = field(default_factory=dict)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def acknowledged(self) -> bool:
        return bool(self.tries) and self.tries[-1] == 200


class SlackServer(WebApi):
    """Use as an async context manager. `mode` is how events leave; `webhook` is where to, in http mode."""

    def __init__(self, mode: str = "socket") -> None:
        self.mode = mode
        self.webhook = ""
        self.retries = True
        #: Seconds that a delivery waits for its acknowledgement.
        self.patience_s = 3.0
        super().__init__()
        self.sockets: list[web.WebSocketResponse] = []
        self.connections = 0
        #: Accepts sockets, and answers nothing on them, not even pings.
        self.frozen = False
        #: Takes no sockets at all.
        self.closed_door = False
        self.deliveries: list[Delivery] = []
        self._acks: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self.port = 0

    # --- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        self.client = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()
        await self.close()

    async def open(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/api/{method}", self._api)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/files/{id}/{name}", self._file)
        app.router.add_post("/upload/{id}", self._upload)
        app.router.add_post("/respond", self._respond)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Be gone: sockets break, requests are refused."""
        for socket in list(self.sockets):
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    async def until(
        self, holds: Callable[[], object], told: Callable[[], object] = lambda: "", within_s: float = 20
    ) -> None:
        """Wait until something is so on this server."""
        async with self.news:
            try:
                async with asyncio.timeout(within_s * patience()):
                    await self.news.wait_for(holds)
            except TimeoutError:
                raise AssertionError(f"never came true: {told()}") from None

    # --- people ------------------------------------------------------------------------------------------------------

    def channel(self, channel: str, *, member: bool = True) -> str:
        """Make a conversation; one that begins with D is direct."""
        self.channels[channel] = {"id": channel, "is_im": channel.startswith("D"), "is_member": member}
        return channel

    def say(self, channel: str, text: str, *, user: str = "U0ANA", thread: str = "", **more: Any) -> str:
        """A person writes; the bot hears of it, twice when it is mentioned. The timestamp."""
        ts = self.ts()
        message: dict[str, Any] = {"type": "message", "user": user, "text": text, "ts": ts, "team": TEAM, **more}
        if thread:
            message["thread_ts"] = thread
        self.messages[channel].append(message)
        kind = "im" if channel.startswith("D") else "channel"
        event = {**message, "channel": channel, "channel_type": kind, "event_ts": ts}
        self.deliver(event)
        if f"<@{BOT}>" in text and kind != "im":
            self.deliver(
                {key: value for key, value in event.items() if key != "channel_type"} | {"type": "app_mention"}
            )
        return ts

    def edit(self, channel: str, ts: str, text: str) -> Delivery:
        """A person edits."""
        message = self.message(channel, ts)
        before = dict(message)
        message |= {"text": text, "edited": {"user": message["user"], "ts": self.ts()}}
        return self.deliver(self.hidden(channel, "message_changed", message=dict(message), previous_message=before))

    def delete(self, channel: str, ts: str) -> Delivery:
        """A person deletes."""
        message = self.message(channel, ts)
        self.messages[channel].remove(message)
        return self.deliver(self.hidden(channel, "message_deleted", deleted_ts=ts, previous_message=message))

    def hidden(self, channel: str, subtype: str, **more: Any) -> dict[str, Any]:
        """The event that stands for something done to a message."""
        ts = self.ts()
        kind = "im" if channel.startswith("D") else "channel"
        return {
            **{"type": "message", "subtype": subtype, "hidden": True, "channel": channel, "channel_type": kind},
            **{"ts": ts, "event_ts": ts},
            **more,
        }

    def press(self, channel: str, ts: str, word: str, *, user: str = "U0ANA") -> Delivery:
        """A person presses a button."""
        message = self.message(channel, ts)
        buttons = [b for block in message["blocks"] if block["type"] == "actions" for b in block["elements"]]
        button = next(b for b in buttons if b["value"] == word)
        action = {"type": "button", "block_id": "choices", "action_ts": self.ts(), **button}
        container = {"type": "message", "message_ts": ts, "channel_id": channel}
        if "thread_ts" in message:
            container["thread_ts"] = message["thread_ts"]
        return self.interact(
            {"type": "block_actions", "container": container, "message": message, "actions": [action]}, channel, user
        )

    def interact(self, payload: dict[str, Any], channel: str, user: str) -> Delivery:
        """An interaction of a person's."""
        whole = {
            **payload,
            "user": {"id": user, "username": self.users.get(user, "").lower(), "team_id": TEAM},
            "api_app_id": APP,
            "team": {"id": TEAM, "domain": "huskies"},
            "is_enterprise_install": False,
            "channel": {"id": channel, "name": "general"},
            "trigger_id": f"{next(self._numbers)}.1.abc",
            "response_url": f"{self.url}/respond",
        }
        return self._send(Delivery(whole, "interactive"))

    def shortcut(self, channel: str, ts: str, *, user: str = "U0ANA") -> Delivery:
        """A person sends a message on by the shortcut."""
        told = {"type": "message_action", "callback_id": "send_to_huskies", "message_ts": ts, "action_ts": self.ts()}
        return self.interact({**told, "message": self.message(channel, ts)}, channel, user)

    def command(self, channel: str, text: str, *, user: str = "U0ANA") -> Delivery:
        """A person types `/huskies ...`."""
        return self._send(
            Delivery(
                {
                    **{"token": "t", "team_id": TEAM, "team_domain": "huskies", "channel_id": channel},
                    **{"channel_name": "general", "user_id": user, "user_name": "ana", "command": "/huskies"},
                    **{"text": text, "api_app_id": APP, "is_enterprise_install": "false"},
                    **{"response_url": f"{self.url}/respond", "trigger_id": f"{next(self._numbers)}.2.cde"},
                },
                "slash_commands",
            )
        )

    def message(self, channel: str, ts: str) -> dict[str, Any]:
        return next(message for message in self.messages[channel] if message["ts"] == ts)

    def posts(self, channel: str, thread: str | None = None) -> list[dict[str, Any]]:
        """What the bot's messages are now, oldest first."""
        mine = [message for message in self.messages[channel] if message["user"] == BOT]
        return [m for m in mine if thread is None or m.get("thread_ts", "") == thread]

    # --- deliveries --------------------------------------------------------------------------------------------------

    def deliver(self, event: dict[str, Any], **changes: Any) -> Delivery:
        """Send an event to the bot, again while it is not acknowledged."""
        number = next(self._numbers)
        payload = {
            **{"token": "t", "team_id": TEAM, "api_app_id": APP, "event": event, "type": "event_callback"},
            **{"event_id": f"Ev{number:08d}", "event_time": int(time.time())},
            "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True, "is_enterprise_install": False}],
        }
        return self._send(Delivery(payload | changes))

    def _send(self, delivery: Delivery) -> Delivery:
        self.deliveries.append(delivery)
        task = asyncio.create_task(self._insist(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return delivery

    async def _insist(self, delivery: Delivery) -> None:
        for number, pause_s in enumerate((*RETRIES_S, None)):
            try_ = self._post if self.mode == "http" else self._push
            delivery.tries.append(await try_(delivery, number))
            await self.changed()
            if delivery.acknowledged or pause_s is None or not self.retries:
                break
            await asyncio.sleep(pause_s)
        delivery.done.set()

    async def _post(self, delivery: Delivery, retry: int) -> int | None:
        if delivery.kind == "events_api":
            body, kind = json.dumps(delivery.payload).encode(), "application/json"
        elif delivery.kind == "interactive":
            body, kind = urlencode({"payload": json.dumps(delivery.payload)}).encode(), FORM
        else:
            body, kind = urlencode(delivery.payload).encode(), FORM
        headers = signed(body) | {"Content-Type": kind}
        if retry:
            headers |= {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": "http_error"}
        try:
            async with (
                asyncio.timeout(self.patience_s),
                self.client.post(self.webhook, data=body, headers=headers) as r,
            ):
                said = await r.read()
                delivery.answer = json.loads(said) if r.content_type == "application/json" else {}
                return r.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def _push(self, delivery: Delivery, retry: int) -> int | None:
        with contextlib.suppress(AssertionError):
            await self.until(lambda: self.sockets, within_s=self.patience_s)
        if not self.sockets:
            return None
        envelope_id = f"envelope-{next(self._numbers)}"
        envelope = {
            **{"envelope_id": envelope_id, "type": delivery.kind, "payload": delivery.payload},
            "accepts_response_payload": delivery.kind != "events_api",
        }
        if delivery.kind == "events_api":
            envelope |= {"retry_attempt": retry, "retry_reason": "timeout" if retry else ""}
        ack = self._acks[envelope_id] = asyncio.get_running_loop().create_future()
        try:
            await self.sockets[-1].send_json(envelope)
            async with asyncio.timeout(self.patience_s):
                delivery.answer = await ack
            return 200
        except (TimeoutError, OSError, aiohttp.ClientError):
            return None
        finally:
            del self._acks[envelope_id]

    # --- the socket --------------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self.closed_door:
            return web.Response(status=403)
        socket = web.WebSocketResponse(autoping=not self.frozen)
        await socket.prepare(request)
        self.connections += 1
        await socket.send_json(
            {"type": "hello", "num_connections": 1, "connection_info": {"app_id": APP}, "debug_info": {"host": "test"}}
        )
        self.sockets.append(socket)
        await self.changed()
        try:
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    continue
                told = json.loads(frame.data)
                ack = self._acks.get(told.get("envelope_id", ""))
                if ack is not None and not ack.done():
                    ack.set_result(told.get("payload", {}))
        finally:
            self.sockets.remove(socket)
            await self.changed()
        return socket

    async def disconnect(self, reason: str = "refresh_requested") -> None:
        """Ask the bot to open another connection."""
        for socket in list(self.sockets):
            await socket.send_json({"type": "disconnect", "reason": reason, "debug_info": {"host": "test"}})


def signed(body: bytes, *, at: float | None = None, secret: str = SECRET) -> dict[str, str]:
    """The headers of an authentic request."""
    stamp = str(int(time.time() if at is None else at))
    made = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={made}"}


def shown(message: Mapping[str, Any]) -> str:
    """What people read in a message of the bot's: its sections, unescaped."""
    parts: list[str] = []
    for block in message.get("blocks", []):
        if block["type"] == "section":
            parts += ["" if block["block_id"].startswith("more") or not parts else "\n\n", block["text"]["text"]]
    text = "".join(parts)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def buttons(message: Mapping[str, Any]) -> list[str]:
    """The choices that a message offers."""
    return [b["value"] for block in message["blocks"] if block["type"] == "actions" for b in block["elements"]]


__all__ = ["BOT", "SECRET", "TEAM", "SlackServer", "buttons", "limited", "refusing", "shown", "signed"]
