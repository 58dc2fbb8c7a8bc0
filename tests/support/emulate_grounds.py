"""Proving grounds of Slack and WhatsApp whose platform others have made: see `emulate_platforms`."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, Self

from gateway.chat import Conversation, Deliveries, MessageRef
from gateway.store import Store
from tests.support.emulate_platforms import ANAS, EVES, Account, Platform, Workspace
from tests.support.grounds import until
from tests.support.remote_grounds import LAST_WORDS, STRANGER, RemoteGround
from tests.support.slack_bot import SlackBot
from tests.support.slack_server import BOT, shown
from tests.support.twilio_server import ANA
from tests.support.whatsapp_bot import WhatsAppBot


class EmulatedGround(RemoteGround):
    """A platform of `emulate`'s. It has no buttons."""

    taps = False
    platform: Platform

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.platform)
            await self._set_up(stack)
            await super().__aenter__()
            stack.push_async_callback(super().__aexit__, None, None, None)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        """Make `transport`, where the platform reaches it."""
        raise NotImplementedError

    def limit(self, times: int) -> None:
        self.platform.front.limited = times

    async def vanish(self) -> None:
        await self.platform.front.close()

    async def come_back(self) -> None:
        await self.platform.front.open()


class EmulatedSlack(EmulatedGround):
    """A direct message of Ana's, and a channel, over HTTP. Eve is not listed."""

    person_name = "Ana"

    def __init__(self, store: Store, package: Path) -> None:
        super().__init__(store)
        self.platform = self.space = Workspace(package)

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        self.person = f"slack:{self.space.ana}"
        bot = self.bot()
        self.transport = bot.transport
        stack.push_async_callback(bot.stop)
        await bot.listen()
        self.conversation = Conversation("slack", await self.space.direct())

    def bot(self, **settings: str) -> SlackBot:
        """The app in front of the same workspace, as another process with other settings."""
        return SlackBot(self.space, self.recorder, stranger=self.space.eve, **settings)  # type: ignore[arg-type]

    async def say(self, text: str) -> str:
        return await self.space.says(self.conversation.room, text)

    async def in_group(self, text: str, *, mention: bool) -> None:
        await self.space.says(self.space.group, f"<@{BOT}> {text}" if mention else text)

    async def change(self, external_id: str, text: str) -> None:
        channel, ts = external_id.split(":")
        await self.space.acts(ANAS, "chat.update", channel=channel, ts=ts, text=text)

    async def take_back(self, external_id: str) -> None:
        channel, ts = external_id.split(":")
        await self.space.acts(ANAS, "chat.delete", channel=channel, ts=ts)

    async def intrude(self, external_id: str, card: MessageRef) -> None:
        # Slack lets her into nobody else's direct messages, so there is only what she says and shares herself.
        group = self.space.group
        await self.space.shares(group, "x.png", b"x", f"<@{BOT}> look", by=EVES)
        said = await self.space.says(group, f"<@{BOT}> help", by=EVES)
        await self.space.acts(EVES, "chat.update", channel=group, ts=said.split(":")[1], text=f"<@{BOT}> stop")
        await self.space.says(await self.space.direct(EVES), LAST_WORDS, by=EVES)

    async def share(self, name: str, content: bytes, text: str) -> None:
        await self.space.shares(self.conversation.room, name, content, text)

    def posts(self) -> list[dict[str, Any]]:
        """The bot's messages to Ana, oldest first."""
        return self.space.posts(self.conversation.room)

    def visible(self) -> list[str]:
        return [shown(message) for message in self.posts()]

    def dangers(self) -> list[str]:
        found = super().dangers()
        for message in self.posts():
            raw = [message["text"], *(block["text"]["text"] for block in message["blocks"])]
            found += [token for text in raw for token in re.findall(r"<[^>]*>?", text) if not token.startswith("<http")]
            found += ["parsed"] * any(not block["text"].get("verbatim") for block in message["blocks"])
        return found

    async def got(self, text: str) -> bytes:
        def found() -> list[dict[str, Any]]:
            return [file for post in self.posts() if text in str(post.get("blocks")) for file in post.get("files", [])]

        await until(found, lambda: str(self.posts())[-2000:])
        return self.space.content(found()[0])


class EmulatedWhatsApp(EmulatedGround):
    """Ana's phone. Twilio's simulator tells no profile, and brings no media."""

    person, person_name = f"whatsapp:{ANA}", ""
    conversation = Conversation("whatsapp", ANA)
    groups = editable = edits = shares = False

    def __init__(self, store: Store, package: Path) -> None:
        super().__init__(store)
        self.platform = self.account = Account(package)

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        bot = await stack.enter_async_context(self.bot())
        self.account.postman.target = f"http://127.0.0.1:{bot.port}"
        self.transport = bot.transport

    def bot(self, deliveries: Deliveries | None = None, **settings: Any) -> WhatsAppBot:
        """A transport in front of the same account, with other `settings`; Twilio reaches it once it is told."""
        defaults = {"public_url": self.account.postman.url, "check_s": 0.2}
        return WhatsAppBot(_Twilio(self.account.front.url), deliveries, **{**defaults, **settings})  # type: ignore[arg-type]

    async def say(self, text: str) -> str:
        return await self.account.says(text)

    def visible(self) -> list[str]:
        return [message["body"] for message in self.account.sent()]

    async def intrude(self, external_id: str, card: MessageRef) -> None:
        await self.account.says(LAST_WORDS, by=STRANGER)

    async def got(self, text: str) -> bytes:
        await until(lambda: text in self.visible(), lambda: str(self.visible()))
        (sid,) = (message["sid"] for message in self.account.sent() if message["body"] == text)
        return await self.account.medium(sid)


class _Twilio:
    """What `WhatsAppBot` wants of a server."""

    def __init__(self, url: str) -> None:
        self.url, self.target = url, ""
