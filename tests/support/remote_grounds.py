"""Proving grounds of the platforms that people elsewhere can reach: what else these can do, and how they fail."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Self

from gateway.chat import Conversation, MessageRef
from gateway.store import Store
from tests.support.grounds import Ground, until
from tests.support.matrix_bot import Bot
from tests.support.matrix_proxy import Fault, Proxy
from tests.support.matrix_room import Room
from tests.support.matrix_user import MatrixUser, reacts
from tests.support.slack_api import limited
from tests.support.slack_bot import SlackBot
from tests.support.slack_server import BOT, SlackServer, shown
from tests.support.synapse import Synapse
from tests.support.twilio_server import ANA, Answer, TwilioServer
from tests.support.whatsapp_bot import WhatsAppBot

#: What somebody says who is not listed, last of all that they try.
LAST_WORDS = "anybody here?"
STRANGER = "+4915550000000"
CHOICES = ("allow", "deny")
EMOJI = {"allow": "✅", "deny": "❌"}


def place(ref: MessageRef) -> tuple[str, str]:
    """The channel of a message of Slack's, and its time."""
    channel, _, ts = ref.external_id.partition(":")
    return channel, ts


class RemoteGround(Ground):
    """A platform with a network before it, groups, strangers, files and limits."""

    #: Whether several people can be with the bot.
    groups = True
    #: Whether people can change and take back what they wrote.
    editable = True
    #: Whether cards have something to tap.
    taps = True
    #: Whether people can send files.
    shares = True

    async def in_group(self, text: str, *, mention: bool) -> None:
        """The person says something among others."""
        raise NotImplementedError

    async def change(self, external_id: str, text: str) -> None:
        """The person edits a message of theirs."""
        raise NotImplementedError

    async def take_back(self, external_id: str) -> None:
        """The person deletes a message of theirs."""
        raise NotImplementedError

    async def intrude(self, external_id: str, card: MessageRef) -> None:
        """Somebody who is not listed does all that the platform lets them do to a message and to a card of the bot's.

        In the end they say LAST_WORDS.
        """
        raise NotImplementedError

    async def tap(self, card: MessageRef, word: str) -> None:
        """The person taps an answer of a card."""
        raise NotImplementedError

    async def share(self, name: str, content: bytes, text: str) -> None:
        """The person sends a file with words."""
        raise NotImplementedError

    async def got(self, text: str) -> bytes:
        """What the person finds in the file that came with these words."""
        raise NotImplementedError

    def limit(self, times: int) -> None:
        """The platform refuses the next posts for their rate."""
        raise NotImplementedError

    async def vanish(self) -> None:
        """The platform is away, until `come_back`."""
        raise NotImplementedError

    async def come_back(self) -> None:
        raise NotImplementedError


