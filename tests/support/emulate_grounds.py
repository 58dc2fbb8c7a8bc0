"""Proving grounds of Slack and WhatsApp whose platform others have made: see `emulate`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import aiohttp

from gateway.chat import Conversation, MessageRef
from gateway.store import Store
from tests.support.emulate import Emulator, Front, Postman
from tests.support.grounds import until
from tests.support.remote_grounds import LAST_WORDS, STRANGER, RemoteGround
from tests.support.slack_bot import SlackBot
from tests.support.slack_server import BOT, shown, signed
from tests.support.twilio_server import ACCOUNT, ANA, TOKEN
from tests.support.twilio_server import BOT as NUMBER
from tests.support.whatsapp_bot import WhatsAppBot
from transports.whatsapp.webhook import OVERRIDES

_ROOT = Path(__file__).parents[2]
_FORM = "application/x-www-form-urlencoded"
#: The token of a bot that nobody is: its user was removed.
DEAD_TOKEN = "xoxb-removed"
#: The token of a bot whose app was installed before somebody added `chat:write`.
POOR_TOKEN = "xoxb-poor"


def scopes() -> list[str]:
    """The scopes that people's apps have, from the manifest that they paste."""
    found = re.search(r"```json\n(.*?)```", (_ROOT / "docs/slack.md").read_text(), re.DOTALL)
    assert found is not None
    return list(json.loads(found[1])["oauth_config"]["scopes"]["bot"])


class EmulatedGround(RemoteGround):
    """A platform of `emulate`'s, behind a `front` that can fail; the gateway is behind a `postman`.

    Attributes:
        emulator, front, postman: what the transport talks to, in the end and first, and what talks to it.
    """

    front: Front
    postman: Postman
    emulator: Emulator
    taps = False

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._set_up(stack)
            await super().__aenter__()
            stack.push_async_callback(super().__aexit__, None, None, None)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        """Make `emulator`, `front`, `postman` and `transport`."""
        raise NotImplementedError

    def limit(self, times: int) -> None:
        self.front.limited = times

    async def vanish(self) -> None:
        await self.front.close()

    async def come_back(self) -> None:
        await self.front.open()


