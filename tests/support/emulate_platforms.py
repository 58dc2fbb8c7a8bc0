"""A Slack workspace and a Twilio account of npm's `emulate`, with the people in them: see `emulate`."""

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

from tests.support.emulate import Emulator, Front, Postman
from tests.support.slack_server import BOT, signed
from tests.support.twilio_server import ACCOUNT, ANA, TOKEN
from tests.support.twilio_server import BOT as NUMBER
from transports.whatsapp.webhook import OVERRIDES

_ROOT = Path(__file__).parents[2]
_FORM = "application/x-www-form-urlencoded"
#: People's tokens, and the bot's.
ANAS, EVES, BOTS = "xoxp-ana", "xoxp-eve", "xoxb-canary"
#: The token of a bot that nobody is: its user was removed.
DEAD_TOKEN = "xoxb-removed"
#: The token of a bot whose app was installed before somebody added `chat:write`.
POOR_TOKEN = "xoxb-poor"


class Platform:
    """A simulated platform, behind a `front` that can fail; whatever it posts goes through a `postman`.

    Use as an async context manager, and tell `postman.target` where the gateway's listener is.
    """

    front: Front
    postman: Postman
    emulator: Emulator

    def __init__(self, package: Path) -> None:
        """`package`: the folder of `emulate`."""
        self._package = package

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        """Make `emulator`, `front` and `postman`."""
        raise NotImplementedError


