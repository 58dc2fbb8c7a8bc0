"""One run of the transport: log in, receive either way, and close everything again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from gateway import outbound
from gateway.chat import Fate, MessageRef, Receiver
from gateway.errors import DeliveryRefused, TransportDown, TransportRefused
from transports.marks import Marks
from transports.slack.api import Api, Login
from transports.slack.app import App
from transports.slack.config import EMOJIS, NAME, SlackConfig
from transports.slack.intake import Intake
from transports.slack.memory import Memory
from transports.slack.outgoing import Outgoing, place
from transports.slack.people import People
from transports.slack.reader import PayloadReader
from transports.slack.rooms import Rooms
from transports.slack.socket import Socket
from transports.slack.threads import Threads
from transports.slack.webhook import Webhook

log = logging.getLogger(__name__)

_PAUSE_S = (0.2, 5.0)


class Connection:
    """The app while the transport runs."""

    def __init__(
        self,
        config: SlackConfig,
        may_speak: Callable[[str], bool],
        receiver: Receiver,
        *,
        memory: Memory,
        webhook: Webhook | None,
    ) -> None:
        self._config = config
        self._may_speak = may_speak
        self._receiver = receiver
        self._memory = memory
        self._webhook = webhook
        self._refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outgoing: Outgoing | None = None
        self._connected = False
        self._stored = True
        self.api: Api | None = None
        self.marks = Marks(NAME, EMOJIS)

    @property
    def serving(self) -> bool:
        """Whether events flow, and the gateway's store takes them."""
        return self._connected and self._stored

    def mark(self, ref: MessageRef, fate: Fate) -> None:
        """Show a fate, if there is a message to show it on: a press or a command has none."""
        if place(ref.external_id)[1]:
            self.marks.add(ref, fate)

    @property
    def outgoing(self) -> Outgoing:
        """Where to send.

        Raises:
            TransportDown: the bot is not logged in yet.
        """
        if self._outgoing is None:
            raise TransportDown("the Slack transport is not connected yet")
        return self._outgoing

    async def run(self) -> None:
        """Receive until cancelled.

        Raises:
            TransportRefused: Slack does not accept the app or its tokens.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=10)
        async with outbound.session(timeout=timeout) as session:
            self.api = Api(self._config, session, self._refuse)
            login = await self._log_in(self.api)
            self._memory.born = self._memory.born or login.clock
            self._outgoing = Outgoing(self.api, login.me, self._memory)
            rooms = Rooms(self.api, login.me.name)
            people = People(self.api)
            threads = Threads(self.api, login.me, people, self._may_speak)
            reader = PayloadReader(login.me, people, rooms, threads, self._may_speak)
            intake = Intake(reader, self._receiver, insists=self._webhook is None, stored=self._set_stored)
            app = App(self.api, login.me, self._config.api_base_url, self._may_speak)
            receives = self._receive(self.api, intake, app)
            try:
                await _together(intake.run(), self.marks.run(self._outgoing), self._wait_refused(), receives)
            finally:
                self._set_connected(False)
                self._outgoing = None
                await app.close()

    async def _receive(self, api: Api, intake: Intake, app: App) -> None:
        if self._webhook is None:
            await Socket(api, intake, app, self._config.ping_s, self._set_connected).run()
            return
        self._webhook.open = intake, app
        try:
            while True:
                api.doubts.clear()
                self._set_connected(True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._config.check_s):
                        await api.doubts.wait()
                await self._log_in(api)
        finally:
            self._webhook.open = None

    async def _log_in(self, api: Api) -> Login:
        pause_s = _PAUSE_S[0]
        while True:
            try:
                return await api.log_in()
            except (TransportDown, DeliveryRefused) as error:
                self._set_connected(False)
                if pause_s == _PAUSE_S[0]:
                    log.warning("slack: %s; trying again", error)
                asked_s = (error.retry_after_s if isinstance(error, TransportDown) else None) or 0.0
            await asyncio.sleep(max(pause_s * random.uniform(0.5, 1.0), asked_s))
            pause_s = min(2 * pause_s, _PAUSE_S[1])

    def _refuse(self, error: TransportRefused) -> None:
        """End the run: Slack no longer accepts the token."""
        if not self._refused.done():
            self._refused.set_exception(error)
            self._refused.exception()

    async def _wait_refused(self) -> None:
        await self._refused

    def _set_connected(self, now: bool) -> None:
        if now and not self._connected:
            log.info("slack: serving (%s)", self._config.mode)
        self._connected = now

    def _set_stored(self, now: bool) -> None:
        # Over HTTP nothing is sent again that would show that the store has recovered.
        self._stored = now or self._webhook is not None


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends; then end the others, and raise what that one raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