class MatrixGround(RemoteGround):
    """A room on a real homeserver; the bot is behind a proxy that can fail."""

    def __init__(self, store: Store, folder: Path, server: Synapse, *, encrypted: bool) -> None:
        super().__init__(store)
        self._encrypted = encrypted
        self._server = server
        ana = server.register("ana")
        self._user = MatrixUser(server.url, ana)
        self._proxy = Proxy(server.url)
        self._folder = folder
        self._away: Fault | None = None
        self.person, self.person_name = f"matrix:{ana.user_id}", ana.user_id.split(":")[0][1:]

    async def __aenter__(self) -> Self:
        await self._proxy.__aenter__()
        account, store = self._server.register("bot"), self._folder / "matrix"
        self._bot = Bot(self._proxy.url, account, store, may_invite=self.person.__eq__, poll_s=1.0)
        self.transport = self._bot.transport
        await super().__aenter__()
        try:
            await self._user.__aenter__()
            self.conversation = Conversation("matrix", await self._meet(self._user))
            self._room = Room(self._user, self.conversation.room, self._bot.user_id)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _meet(self, *people: MatrixUser) -> str:
        """A room with the bot and these people, made by the first."""
        host, *others = people
        invited = [self._bot.user_id, *(other.user_id for other in others)]
        room = await host.create_room(invite=invited, encrypted=self._encrypted, direct=not others)
        for other in others:
            await other.join(room)
            await host.sees_member(room, other.user_id)
        await host.sees_member(room, self._bot.user_id)
        if self._encrypted:
            for one in people:
                await one.knows(room)
                await one.trusts_keys_of(self._bot.user_id)
        return room

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        await self._user.__aexit__()
        await self._proxy.__aexit__()

    async def say(self, text: str) -> str:
        return await self._room.say(text)

    def visible(self) -> list[str]:
        return self._room.texts()

    def dangers(self) -> list[str]:
        found = super().dangers()
        for room, event in self._user.seen:
            if room != self.conversation.room or event["sender"] != self._bot.user_id:
                continue
            for content in (event["content"], event["content"].get("m.new_content", {})):
                # In code, clients make neither a link nor a mention of an address.
                html = re.sub("<code>[^<]*</code>", "", content.get("formatted_body", ""))
                found += [part for part in ("<script", "<img", "<b>", "matrix.to") if part in html]
                found += ["mentions"] if content.get("m.mentions") else []
                found += ["no mentions"] if "body" in content and "m.mentions" not in content else []
        return found

    async def in_group(self, text: str, *, mention: bool) -> None:
        if not hasattr(self, "_group"):
            self._ben = MatrixUser(self._server.url, self._server.register("ben"))
            async with self._ben:
                self._group = await self._meet(self._user, self._ben)
        named = {"m.mentions": {"user_ids": [self._bot.user_id]}} if mention else {}
        await self._user.say(self._group, text, **named)

    async def change(self, external_id: str, text: str) -> None:
        await self._user.edit(self.conversation.room, external_id, text)

    async def take_back(self, external_id: str) -> None:
        await self._user.redact(self.conversation.room, external_id)

    async def intrude(self, external_id: str, card: MessageRef) -> None:
        async with MatrixUser(self._server.url, self._server.register("eve")) as eve:
            room = self.conversation.room
            await self._user.invite(room, eve.user_id)
            await eve.join(room)
            await eve.knows(room)
            if self._encrypted:
                await eve.trusts_keys_of(self._bot.user_id)
            await eve.edit(room, external_id, "rm -rf /")
            await eve.react(room, card.external_id, EMOJI["allow"])
            await eve.share(room, b"x", encrypted=self._encrypted, filename="x.png", body="a file")
            await eve.say(room, LAST_WORDS)
            await self.message(LAST_WORDS)

    async def tap(self, card: MessageRef, word: str) -> None:
        room = self.conversation.room
        await self._user.sees(reacts(card.external_id, EMOJI[word]), room=room, by=self._bot.user_id)
        await self._user.react(room, card.external_id, EMOJI[word])

    async def share(self, name: str, content: bytes, text: str) -> None:
        room = self.conversation.room
        await self._user.share(room, content, encrypted=self._encrypted, filename=name, body=text)

    async def got(self, text: str) -> bytes:
        def holds(event: dict[str, object]) -> bool:
            content = event["content"]
            return isinstance(content, dict) and content.get("body") == text and content.get("msgtype") == "m.file"

        return await self._user.download(await self._user.sees(holds, room=self.conversation.room))

    def limit(self, times: int) -> None:
        self._proxy.fail("/send/", "429", times)

    async def vanish(self) -> None:
        self._away = self._proxy.fail("/_matrix/", "502", times=10**6)
        await self._away.hit.wait()

    async def come_back(self) -> None:
        assert self._away is not None
        self._away.times = 0


