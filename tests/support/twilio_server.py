"""Twilio on loopback: its REST API, its media, and the webhooks that it posts, signed by the SDK's own validator."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal, Self
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler
from twilio.request_validator import RequestValidator

from gateway.testing import patience

ACCOUNT = "AC" + "0" * 32
TOKEN = "12345"
BOT, ANA = "+14155238886", "+491700000000"
#: What the gateway is configured with; requests really go to `TwilioServer.target`, as through a proxy.
PUBLIC_URL = "https://bot.example.org"


@dataclass(frozen=True)
class Answer:
    """What a post of a message is answered instead of success. `processed`: the message goes out all the same."""

    status: int
    code: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    processed: bool = False


Fault = Answer | Literal["hang", "drop"]


@dataclass
class Sent:
    """A message to a person."""

    sid: str
    to: str
    text: str
    content_sid: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    callback: str = ""
    media: tuple[bytes, str, str] | None = None
    status: str = "queued"
    at: float = field(default_factory=time.time)

    def listed(self) -> dict[str, Any]:
        """As the list of messages has it."""
        return {
            "sid": self.sid,
            "to": self.to,
            "from": f"whatsapp:{BOT}",
            "body": self.text,
            "num_media": "0" if self.media is None else "1",
            "status": self.status,
            "direction": "outbound-api",
            "date_created": formatdate(self.at, usegmt=False).replace("-0000", "+0000"),
            "date_sent": None,
        }


class TwilioServer:
    """One account with one WhatsApp sender. Use as an async context manager."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.posts: list[dict[str, str]] = []
        #: Method, path and fields of each request to the REST API.
        self.requests: list[tuple[str, str, list[tuple[str, str]]]] = []
        #: Each answers one of the next posts of a message.
        self.faults: deque[Fault] = deque()
        self.typing: deque[str] = deque()
        self.typing_status = 200
        self.account_answers: deque[Answer] = deque()
        self.account_looks = 0
        #: Instead of the list of messages; and how often that was asked for.
        self.list_answers: deque[Answer] = deque()
        self.list_looks = 0
        self.account_type = "Full"
        #: Seconds by which Twilio's clock is ahead of ours.
        self.skew_s = 0.0
        self.senders = [sender(BOT, f"{PUBLIC_URL}/webhooks/whatsapp#rc=5&rp=all")]
        self.senders_answer: Answer | None = None
        #: By SID: where the template stands with WhatsApp, and its type.
        self.templates: dict[str, tuple[str, str]] = {}
        #: By path: content and type; or an address to go to.
        self.media: dict[str, tuple[bytes, str] | str] = {}
        #: Whether each request for media had credentials, by path.
        self.media_requests: list[tuple[str, bool]] = []
        #: Where the gateway's listener is.
        self.target = ""
        self.answers: list[int] = []
        self.changed = asyncio.Event()
        #: Seconds after which a message arrives, and its statuses are told; None: the test tells them.
        self.arrives_s: float | None = None
        self._arrivals: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self._prefix = os.urandom(4).hex()

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._remember])
        root = f"/2010-04-01/Accounts/{ACCOUNT}"
        app.router.add_get(f"{root}.json", self._account)
        app.router.add_post(f"{root}/Messages.json", self._message)
        app.router.add_get(f"{root}/Messages.json", self._list)
        app.router.add_post("/v2/Indicators/Typing.json", self._typing)
        app.router.add_get("/v2/Channels/Senders", self._senders)
        app.router.add_get("/v1/Content/{sid}", self._content)
        app.router.add_get("/v1/Content/{sid}/ApprovalRequests", self._approval)
        app.router.add_get("/{path:.*}", self._media)
        self._app = app
        self.port = 0
        await self.open()
        self.url = f"http://127.0.0.1:{self.port}"
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        for arrival in self._arrivals:
            arrival.cancel()
        await asyncio.gather(*self._arrivals, return_exceptions=True)
        await self._http.close()
        await self.close()

    async def open(self) -> None:
        """Listen, on the same port as before."""
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Be away."""
        await self._runner.cleanup()

    # --- what the phone shows ----------------------------------------------------------------------------------------

    def texts(self, to: str = ANA) -> list[str]:
        """What a person reads."""
        return [message.text for message in self.sent if message.to == f"whatsapp:{to}"]

    async def until(self, holds: Any, within_s: float = 20) -> None:
        """Wait until something holds of what was sent."""
        try:
            async with asyncio.timeout(within_s * patience()):
                while not holds(self):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"so far: {[sent.text for sent in self.sent[-5:]]}") from None

    async def reads(self, text: str, within_s: float = 20) -> Sent:
        """Wait for a message that contains a text."""
        await self.until(lambda server: any(text in sent.text for sent in server.sent), within_s)
        return next(sent for sent in self.sent if text in sent.text)

    # --- what Twilio posts -------------------------------------------------------------------------------------------

    def sid(self, kind: str = "SM") -> str:
        """A new id."""
        return f"{kind}{self._prefix}{next(self._ids):024x}"

    def fields(self, text: str = "", *, sender: str = ANA, **more: str) -> dict[str, str]:
        """What Twilio posts about a message of a person's."""
        sid = self.sid()
        told = {
            "SmsMessageSid": sid,
            "NumMedia": "0",
            "ProfileName": "Ana",
            "MessageType": "text",
            "SmsSid": sid,
            "WaId": sender.lstrip("+"),
            "SmsStatus": "received",
            "Body": text,
            "To": f"whatsapp:{BOT}",
            "NumSegments": "1",
            "ReferralNumMedia": "0",
            "MessageSid": sid,
            "AccountSid": ACCOUNT,
            "From": f"whatsapp:{sender}",
            "ApiVersion": "2010-04-01",
        }
        return told | more

    def offer(self, content: bytes, mime: str) -> dict[str, str]:
        """Keep a medium; the fields that name it."""
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{self.sid('MM')}/Media/{self.sid('ME')}"
        self.media[path] = (content, mime)
        return {"NumMedia": "1", "MediaUrl0": self.url + path, "MediaContentType0": mime}

    async def say(self, text: str, *, sender: str = ANA, **more: str) -> str:
        """A person writes; posted again, as Twilio does when told to, while it is answered 503."""
        fields = self.fields(text, sender=sender, **more)
        async with asyncio.timeout(20 * patience()):
            while (status := await self.post("/webhooks/whatsapp", fields)) == 503:
                await asyncio.sleep(0.01)
        assert status == 200, status
        return fields["MessageSid"]

    async def tell(self, sent: Sent, status: str, code: str = "") -> int:
        """A status callback about a message of ours."""
        sent.status = status
        path = sent.callback.removeprefix(PUBLIC_URL)
        fields = {"MessageSid": sent.sid, "MessageStatus": status, "AccountSid": ACCOUNT, "To": sent.to}
        return await self.post(path, fields | ({"ErrorCode": code} if code else {}))

    async def _arrive(self, sent: Sent, after_s: float) -> None:
        await self.tell(sent, "sent")
        await asyncio.sleep(after_s)
        await self.tell(sent, "delivered")
        self.changed.set()

    async def post(
        self,
        path: str,
        fields: Mapping[str, str] | Sequence[tuple[str, str]],
        *,
        signature: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Post a form, signed unless told otherwise; the status of the answer."""
        made = sign(path, dict(fields)) if signature is None else signature
        status, text = await self.raw(path, urlencode(fields).encode(), {"X-Twilio-Signature": made, **(headers or {})})
        if status == 200:
            assert text.endswith("<Response/>")
        return status

    async def raw(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        """Post bytes."""
        kind = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
        async with self._http.post(self.target + path, data=body, headers={**kind, **headers}) as answer:
            self.answers.append(answer.status)
            return answer.status, await answer.text()

    # --- the REST API ------------------------------------------------------------------------------------------------

    @web.middleware
    async def _remember(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.endswith(".json"):
            fields = [(name, str(value)) for name, value in (await request.post()).items()]
            self.requests.append((request.method, request.path, fields))
        return await handler(request)

    async def _account(self, request: web.Request) -> web.Response:
        self.account_looks += 1
        self.changed.set()
        if not _authentic(request):
            return _error(Answer(401, 20003))
        if self.account_answers:
            return _error(self.account_answers.popleft())
        date = formatdate(time.time() + self.skew_s, usegmt=True)
        told = {"sid": ACCOUNT, "status": "active", "type": self.account_type}
        return web.json_response(told, headers={"Date": date})

    async def _senders(self, request: web.Request) -> web.Response:
        if not _authentic(request):
            return _error(Answer(401, 20003))
        if self.senders_answer is not None:
            return _error(self.senders_answer)
        assert request.query["Channel"] == "whatsapp"
        size, page = int(request.query["PageSize"]), int(request.query.get("Page", "0"))
        shown, rest = self.senders[page * size : (page + 1) * size], self.senders[(page + 1) * size :]
        following = f"{self.url}/v2/Channels/Senders?Channel=whatsapp&PageSize={size}&Page={page + 1}"
        meta = {"page": page, "page_size": size, "key": "senders", "next_page_url": following if rest else None}
        return web.json_response({"senders": shown, "meta": meta})

    async def _content(self, request: web.Request) -> web.Response:
        sid = request.match_info["sid"]
        if sid not in self.templates:
            return _error(Answer(404, 20404))
        return web.json_response({"sid": sid, "types": {self.templates[sid][1]: {"body": "{{1}}"}}})

    async def _approval(self, request: web.Request) -> web.Response:
        sid = request.match_info["sid"]
        if sid not in self.templates:
            return _error(Answer(404, 20404))
        status, kind = self.templates[sid]
        reason = "INVALID_FORMAT" if status == "rejected" else ""
        told = {
            "name": "wake",
            "category": "UTILITY",
            "content_type": kind,
            "status": status,
            "rejection_reason": reason,
        }
        return web.json_response({"sid": sid, "account_sid": ACCOUNT, "whatsapp": told})

    async def _message(self, request: web.Request) -> web.Response:
        if not _authentic(request):
            return _error(Answer(401, 20003))
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.posts.append(form)
        self.changed.set()
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Answer) and not fault.processed:
            return _error(fault)
        assert form["From"] == f"whatsapp:{BOT}"
        assert len(form.get("Body", "")) <= 1600
        if not form.get("Body") and not form.get("MediaUrl") and not form.get("ContentSid"):
            return _error(Answer(400, 21619))
        sent = await self._sent(form)
        self.sent.append(sent)
        self.changed.set()
        if self.arrives_s is not None and sent.callback:
            arrival = asyncio.create_task(self._arrive(sent, self.arrives_s))
            self._arrivals.add(arrival)
            arrival.add_done_callback(self._arrivals.discard)
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "drop":
            assert request.transport is not None
            request.transport.abort()
        if isinstance(fault, Answer):
            return _error(fault)
        return web.json_response({"sid": sent.sid, "status": "queued"}, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        """What was sent, the newest first, with Twilio's names for fields."""
        if not _authentic(request):
            return _error(Answer(401, 20003))
        self.list_looks += 1
        self.changed.set()
        if self.list_answers:
            return _error(self.list_answers.popleft())
        size, page = int(request.query["PageSize"]), int(request.query.get("Page", "0"))
        assert request.query["From"] == f"whatsapp:{BOT}"
        found = [sent for sent in reversed(self.sent) if sent.to == request.query["To"]]
        query = {"From": request.query["From"], "To": request.query["To"], "PageSize": str(size), "Page": str(page + 1)}
        following = f"{request.path}?{urlencode(query)}" if found[(page + 1) * size :] else None
        shown = [sent.listed() for sent in found[page * size : (page + 1) * size]]
        return web.json_response({"messages": shown, "page": page, "page_size": size, "next_page_uri": following})

    async def _sent(self, form: Mapping[str, str]) -> Sent:
        variables = json.loads(form.get("ContentVariables", "{}"))
        text = form.get("Body", "") or variables.get("1", "")
        sent = Sent(self.sid(), form["To"], text, form.get("ContentSid", ""), variables, form.get("StatusCallback", ""))
        if "MediaUrl" in form:
            sent.media = await self.fetch(form["MediaUrl"])
        return sent

    async def fetch(self, url: str) -> tuple[bytes, str, str]:
        """A medium of the gateway's: content, type, disposition."""
        async with self._http.get(self.target + url.removeprefix(PUBLIC_URL)) as answer:
            assert answer.status == 200, answer.status
            return await answer.read(), answer.headers["Content-Type"], answer.headers["Content-Disposition"]

    async def _typing(self, request: web.Request) -> web.Response:
        assert _authentic(request)
        form = await request.post()
        assert form["channel"] == "whatsapp"
        assert re.fullmatch("(SM|MM)[0-9a-f]{32}", str(form["messageId"]))
        self.typing.append(str(form["messageId"]))
        self.changed.set()
        return web.json_response({"success": True}, status=self.typing_status)

    async def _media(self, request: web.Request) -> web.Response:
        self.media_requests.append((request.path, "Authorization" in request.headers))
        found = self.media.get(request.path)
        if found is None:
            return web.Response(status=404)
        if isinstance(found, str):
            return web.Response(status=307, headers={"Location": found})
        return web.Response(body=found[0], headers={"Content-Type": found[1]})


def sender(number: str, callback: str, *, status: str = "ONLINE", method: str = "POST") -> dict[str, Any]:
    """A WhatsApp sender as Twilio describes it."""
    webhook = {"callback_url": callback, "callback_method": method, "fallback_url": None}
    return {"sid": "XE" + "0" * 32, "status": status, "sender_id": f"whatsapp:{number}", "webhook": webhook}


def sign(path: str, fields: Mapping[str, str], *, token: str = TOKEN, public_url: str = PUBLIC_URL) -> str:
    """The signature of a post to the configured address."""
    return str(RequestValidator(token).compute_signature(public_url + path, fields))


def _authentic(request: web.Request) -> bool:
    made = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    return request.headers.get("Authorization") == f"Basic {made}"


def _error(answer: Answer) -> web.Response:
    body = {"code": answer.code, "message": f"error {answer.code}", "status": answer.status}
    return web.json_response(body, status=answer.status, headers=dict(answer.headers))