class EmulatedSlack(EmulatedGround):
    """A workspace with Ana, Eve, whom nobody lists, and an app with the scopes of our manifest, over HTTP."""

    person_name = "Ana"
    #: What `SlackBot` wants of a server.
    mode = "http"

    def __init__(self, store: Store, package: Path) -> None:
        super().__init__(store)
        self._package = package

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        self.front = await stack.enter_async_context(Front())
        # It keeps a signing secret, and signs nothing with it.
        self.postman = await stack.enter_async_context(Postman(signed))
        self.api_url = f"{self.front.url}/api/"
        self.emulator = await stack.enter_async_context(
            Emulator(self._package, "slack", self.front.url, _workspace(), events=f"{self.postman.url}/webhooks/slack")
        )
        self.front.target = self.emulator.url
        ids = {one["name"]: one["id"] for one in self._call("xoxp-ana", "users.list")["members"]}
        self.ana, self.eve = ids["ana"], ids["eve"]
        self.person = f"slack:{self.ana}"
        self.bot = SlackBot(self, self.recorder, stranger=self.eve)  # type: ignore[arg-type]
        self.transport = self.bot.transport
        stack.push_async_callback(self.bot.stop)
        await self.bot.listen()
        self.conversation = Conversation("slack", await self._direct_message("xoxp-ana"))
        (self.group,) = (
            one["id"] for one in self._call("xoxp-ana", "conversations.list")["channels"] if one["name"] == "dev"
        )

    @property
    def webhook(self) -> str:
        """Where the gateway takes events."""
        return f"{self.postman.target}/webhooks/slack"

    @webhook.setter
    def webhook(self, url: str) -> None:
        there = urlsplit(url)
        self.postman.target = f"{there.scheme}://{there.netloc}"

    # --- what people do -----------------------------------------------------------------------------------------------

    def _call(self, token: str, method: str, **arguments: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": _FORM}
        body = urlencode(arguments).encode()
        answer = json.loads(self.emulator.ask("POST", f"/api/{method}", headers, body)[1])
        assert answer["ok"], (method, answer)
        return dict(answer)

    async def acts(self, token: str, method: str, **arguments: Any) -> dict[str, Any]:
        """Somebody does something; the gateway has heard of it when it returns."""
        return await asyncio.to_thread(self._call, token, method, **arguments)

    async def _direct_message(self, token: str) -> str:
        return str((await self.acts(token, "conversations.open", users=BOT))["channel"]["id"])

    async def say(self, text: str) -> str:
        return await self.says(text)

    async def says(self, text: str, **more: str) -> str:
        """Ana writes, to the bot alone unless told otherwise."""
        said = await self.acts("xoxp-ana", "chat.postMessage", **{"channel": self.conversation.room, **more}, text=text)
        return f"{said['channel']}:{said['ts']}"

    async def in_group(self, text: str, *, mention: bool) -> None:
        await self.says(f"<@{BOT}> {text}" if mention else text, channel=self.group)

    async def change(self, external_id: str, text: str) -> None:
        channel, ts = external_id.split(":")
        await self.acts("xoxp-ana", "chat.update", channel=channel, ts=ts, text=text)

    async def take_back(self, external_id: str) -> None:
        channel, ts = external_id.split(":")
        await self.acts("xoxp-ana", "chat.delete", channel=channel, ts=ts)

    async def intrude(self, external_id: str, card: MessageRef) -> None:
        # Slack lets her into nobody else's direct messages, so there is only what she says and shares herself.
        await self._shares("xoxp-eve", self.group, "x.png", b"x", f"<@{BOT}> look")
        said = await self.acts("xoxp-eve", "chat.postMessage", channel=self.group, text=f"<@{BOT}> help")
        await self.acts("xoxp-eve", "chat.update", channel=self.group, ts=said["ts"], text=f"<@{BOT}> stop")
        alone = await self._direct_message("xoxp-eve")
        await self.acts("xoxp-eve", "chat.postMessage", channel=alone, text=LAST_WORDS)

    async def share(self, name: str, content: bytes, text: str) -> None:
        await self._shares("xoxp-ana", self.conversation.room, name, content, text)

    async def _shares(self, token: str, channel: str, name: str, content: bytes, text: str) -> None:
        made = await self.acts(token, "files.getUploadURLExternal", filename=name, length=len(content))
        path = urlsplit(made["upload_url"]).path
        status, _, _ = self.emulator.ask("POST", path, {"Content-Type": "application/octet-stream"}, content)
        assert status == 200
        files = json.dumps([{"id": made["file_id"]}])
        await self.acts(token, "files.completeUploadExternal", files=files, channel_id=channel, initial_comment=text)

    # --- what people see ----------------------------------------------------------------------------------------------

    def posts(self, thread: str = "") -> list[dict[str, Any]]:
        """The bot's messages to Ana, or in a thread of the group, oldest first."""
        if thread:
            listed = self._call("xoxp-ana", "conversations.replies", channel=self.group, ts=thread)["messages"]
        else:
            told = self._call("xoxp-ana", "conversations.history", channel=self.conversation.room, limit=1000)
            listed = reversed(told["messages"])
        return [one for one in listed if one["user"] == BOT]

    def visible(self) -> list[str]:
        return [shown(message) for message in self.posts()]

    def dangers(self) -> list[str]:
        found = super().dangers()
        for message in self.posts():
            raw = [message["text"], *(block["text"]["text"] for block in message["blocks"])]
            found += [token for text in raw for token in re.findall(r"<[^>]*>?", text) if not token.startswith("<http")]
            found += ["parsed"] * any(not block["text"].get("verbatim") for block in message["blocks"])
        return found

    def reactions(self, external_id: str) -> list[str]:
        """The bot's reactions to a message."""
        channel, ts = external_id.split(":")
        message = self._call("xoxp-ana", "reactions.get", channel=channel, timestamp=ts)["message"]
        return [one["name"] for one in message["reactions"] if BOT in one["users"]]

    async def got(self, text: str) -> bytes:
        def found() -> list[dict[str, Any]]:
            return [file for post in self.posts() if text in str(post.get("blocks")) for file in post.get("files", [])]

        await until(found, lambda: str(self.posts())[-2000:])
        path = urlsplit(found()[0]["url_private"]).path
        return self.emulator.ask("GET", path, {"Authorization": "Bearer xoxp-ana"})[1]


class EmulatedWhatsApp(EmulatedGround):
    """An account of Twilio's with one sender, whose webhook has the address that docs/whatsapp.md gives."""

    person = f"whatsapp:{ANA}"
    #: Its simulator tells no profile, brings no media, and knows nothing of buttons.
    person_name = ""
    conversation = Conversation("whatsapp", ANA)
    groups = editable = shares = False

    def __init__(self, store: Store, package: Path) -> None:
        super().__init__(store)
        self._package = package

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        self.front = await stack.enter_async_context(Front())
        self.postman = await stack.enter_async_context(Postman())
        url = f"{self.postman.url}/webhooks/whatsapp{OVERRIDES}"
        seed = {
            "account": {"sid": ACCOUNT, "auth_token": TOKEN},
            "phone_numbers": [{"phone_number": f"whatsapp:{NUMBER}", "sms_url": url}],
        }
        self.emulator = await stack.enter_async_context(Emulator(self._package, "twilio", self.front.url, seed))
        self.front.target = self.emulator.url
        self.bot = await stack.enter_async_context(self.another())
        self.postman.target = f"http://127.0.0.1:{self.bot.port}"
        self.transport = self.bot.transport

    def another(self, **settings: Any) -> WhatsAppBot:
        """A transport in front of the same account; other `settings` of it, for what they are refused with."""
        defaults = {"api_base_url": self.front.url, "public_url": self.postman.url, "check_s": 0.2}
        return WhatsAppBot(_Nowhere(self.front.url), **{**defaults, **settings})  # type: ignore[arg-type]

    def ask(self, path: str, **fields: str) -> dict[str, Any]:
        """Ask Twilio with the account's own token: POST with fields, else GET."""
        headers = {"Authorization": aiohttp.encode_basic_auth(ACCOUNT, TOKEN), "Content-Type": _FORM}
        body = urlencode(fields).encode() if fields else None
        status, told, _ = self.emulator.ask("POST" if fields else "GET", path, headers, body)
        assert status in (200, 201), (path, told)
        return dict(json.loads(told))

    async def say(self, text: str) -> str:
        return await self._says(text, ANA)

    async def _says(self, text: str, sender: str) -> str:
        told = {"To": f"whatsapp:{NUMBER}", "From": f"whatsapp:{sender}", "Body": text}
        return str((await asyncio.to_thread(self.ask, "/_twilio/simulate/inbound-message", **told))["sid"])

    async def tell(self, ref: MessageRef, status: str) -> None:
        """Let Twilio report what became of a message of ours."""
        fields = {"MessageSid": ref.external_id, "Status": status}
        await asyncio.to_thread(self.ask, "/_twilio/simulate/message-status", **fields)

    def sent(self) -> Sequence[dict[str, Any]]:
        """The account's messages to Ana, oldest first."""
        query = urlencode({"To": f"whatsapp:{ANA}", "PageSize": 1000})
        return list(reversed(self.ask(f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json?{query}")["messages"]))

    def visible(self) -> list[str]:
        return [message["body"] for message in self.sent()]

    async def intrude(self, external_id: str, card: MessageRef) -> None:
        await self._says(LAST_WORDS, STRANGER)

    async def got(self, text: str) -> bytes:
        """As Twilio would: the emulator keeps the address, and does not go there."""
        await until(lambda: text in self.visible(), lambda: str(self.visible()))
        (sid,) = (message["sid"] for message in self.sent() if message["body"] == text)
        (medium,) = self.ask(f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}/Media.json")["media_list"]
        async with aiohttp.ClientSession() as session, session.get(medium["uri"]) as answer:
            assert answer.status == 200
            return await answer.read()


class _Nowhere:
    """What `WhatsAppBot` wants of a server."""

    def __init__(self, url: str) -> None:
        self.url, self.target = url, ""


def _workspace() -> dict[str, Any]:
    people = [{"name": name, "profile": {"display_name": name.title()}} for name in ("ana", "eve")]
    granted = scopes()
    return {
        "strict_scopes": True,
        "users": people,
        "channels": [{"name": "dev"}],
        "oauth_apps": [
            {
                **{"client_id": "1.2", "client_secret": "x", "app_id": "A0APP", "name": "huskies", "redirect_uris": []},
                **{"bot_id": "B0BOT", "bot_user_id": BOT, "bot_name": "huskies", "scopes": granted},
            }
        ],
        "tokens": [
            {"token": "xoxb-canary", "type": "bot", "user_id": BOT, "bot_id": "B0BOT", "scopes": granted},
            {"token": POOR_TOKEN, "type": "bot", "user_id": BOT, "scopes": [s for s in granted if s != "chat:write"]},
            {"token": DEAD_TOKEN, "type": "bot", "user_id": "U0GONE", "scopes": granted},
            {"token": "xoxp-ana", "user": "ana"},
            {"token": "xoxp-eve", "user": "eve"},
        ],
    }
