"""The parts of a running transport, and the answers to what Twilio posts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import replace

from aiohttp import web

from gateway.chat import Conversation, Deliveries, Fate, Message, MessageRef, Noted, Outcome, Receiver
from gateway.chat.text import pointed_at
from gateway.errors import StateError, TransportDown, TransportRefused
from transports.whatsapp import events
from transports.whatsapp.api import Api
from transports.whatsapp.config import NAME, WhatsAppConfig
from transports.whatsapp.errors import WINDOW
from transports.whatsapp.events import SID
from transports.whatsapp.media import PATH as MEDIA_PATH
from transports.whatsapp.media import Shelf
from transports.whatsapp.outgoing import Outgoing
from transports.whatsapp.typing import Typing
from transports.whatsapp.webhook import PATH, STATUS_PATH, Doorkeeper, Form, Refused
from transports.whatsapp.window import Window

log = logging.getLogger(__name__)

#: Twilio waits 15 seconds for an answer. This long for the commit, and for the transport to start.
_COMMIT_S, _START_S = 10.0, 3.0
#: Seconds between two tries while Twilio is away.
_BACK_OFF_S = (0.5, 30.0)
#: What is about a message may come before the answer to its post was recorded: seconds after which that is looked for.
_PATIENCE_S = (0.2, 1.0, 3.0)
_ARRIVED = frozenset({"sent", "delivered", "read"})
_LOST = frozenset({"failed", "undelivered"})


class Connection:
    """See `WhatsAppTransport`. It outlives a run: messages are taken even while the account is refused."""

    def __init__(self, config: WhatsAppConfig, deliveries: Deliveries | None) -> None:
        self._config = config
        self._deliveries = deliveries
        self._door = Doorkeeper(config)
        self._window = Window()
        if deliveries is not None:
            self._window.heard = deliveries.heard
        self._shelf = Shelf(config.auth_token, config.public_url, config.media_s)
        self.outgoing = Outgoing(config, self._window, self._shelf)
        if deliveries is not None:
            self.outgoing.posted.claimed = deliveries.claimed
            self.outgoing.posted.newest_before = None
        self._receiver: Receiver | None = None
        self._ready = asyncio.Event()
        self._typing: Typing | None = None
        self.serving = False

    def routes(self) -> list[web.RouteDef]:
        """What the public listener serves."""
        return [
            web.post(PATH, self._on_message),
            web.post(STATUS_PATH, self._on_status),
            web.get(f"{MEDIA_PATH}{{token}}", self._shelf.get),
        ]

    def mark(self, ref: MessageRef, fate: Fate) -> None:
        """Show typing, or stop it."""
        if self._typing is not None:
            self._typing.show(ref, fate)

    async def run(self, receiver: Receiver) -> None:
        """See `WhatsAppTransport.run`."""
        if self.outgoing.api is not None:
            raise RuntimeError("this transport is already running")
        try:
            async with Api(self._config) as api, contextlib.aclosing(Typing(api)) as typing:
                self._typing, self.outgoing.api = typing, api
                await self._watch(api, receiver)
        except asyncio.CancelledError:
            self._receiver = None
            self._ready.clear()
            raise
        finally:
            self.serving, self._typing, self.outgoing.api = False, None, None

    async def _watch(self, api: Api, receiver: Receiver) -> None:
        """Check the account now and then, and whenever a send failed."""
        pause_s = _BACK_OFF_S[0]
        while True:
            try:
                if self._receiver is None:
                    await self._window.load(receiver)
                    if self._deliveries is not None and self.outgoing.posted.newest_before is None:
                        self.outgoing.posted.newest_before = await self._deliveries.newest()
                    self._receiver = receiver
                    self._ready.set()
                self.outgoing.doubts.clear()
                await api.check()
            except (TransportDown, StateError) as error:
                if self.serving or pause_s == _BACK_OFF_S[0]:
                    log.warning("whatsapp: %s; trying again", error)
                self.serving = False
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, _BACK_OFF_S[1])
                continue
            self.serving, pause_s = True, _BACK_OFF_S[0]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.check_s):
                    await self.outgoing.doubts.wait()

    # --- what Twilio posts -------------------------------------------------------------------------------------------

    async def _on_message(self, request: web.Request) -> web.Response:
        try:
            form = await self._door.admit(request, PATH)
            await self._take(form)
        except Refused as refused:
            return web.Response(status=refused.status)
        return _taken()

    async def _take(self, form: Form) -> None:
        """Commit a message, if it is one for us."""
        message = events.read(form, self._config)
        if message is None:
            log.info("whatsapp: a request that is not a message to %s was ignored", self._config.from_number)
            return
        try:
            message = await self._with_what_it_answers(message, form)
            if not self._ready.is_set():
                async with asyncio.timeout(_START_S):
                    await self._ready.wait()
            if self._receiver is None:
                raise Refused(503)
            async with asyncio.timeout(_COMMIT_S):
                await self._receiver.accept([message])
        except (StateError, TimeoutError):
            raise Refused(503) from None
        self._window.wrote(message.conversation.room)
        if self._deliveries is not None:
            self._deliveries.wake(message.conversation)

    async def _with_what_it_answers(self, message: Message, form: Form) -> Message:
        """A message with what it replies to, if that is known here."""
        answered = form.get("OriginalRepliedMessageSid", "")
        if self._deliveries is None or not SID.fullmatch(answered) or message.presses:
            return message
        found = await self._deliveries.said(NAME, answered)
        for pause_s in _PATIENCE_S[:2]:  # whoever is quick answers what is not recorded as sent yet
            if found is not None:
                break
            await asyncio.sleep(pause_s)
            found = await self._deliveries.said(NAME, answered)
        return message if found is None else replace(message, quoted=pointed_at(found[0] or "You", found[1]))

    async def _on_status(self, request: web.Request) -> web.Response:
        try:
            form = await self._door.admit(request, STATUS_PATH)
            await self._learn(form, request.query.get("key", ""))
        except Refused as refused:
            return web.Response(status=refused.status)
        except (StateError, TransportDown, TransportRefused) as error:
            log.warning("whatsapp: a status could not be kept: %s", error)
            return web.Response(status=503)
        return _taken()

    async def _learn(self, form: Form, key: str) -> None:
        """What became of a message of ours."""
        status, sid, code = form.get("MessageStatus", ""), form.get("MessageSid", ""), form.get("ErrorCode", "")
        here = Conversation(NAME, form.get("To", "").removeprefix(f"{NAME}:"))
        self.outgoing.order.heard(here, sid, status)
        if status in _ARRIVED:
            self.outgoing.posted.heard_of(key, sid)
            await self._report(key, sid, Outcome.ARRIVED, "")
        if status not in _LOST:
            return
        why = f"Twilio says: {status}, error {code}"
        log.warning("whatsapp: message %s: %s", sid, why)
        late = code == str(WINDOW)
        again = late or self.outgoing.without_buttons(key)
        if again:
            self.outgoing.posted.forget(key)
        noted = await self._report(key, sid, Outcome.AGAIN if again else Outcome.LOST, why)
        if noted == "kept" and late:  # otherwise it belongs to an earlier try, and the window may be open now
            await self.outgoing.close_window(here)
        if noted == "kept" and self._deliveries is not None:
            self._deliveries.wake(here)

    async def _report(self, key: str, sid: str, outcome: Outcome, why: str) -> Noted:
        if self._deliveries is None or not key:
            return "known"
        for pause_s in _PATIENCE_S:
            if (noted := await self._deliveries.report(NAME, key, sid, outcome, why)) != "early":
                return noted
            await asyncio.sleep(pause_s)
        log.warning("whatsapp: the status of message %s came too early to be kept: %s", sid, why or outcome)
        return "early"


def _taken() -> web.Response:
    """TwiML that says nothing: replies go out through the API."""
    return web.Response(text='<?xml version="1.0" encoding="UTF-8"?><Response/>', content_type="text/xml")
