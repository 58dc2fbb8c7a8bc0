"""The part of Slack's Web API that the bot uses, with a workspace in memory behind it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

FORM = "application/x-www-form-urlencoded"
BOT, BOT_ID, TEAM, APP = "U0BOT", "B0BOT", "T0TEAM", "A0APP"
SCOPES = (
    "app_mentions:read,channels:history,channels:read,chat:write,commands,files:read,files:write,groups:history,"
    "groups:read,im:history,im:read,mpim:history,mpim:read,reactions:write,users:read"
)
Fault = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse | None]]


class WebApi:
    """What the workspace holds, and the methods that read and change it."""

    port = 0
    #: The name by which it is reached; empty for its address.
    host = ""

    def __init__(self) -> None:
        self.channels: dict[str, dict[str, Any]] = {}
        self.messages: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.users = {"U0ANA": "Ana", "U0BEN": "Ben"}
        self.reactions: defaultdict[str, list[str]] = defaultdict(list)
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        #: What people were told by an answering address.
        self.whispers: list[dict[str, Any]] = []
        self.faults: dict[str, Fault] = {}
        self.upload_status = 200
        self.auth: dict[str, Any] = {}
        self.scopes = SCOPES
        #: Seconds by which Slack's clock is ahead of ours.
        self.skew_s = 0.0
        self._numbers = itertools.count(1)
        self.news = asyncio.Condition()

    def deliver(self, event: dict[str, Any]) -> object:
        """Send an event to the bot."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://{self.host or f'127.0.0.1:{self.port}'}"

    def ts(self) -> str:
        """A timestamp that was never given before; later ones are greater."""
        return f"{time.time():.3f}{next(self._numbers) % 1000:03d}"

    async def changed(self) -> None:
        async with self.news:
            self.news.notify_all()

    # --- the Web API -------------------------------------------------------------------------------------------------

    async def _api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        arguments = await _arguments(request)
        self.calls.append((method, arguments))
        if (fault := self.faults.get(method)) is not None and (answer := await fault(request, arguments)) is not None:
            await self.changed()
            return answer
        handler = getattr(self, "_" + method.replace(".", "_").lower(), None)
        if handler is None:
            return web.json_response({"ok": False, "error": "unknown_method"})
        answer = handler(arguments)
        await self.changed()
        date = formatdate(time.time() + self.skew_s, usegmt=True)
        return web.json_response(answer, headers={"x-oauth-scopes": self.scopes, "Date": date})

    def called(self, method: str) -> int:
        """How often a method was called."""
        return Counter(name for name, _ in self.calls)[method]

    def _auth_test(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **{"ok": True, "url": "https://huskies.slack.com/", "team": "Huskies", "user": "huskies", "team_id": TEAM},
            **{"user_id": BOT, "bot_id": BOT_ID, "is_enterprise_install": False},
            **self.auth,
        }

    def _apps_connections_open(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"ok": True, "url": f"{self.url.replace('http', 'ws')}/socket?ticket={next(self._numbers)}"}

    def _chat_postmessage(self, told: Mapping[str, Any]) -> dict[str, Any]:
        if refusal := self._refusal(told):
            return refusal
        message = self._posted(told)
        return {"ok": True, "channel": told["channel"], "ts": message["ts"], "message": message}

    def _posted(self, told: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        message = {
            **{"type": "message", "user": BOT, "bot_id": BOT_ID, "app_id": APP, "team": TEAM, "ts": self.ts()},
            **{"text": told.get("text", ""), "blocks": _json(told.get("blocks"), [])},
            **more,
        }
        if told.get("thread_ts"):
            message["thread_ts"] = told["thread_ts"]
        if metadata := _json(told.get("metadata"), None):
            message["metadata"] = metadata
        self.messages[told["channel"]].append(message)
        self.deliver({**message, "channel": told["channel"], "channel_type": "channel", "event_ts": message["ts"]})
        return message

    def _chat_update(self, told: Mapping[str, Any]) -> dict[str, Any]:
        if refusal := self._refusal(told):
            return refusal
        if len(told.get("text", "").encode()) > 4000:
            return {"ok": False, "error": "msg_too_long"}
        found = [m for m in self.messages[told["channel"]] if m["ts"] == told["ts"]]
        if not found:
            return {"ok": False, "error": "message_not_found"}
        found[0] |= {"text": told.get("text", ""), "blocks": _json(told.get("blocks"), [])}
        return {"ok": True, "channel": told["channel"], "ts": told["ts"], "text": told.get("text", "")}

    def _refusal(self, told: Mapping[str, Any]) -> dict[str, Any] | None:
        channel = self.channels.get(told["channel"])
        if channel is None:
            return {"ok": False, "error": "channel_not_found"}
        if not channel["is_member"]:
            return {"ok": False, "error": "not_in_channel"}
        blocks = _json(told.get("blocks"), [])
        texts = [block["text"]["text"] for block in blocks if block["type"] == "section"]
        if any(not text or _units(text) > 3000 for text in texts) or len(blocks) > 50:
            return {"ok": False, "error": "invalid_blocks"}
        if sum(map(_units, texts)) > 13_000:
            return {"ok": False, "error": "msg_blocks_too_long"}
        return None

    def _conversations_history(self, told: Mapping[str, Any]) -> dict[str, Any]:
        heads = [m for m in self.messages[told["channel"]] if m.get("thread_ts", m["ts"]) == m["ts"]]
        return self._page(list(reversed(heads)), told)

    def _conversations_replies(self, told: Mapping[str, Any]) -> dict[str, Any]:
        thread = [m for m in self.messages[told["channel"]] if told["ts"] in (m["ts"], m.get("thread_ts"))]
        return self._page(thread, told) if thread else {"ok": False, "error": "thread_not_found"}

    def _page(self, listed: list[dict[str, Any]], told: Mapping[str, Any]) -> dict[str, Any]:
        channel = self.channels.get(told["channel"])
        if channel is None or not channel["is_member"]:
            return {"ok": False, "error": "not_in_channel" if channel else "channel_not_found"}
        newer = [m for m in listed if float(m["ts"]) >= float(told.get("oldest") or 0)]
        begin, limit = int(told.get("cursor") or 0), int(told.get("limit") or 100)
        shown = newer[begin : begin + limit]
        if str(told.get("include_all_metadata", "")).lower() not in ("1", "true"):
            shown = [{key: value for key, value in m.items() if key != "metadata"} for m in shown]
        after = str(begin + limit) if begin + limit < len(newer) else ""
        return {"ok": True, "messages": shown, "has_more": bool(after), "response_metadata": {"next_cursor": after}}

    def _conversations_info(self, told: Mapping[str, Any]) -> dict[str, Any]:
        channel = self.channels.get(told["channel"])
        return {"ok": True, "channel": channel} if channel else {"ok": False, "error": "channel_not_found"}

    def _conversations_members(self, told: Mapping[str, Any]) -> dict[str, Any]:
        channel = self.channels.get(told["channel"])
        if channel is None:
            return {"ok": False, "error": "channel_not_found"}
        members = channel.get("members", [])
        begin, limit = int(told.get("cursor") or 0), 2
        after = str(begin + limit) if begin + limit < len(members) else ""
        found = members[begin : begin + limit]
        return {"ok": True, "members": found, "response_metadata": {"next_cursor": after}}

    def _users_info(self, told: Mapping[str, Any]) -> dict[str, Any]:
        name = self.users.get(told["user"])
        if name is None:
            return {"ok": False, "error": "user_not_found"}
        profile = {"display_name": name, "real_name": f"{name} Example"}
        return {"ok": True, "user": {"id": told["user"], "name": name.lower(), "profile": profile}}

    def _reactions_add(self, told: Mapping[str, Any]) -> dict[str, Any]:
        if not any(m["ts"] == told["timestamp"] for m in self.messages[told["channel"]]):
            return {"ok": False, "error": "message_not_found"}
        if told["name"] in self.reactions[told["timestamp"]]:
            return {"ok": False, "error": "already_reacted"}
        self.reactions[told["timestamp"]].append(told["name"])
        return {"ok": True}

    # --- files -------------------------------------------------------------------------------------------------------

    def attach(self, name: str, content: bytes, mime: str) -> dict[str, Any]:
        """A file of a person's, as a message tells of it."""
        file_id = f"F{next(self._numbers):05d}"
        self.contents[file_id] = content
        url = f"{self.url}/files/{file_id}/{name}"
        told = {"id": file_id, "name": name, "title": name, "mimetype": mime, "size": len(content), "mode": "hosted"}
        self.files[file_id] = {**told, "url_private": url, "url_private_download": url}
        return self.files[file_id]

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if (fault := self.faults.get("file")) is not None and (answer := await fault(request, {})) is not None:
            return answer
        if not request.headers.get("Authorization", "").startswith("Bearer xoxb-"):
            return web.Response(text="<html>log in</html>", content_type="text/html")
        file_id = request.match_info["id"]
        return web.Response(body=self.contents[file_id], content_type=self.files[file_id]["mimetype"])

    def _files_info(self, told: Mapping[str, Any]) -> dict[str, Any]:
        return {"ok": True, "file": self.files[told["file"]]}

    def _files_getuploadurlexternal(self, told: Mapping[str, Any]) -> dict[str, Any]:
        file_id = f"F{next(self._numbers):05d}"
        self.files[file_id] = {"id": file_id, "name": told["filename"], "size": int(told["length"])}
        return {"ok": True, "upload_url": f"{self.url}/upload/{file_id}", "file_id": file_id}

    async def _upload(self, request: web.Request) -> web.Response:
        self.contents[request.match_info["id"]] = await request.read()
        return web.Response(text="OK", status=self.upload_status)

    def _files_completeuploadexternal(self, told: Mapping[str, Any]) -> dict[str, Any]:
        if refusal := self._refusal({**told, "channel": told["channel_id"]}):
            return refusal
        listed = [self.files[one["id"]] for one in _json(told["files"], [])]
        self._posted({**told, "channel": told["channel_id"]}, files=listed)
        return {"ok": True, "files": listed}

    async def _respond(self, request: web.Request) -> web.Response:
        self.whispers.append(await request.json())
        await self.changed()
        return web.Response(text="ok")


def limited(times: int, retry_after_s: float) -> Fault:
    """Refuse the next calls for their rate."""
    left = [times]

    async def fault(_: web.Request, __: dict[str, Any]) -> web.StreamResponse | None:
        if not left[0]:
            return None
        left[0] -= 1
        headers = {"Retry-After": str(retry_after_s)}
        return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)

    return fault


def refusing(error: str, **more: Any) -> Fault:
    """Refuse all calls."""

    async def fault(_: web.Request, __: dict[str, Any]) -> web.StreamResponse | None:
        return web.json_response({"ok": False, "error": error, **more})

    return fault


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _json(value: Any, default: Any) -> Any:
    if not value:
        return default
    return json.loads(value) if isinstance(value, str) else value


async def _arguments(request: web.Request) -> dict[str, Any]:
    told: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        told |= await request.json()
    elif request.method == "POST":
        body = await request.read()
        told |= dict(parse_qsl(body.decode(), keep_blank_values=True)) if request.content_type == FORM else {}
    return told