class SlackGround(RemoteGround):
    """A direct message, and a channel, in a workspace on loopback."""

    person, person_name = "slack:U0ANA", "Ana"
    conversation = Conversation("slack", "D0ANA")

    def __init__(self, store: Store, mode: str) -> None:
        super().__init__(store)
        self._server = SlackServer(mode)

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        self._server.channel("D0ANA")
        self._server.channel("C0DEV")
        self._bot = SlackBot(self._server, self.recorder)
        self.transport = self._bot.transport
        await self._bot.listen()
        try:
            return await super().__aenter__()
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        await self._bot.stop()
        await self._server.__aexit__()

    async def _delivered(self) -> None:
        """Over HTTP each request is a connection of its own: only one that was answered is surely before the next."""
        for delivery in list(self._server.deliveries):
            await delivery.done.wait()

    async def say(self, text: str) -> str:
        ts = self._server.say("D0ANA", text)
        await self._delivered()
        return f"D0ANA:{ts}"

    def visible(self) -> list[str]:
        return [shown(message) for message in self._server.posts("D0ANA")]

    def dangers(self) -> list[str]:
        found = super().dangers()
        for message in self._server.posts("D0ANA"):
            raw = [message["text"], *(block["text"]["text"] for block in message["blocks"])]
            found += [token for text in raw for token in re.findall(r"<[^>]*>?", text) if not token.startswith("<http")]
            found += ["parsed"] * any(not block["text"].get("verbatim") for block in message["blocks"])
        return found

    async def in_group(self, text: str, *, mention: bool) -> None:
        self._server.say("C0DEV", f"<@{BOT}> {text}" if mention else text)
        await self._delivered()

    async def change(self, external_id: str, text: str) -> None:
        channel, ts = external_id.split(":")
        await self._server.edit(channel, ts, text).done.wait()

    async def take_back(self, external_id: str) -> None:
        await self._server.delete(*external_id.split(":")).done.wait()

    async def intrude(self, external_id: str, card: MessageRef) -> None:
        channel, ts = external_id.split(":")
        victim = self._server.message(channel, ts)
        eves = {**victim, "user": "U0EVE"}
        hidden = self._server.hidden(
            channel, "message_changed", message={**eves, "text": "rm -rf /"}, previous_message=eves
        )
        self._server.deliver(hidden)
        self._server.deliver(self._server.hidden(channel, "message_deleted", deleted_ts=ts, previous_message=eves))
        self._server.press(*place(card), "allow", user="U0EVE")
        self._server.command(channel, "stop", user="U0EVE")
        self._server.shortcut(channel, ts, user="U0EVE")
        self._server.say("C0DEV", "look", user="U0EVE", files=[self._server.attach("x.png", b"x", "image/png")])
        self._server.say("C0DEV", LAST_WORDS, user="U0EVE")
        await self._delivered()

    async def tap(self, card: MessageRef, word: str) -> None:
        await self._server.press(*place(card), word).done.wait()

    async def share(self, name: str, content: bytes, text: str) -> None:
        self._server.say("D0ANA", text, subtype="file_share", files=[self._server.attach(name, content, "image/png")])
        await self._delivered()

    async def got(self, text: str) -> bytes:
        def found() -> list[str]:
            return [
                file["id"]
                for message in self._server.posts("D0ANA")
                if text in str(message.get("blocks")) + str(message.get("text"))
                for file in message.get("files", [])
            ]

        await until(found, lambda: str(self._server.posts("D0ANA"))[-2000:])
        return self._server.contents[found()[0]]

    def limit(self, times: int) -> None:
        self._server.faults["chat.postMessage"] = limited(times, 1)

    async def vanish(self) -> None:
        await self._server.close()

    async def come_back(self) -> None:
        await self._server.open()


class WhatsAppGround(RemoteGround):
    """A phone whose messages come through Twilio."""

    person, person_name = f"whatsapp:{ANA}", "Ana"
    conversation = Conversation("whatsapp", ANA)
    groups = editable = edits = False

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        self._server = await self._stack.enter_async_context(TwilioServer())
        buttons = {", ".join(CHOICES): "HX" + "1" * 32}
        bot = await self._stack.enter_async_context(WhatsAppBot(self._server, quick_replies=buttons, check_s=0.2))
        self.transport = bot.transport
        try:
            return await super().__aenter__()
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        await self._stack.aclose()

    async def say(self, text: str) -> str:
        return await self._server.say(text)

    def visible(self) -> list[str]:
        return self._server.texts()

    async def intrude(self, external_id: str, card: MessageRef) -> None:
        await self._server.say(
            "Allow", sender=STRANGER, ButtonPayload="allow", OriginalRepliedMessageSid=card.external_id
        )
        await self._server.say("a file", sender=STRANGER, **self._server.offer(b"x", "image/png"))
        await self._server.say(LAST_WORDS, sender=STRANGER)

    async def tap(self, card: MessageRef, word: str) -> None:
        sent = next(sent for sent in self._server.sent if sent.sid == card.external_id)
        assert sent.content_sid, "it has buttons"
        await self._server.say(word.title(), ButtonPayload=word, OriginalRepliedMessageSid=card.external_id)

    async def share(self, name: str, content: bytes, text: str) -> None:
        await self._server.say(text, **self._server.offer(content, "image/png"))

    async def got(self, text: str) -> bytes:
        sent = await self._server.reads(text)
        assert sent.media is not None
        return sent.media[0]

    def limit(self, times: int) -> None:
        self._server.faults.extend([Answer(429, 20429, {"Retry-After": "1"})] * times)

    async def vanish(self) -> None:
        await self._server.close()

    async def come_back(self) -> None:
        await self._server.open()
