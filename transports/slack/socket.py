"""Socket Mode: we connect to Slack, and acknowledge an envelope once what is in it is committed.

The SDK's own client starts a task per envelope, so that two messages may overtake each other, and keeps a dead
connection for a long time. Here one reader puts envelopes in line, and a ping without an answer ends the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
import urllib.request
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.errors import DeliveryRefused, StateError, TransportDown, TransportRefused
from transports.slack import errors
from transports.slack.api import Api
from transports.slack.app import NOTHING, Acknowledgement, App
from transports.slack.intake import Intake
from transports.slack.told import mapping, string

log = logging.getLogger(__name__)

#: Seconds within which a new connection must have said hello.
_HELLO_S = 10.0
#: Seconds that a connection which Slack closes properly waits for what still has to be acknowledged.
_LAST_ACKS_S = 5.0
_PAUSE_S = (0.2, 5.0)
#: Seconds after which a connection counts as one that worked.
_STEADY_S = 10.0
_MOST_BYTES = 2**20
_ENVELOPES = ("events_api", "interactive", "slash_commands")


class Socket:
    """Receives over one connection at a time."""

    def __init__(self, api: Api, intake: Intake, app: App, ping_s: float, connected: Callable[[bool], None]) -> None:
        self._api = api
        self._intake = intake
        self._app = app
        self._ping_s = ping_s
        self._connected = connected

    async def run(self) -> None:
        """Receive until cancelled.

        Raises:
            TransportRefused: Slack does not accept the token, or Socket Mode is switched off.
        """
        pause_s = _PAUSE_S[0]
        while True:
            began, asked_s = time.monotonic(), 0.0
            try:
                await self._receive()
            except (TransportDown, DeliveryRefused) as error:
                log.warning("slack: the socket is closed: %s; opening another", error)
                asked_s = (error.retry_after_s if isinstance(error, TransportDown) else None) or 0.0
            finally:
                self._connected(False)
            if time.monotonic() - began > _STEADY_S:
                pause_s = _PAUSE_S[0]
            await asyncio.sleep(max(pause_s * random.uniform(0.5, 1.0), asked_s))
            pause_s = min(2 * pause_s, _PAUSE_S[1])

    async def _receive(self) -> None:
        """Receive over one connection until either side ends it."""
        url = await self._api.open_socket()
        with errors.translated():
            async with asyncio.timeout(_HELLO_S):
                web = await self._api.session.ws_connect(
                    url, heartbeat=self._ping_s, max_msg_size=_MOST_BYTES, proxy=_proxy(url)
                )
        acks: set[asyncio.Task[None]] = set()
        try:
            with errors.translated():
                async with asyncio.timeout(_HELLO_S):
                    frame = await web.receive()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    raise TransportDown("Slack opened a socket and closed it at once")
                self._connected(True)
                while await self._take(web, frame, acks):
                    frame = await web.receive()
                if acks:
                    await asyncio.wait(acks, timeout=_LAST_ACKS_S)
            if (error := web.exception()) is not None:
                raise errors.from_exception(error if isinstance(error, Exception) else TimeoutError()) from error
        finally:
            for task in acks:
                task.cancel()
            await asyncio.shield(asyncio.create_task(_closed(web)))

    async def _take(
        self, web: aiohttp.ClientWebSocketResponse, frame: aiohttp.WSMessage, acks: set[asyncio.Task[None]]
    ) -> bool:
        """One frame; False when this connection is over, or Slack wants us to open another."""
        if frame.type is not aiohttp.WSMsgType.TEXT:
            return frame.type is aiohttp.WSMsgType.BINARY
        told = _decoded(frame.data)
        kind, envelope_id = told.get("type"), string(told.get("envelope_id"))
        if kind == "disconnect":
            _refuse_if_off(told)
            return False
        if not envelope_id:
            return True
        if kind not in _ENVELOPES:
            await _acknowledge(web, envelope_id)
            return True
        payload = mapping(told.get("payload"))
        committed = await self._intake.offer(payload)
        answers = self._app.acknowledge(payload, committed)
        may_say = bool(told.get("accepts_response_payload"))
        task = asyncio.create_task(_acknowledge_once(web, envelope_id, answers, may_say=may_say))
        acks.add(task)
        task.add_done_callback(acks.discard)
        return True


def _refuse_if_off(told: Mapping[str, Any]) -> None:
    if told.get("type") == "disconnect" and told.get("reason") == "link_disabled":
        raise TransportRefused(
            "Socket Mode is switched off for this Slack app: switch it on under Socket Mode, or set "
            'transports.slack.mode = "http"'
        )


async def _acknowledge_once(
    web: aiohttp.ClientWebSocketResponse,
    envelope_id: str,
    answers: Coroutine[Any, Any, Acknowledgement],
    *,
    may_say: bool,
) -> None:
    try:
        acknowledgement = await answers
    except StateError as error:
        log.warning("slack: an envelope is not acknowledged: %s", error)
        return
    await _acknowledge(web, envelope_id, acknowledgement if may_say else NOTHING)


async def _acknowledge(
    web: aiohttp.ClientWebSocketResponse, envelope_id: str, acknowledgement: Acknowledgement = NOTHING
) -> None:
    told: dict[str, Any] = {"envelope_id": envelope_id}
    if acknowledgement.body is not None:
        told["payload"] = acknowledgement.body
    try:
        await web.send_str(json.dumps(told))
    except (aiohttp.ClientError, OSError) as error:  # it comes again, and is recognised then
        log.info("slack: an envelope could not be acknowledged: %s", type(error).__name__)


async def _closed(web: aiohttp.ClientWebSocketResponse) -> None:
    try:
        async with asyncio.timeout(1.0):
            await web.close()
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        log.debug("slack: the socket did not close in order: %s", type(error).__name__)


def _decoded(data: object) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(data)) if isinstance(data, str) else {}
    except (ValueError, RecursionError):
        log.warning("slack: a frame that is not JSON was skipped")
        return {}


def _proxy(url: str) -> str | None:
    """The environment's proxy for a socket: that of https, as `wss` has no variable of its own."""
    host = urlsplit(url).hostname or ""
    if not url.startswith("wss:") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get("https")