class Workspace(Platform):
    """Slack with Ana, Eve, a channel, and an app that has the scopes of our manifest and gets its events over HTTP."""

    #: What `SlackBot` wants of a server.
    mode = "http"

    async def _set_up(self, stack: contextlib.AsyncExitStack) -> None:
        self.front = await stack.enter_async_context(Front())
        # It keeps a signing secret, and signs nothing with it.
        self.postman = await stack.enter_async_context(Postman(signed))
        self.api_url = f"{self.front.url}/api/"
        events = f"{self.postman.url}/webhooks/slack"
        emulator = Emulator(self._package, "slack", self.front.url, _workspace(), events)
        self.emulator = await stack.enter_async_context(emulator)
        self.front.target = self.emulator.url
        ids = {one["name"]: one["id"] for one in self._call(ANAS, "users.list")["members"]}
        self.ana, self.eve = ids["ana"], ids["eve"]
        listed = self._call(ANAS, "conversations.list")["channels"]
        (self.group,) = (one["id"] for one in listed if one["name"] == "dev")

    @property
    def webhook(self) -> str:
        """Where the gateway takes events."""
        return f"{self.postman.target}/webhooks/slack"

    @webhook.setter
    def webhook(self, url: str) -> None:
        there = urlsplit(url)
        self.postman.target = f"{there.scheme}://{there.netloc}"

    def _call(self, token: str, method: str, **arguments: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": _FORM}
        body = urlencode(arguments).encode()
        answer = json.loads(self.emulator.ask("POST", f"/api/{method}", headers, body)[1])
        assert answer["ok"], (method, answer)
        return dict(answer)

    async def acts(self, token: str, method: str, **arguments: Any) -> dict[str, Any]:
        """Somebody does something; the gateway has heard of it when it returns."""
        return await asyncio.to_thread(self._call, token, method, **arguments)

    async def direct(self, token: str = ANAS) -> str:
        """The channel in which somebody is alone with the bot; to be asked for once the bot listens."""
        return str((await self.acts(token, "conversations.open", users=BOT))["channel"]["id"])

    async def says(self, channel: str, text: str, *, by: str = ANAS, **more: str) -> str:
        """Somebody writes; the id of the message."""
        said = await self.acts(by, "chat.postMessage", channel=channel, text=text, **more)
        return f"{said['channel']}:{said['ts']}"

    async def shares(self, channel: str, name: str, content: bytes, text: str, *, by: str = ANAS) -> None:
        """Somebody sends a file."""
        made = await self.acts(by, "files.getUploadURLExternal", filename=name, length=len(content))
        path = urlsplit(made["upload_url"]).path
        status, _ = self.emulator.ask("POST", path, {"Content-Type": "application/octet-stream"}, content)
        assert status == 200
        files = json.dumps([{"id": made["file_id"]}])
        await self.acts(by, "files.completeUploadExternal", files=files, channel_id=channel, initial_comment=text)

    def posts(self, channel: str, thread: str = "") -> list[dict[str, Any]]:
        """The bot's messages where Ana can read them, oldest first."""
        if thread:
            listed = self._call(ANAS, "conversations.replies", channel=channel, ts=thread)["messages"]
        else:
            listed = reversed(self._call(ANAS, "conversations.history", channel=channel, limit=1000)["messages"])
        return [one for one in listed if one["user"] == BOT]

    def reactions(self, external_id: str) -> list[str]:
        """The bot's reactions to a message."""
        channel, ts = external_id.split(":")
        message = self._call(ANAS, "reactions.get", channel=channel, timestamp=ts)["message"]
        return [one["name"] for one in message["reactions"] if BOT in one["users"]]

    def content(self, file: dict[str, Any]) -> bytes:
        """What Ana gets who opens a file."""
        return self.emulator.ask("GET", urlsplit(file["url_private"]).path, {"Authorization": f"Bearer {ANAS}"})[1]


class Account(Platform):
    """Twilio with one WhatsApp sender, whose webhook has the address that docs/whatsapp.md gives."""

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

    def ask(self, path: str, **fields: str) -> dict[str, Any]:
        """Ask Twilio with the account's own token: POST with fields, else GET."""
        headers = {"Authorization": aiohttp.encode_basic_auth(ACCOUNT, TOKEN), "Content-Type": _FORM}
        body = urlencode(fields).encode() if fields else None
        status, told = self.emulator.ask("POST" if fields else "GET", path, headers, body)
        assert status in (200, 201), (path, told)
        return dict(json.loads(told))

    async def says(self, text: str, *, by: str = ANA) -> str:
        """Somebody writes; the id of the message. The gateway has heard of it when it returns."""
        told = {"To": f"whatsapp:{NUMBER}", "From": f"whatsapp:{by}", "Body": text}
        return str((await asyncio.to_thread(self.ask, "/_twilio/simulate/inbound-message", **told))["sid"])

    async def tells(self, sid: str, status: str) -> None:
        """Twilio reports what became of a message of ours."""
        await asyncio.to_thread(self.ask, "/_twilio/simulate/message-status", MessageSid=sid, Status=status)

    def sent(self) -> Sequence[dict[str, Any]]:
        """The messages to Ana, oldest first."""
        query = urlencode({"To": f"whatsapp:{ANA}", "PageSize": 1000})
        return list(reversed(self.ask(f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json?{query}")["messages"]))

    async def medium(self, sid: str) -> bytes:
        """The file of a message, fetched as Twilio would: the emulator keeps the address, and does not go there."""
        (medium,) = self.ask(f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}/Media.json")["media_list"]
        async with aiohttp.ClientSession() as session, session.get(medium["uri"]) as answer:
            assert answer.status == 200
            return await answer.read()


def _scopes() -> list[str]:
    """The scopes that people's apps have, from the manifest that they paste."""
    found = re.search(r"```json\n(.*?)```", (_ROOT / "docs/slack.md").read_text(), re.DOTALL)
    assert found is not None
    return list(json.loads(found[1])["oauth_config"]["scopes"]["bot"])


def _workspace() -> dict[str, Any]:
    granted = _scopes()
    return {
        "strict_scopes": True,
        "users": [{"name": name, "profile": {"display_name": name.title()}} for name in ("ana", "eve")],
        "channels": [{"name": "dev"}],
        "oauth_apps": [
            {
                **{"client_id": "1.2", "client_secret": "x", "app_id": "A0APP", "name": "huskies", "redirect_uris": []},
                **{"bot_id": "B0BOT", "bot_user_id": BOT, "bot_name": "huskies", "scopes": granted},
            }
        ],
        "tokens": [
            {"token": BOTS, "type": "bot", "user_id": BOT, "bot_id": "B0BOT", "scopes": granted},
            {"token": POOR_TOKEN, "type": "bot", "user_id": BOT, "scopes": [s for s in granted if s != "chat:write"]},
            {"token": DEAD_TOKEN, "type": "bot", "user_id": "U0GONE", "scopes": granted},
            {"token": ANAS, "user": "ana"},
            {"token": EVES, "user": "eve"},
        ],
    }
