"""What goes out: text, buttons where a template has them, and files."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from urllib.parse import quote

from gateway.chat import Attachment, Conversation, MessageRef, OutgoingFile, Reply
from gateway.errors import DeliveryRefused, OutcomeUnknown, StateError, TransportDown, TransportRefused
from transports.whatsapp import render
from transports.whatsapp.api import Api
from transports.whatsapp.config import MAX_TEXT, NAME, WhatsAppConfig
from transports.whatsapp.errors import WindowClosed
from transports.whatsapp.media import Shelf
from transports.whatsapp.order import Order
from transports.whatsapp.posted import Matches, Posted
from transports.whatsapp.webhook import STATUS_PATH
from transports.whatsapp.window import Window

log = logging.getLogger(__name__)

#: Characters that a message with buttons may have.
_MOST_WITH_BUTTONS = 1_024
#: Messages with buttons that are remembered.
_REMEMBERED = 1_000


class Outgoing:
    """Sends within the window. `api` is there while the transport runs."""

    def __init__(self, config: WhatsAppConfig, window: Window, shelf: Shelf) -> None:
        self._config = config
        self._window = window
        self._shelf = shelf
        self._templates = {_words(words.split(",")): sid for words, sid in config.quick_replies.items()}
        self._with_buttons: dict[str, bool] = {}
        self.posted = Posted(config.calm_s)
        self.order = Order(config.order_s)
        self.api: Api | None = None
        #: Set when the account refused us, or Twilio was away: the account should be checked.
        self.doubts = asyncio.Event()

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        """See `WhatsAppTransport.send`."""
        text = render.formatted(reply.text, MAX_TEXT)
        template = self._templates.get(_words(reply.choices), "") if reply.choices else ""
        if template and len(text) <= _MOST_WITH_BUTTONS and self._with_buttons.get(key, True):
            self._remember(key)
            fields = {"ContentSid": template, "ContentVariables": json.dumps({"1": text})}
            try:
                return await self._post(conversation, fields, key, lambda body: text.strip() in body)
            except DeliveryRefused as error:  # never processed, and the text names the words too
                log.warning("whatsapp: a question is sent without buttons: %s", error)
        return await self._post(conversation, {"Body": text}, key, lambda body: text.strip() == body.strip())

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        """See `WhatsAppTransport.send_file`."""
        fields = {"MediaUrl": self._shelf.lend(file)}
        if reply.text:
            fields["Body"] = render.formatted(reply.text, MAX_TEXT)
        said = fields.get("Body", "").strip()
        return await self._post(conversation, fields, key, lambda body: body.strip() in ("", said), file=True)

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        """See `WhatsAppTransport.fetch`."""
        await self._running().download(file, into, most)

    def without_buttons(self, key: str) -> bool:
        """Whether a message that failed had buttons, so that it can be sent again without."""
        had = self._with_buttons.get(key, False)
        if had:
            self._with_buttons[key] = False
        return had

    async def close_window(self, conversation: Conversation) -> None:
        """WhatsApp told us that a person's window is closed. Raises TransportDown, StateError."""
        await self._window.close(conversation, lambda: self._ask(conversation))

    async def _post(
        self, conversation: Conversation, fields: dict[str, str], key: str, matches: Matches, *, file: bool = False
    ) -> MessageRef:
        api = self._running()
        if (known := await self.posted.find(api, conversation, key, matches, file=file)) is not None:
            return MessageRef(conversation, known)
        await self.order.wait(conversation)
        await self._window.pass_through(conversation, lambda: self._ask(conversation))
        callback = f"{self._config.public_url.rstrip('/')}{STATUS_PATH}?key={quote(key, safe='')}"
        told = {"To": f"{NAME}:{conversation.room}", "StatusCallback": callback, **fields}
        try:
            sid = await api.send(told)
        except OutcomeUnknown as error:  # the next try looks for it first
            self.posted.doubt(key)
            raise TransportDown(f"perhaps sent: {error}", retry_after_s=self._config.calm_s) from error
        except WindowClosed:
            try:
                await self.close_window(conversation)
            except StateError as error:
                raise TransportDown(str(error)) from error
            raise
        except (TransportDown, TransportRefused):
            self.doubts.set()
            raise
        self.posted.keep(key, sid)
        self.order.posted(conversation, sid)
        return MessageRef(conversation, sid)

    async def _ask(self, conversation: Conversation) -> None:
        log.info("whatsapp: a reply is held until its person writes again")
        if self._config.template_sid:
            fields = {"To": f"{NAME}:{conversation.room}", "ContentSid": self._config.template_sid}
            await self._running().send(fields)

    def _remember(self, key: str) -> None:
        self._with_buttons[key] = True
        while len(self._with_buttons) > _REMEMBERED:
            del self._with_buttons[next(iter(self._with_buttons))]

    def _running(self) -> Api:
        if self.api is None:
            raise TransportDown("the WhatsApp transport is not running")
        return self.api


def _words(words: object) -> str:
    """Choices as a key: their order counts, the space around them does not."""
    assert isinstance(words, list | tuple)
    return ",".join(re.sub(r"\s+", " ", str(word)).strip().lower() for word in words)
