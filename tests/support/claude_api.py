"""A stub of the Messages API, so that tests and benchmarks drive the real Claude CLI offline.

What it answers is scripted by the prompt: the newest user text that holds `@@[step, step, ...]@@` (JSON, see
`Step`) gives one step per model call of that turn; a call beyond the last step is answered `stub done`, and
one with no script `stub ok`. So one stub serves many sessions at once.

In a test::

    async with ClaudeApi(require_key="sk-real") as api:
        ... api.base_url ...
        await api.arrived(lambda request: "deploy" in request.prompt)
        api.open("g")                       # lets a step {"gate": "g"} go on

As a program, `python -m tests.support.claude_api [PORT]` prints the port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from aiohttp import web

from gateway.testing import patience

Json = dict[str, Any]

_SCRIPT = re.compile(r"@@(\[.*?\])@@", re.DOTALL)
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class ToolUse(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    input: Json


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """How one model call is answered. Times are seconds."""

    text: str = ""
    tools: list[ToolUse] = []
    #: Characters of one text delta, and the wait after each.
    chunk: int = 12
    delay: float = 0.0
    #: Wait before the response headers.
    pre: float = 0.0
    #: Fail with this status, and these headers, the first `times` times (0: always).
    http: int = 0
    headers: dict[str, str] = {}
    times: int = 0
    #: Answer with this in place of everything else, as this type; obeys `times`.
    raw: str = ""
    raw_type: str = "text/html"
    #: After the second text delta: say no more or drop the connection (both obey `times`), or send an error event.
    sse: Literal["", "stall", "truncate", "error"] = ""
    #: After the first text delta, wait until the test opens this gate.
    gate: str = ""
    usage: dict[str, int] = {}


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Json = field(default_factory=dict)
    #: When all of it was here, on the monotonic clock.
    at: float = field(default_factory=time.monotonic)

    @property
    def messages(self) -> list[Json]:
        messages: list[Json] = self.body.get("messages", [])
        return messages

    @property
    def prompt(self) -> str:
        """All text of the user's side, oldest first."""
        return "\n".join(text for message in self.messages for text in _texts(message))

    @property
    def system(self) -> str:
        """The system prompt."""
        return "\n".join(_texts({"role": "user", "content": self.body.get("system", "")}))

    @property
    def main(self) -> bool:
        """Whether this is a turn of the dialogue; the CLI's side calls (titles) bring no tools."""
        return bool(self.body.get("tools"))


def script(*steps: Json) -> str:
    """The prompt text that makes the stub answer with `steps`."""
    return f"@@{msgspec.json.encode(steps).decode()}@@"


class ClaudeApi:
    """The stub, as an async context manager. With `require_key`, any other credential is answered 401."""

    def __init__(self, require_key: str = "", port: int = 0) -> None:
        self.require_key = require_key
        self.base_url = ""
        #: What it answers to words that people or agents write, where they bring no script.
        self.plays: dict[str, list[Json]] = {}
        self.requests: list[Recorded] = []
        #: Model calls whose client went away before the response was complete.
        self.abandoned = 0
        self._port = port
        self._failures: dict[tuple[str, str, int], int] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> ClaudeApi:
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()

    @property
    def main(self) -> list[Recorded]:
        """The turns of the dialogues, without side calls."""
        return [request for request in self.requests if request.main]

    async def arrived(self, wanted: Callable[[Recorded], bool], timeout: float = 30) -> Recorded:
        """The first request that is `wanted`, once it is here. Raises TimeoutError."""

        def first() -> Recorded | None:
            return next((request for request in self.requests if wanted(request)), None)

        async with asyncio.timeout(timeout * patience()), self._changed:
            await self._changed.wait_for(first)
        found = first()
        assert found
        return found

    async def until(self, holds: Callable[[], bool], timeout: float = 30) -> None:
        """Wait until `holds`, looked at after each thing that happens here. Raises TimeoutError."""
        async with asyncio.timeout(timeout * patience()), self._changed:
            await self._changed.wait_for(holds)

    def open(self, gate: str) -> None:
        """Let the step that waits at `gate` go on, now or when it gets there."""
        self._gates.setdefault(gate, asyncio.Event()).set()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = msgspec.json.decode(raw) if raw else {}
        self.requests.append(Recorded(request.method, request.path_qs, headers, body))
        await self._notify()
        if self.require_key and not self._has_key(headers):
            return _error(401, "invalid x-api-key")
        if request.method == "GET" and request.path == "/v1/models":
            return web.json_response({"data": [], "has_more": False})
        if request.method == "POST" and request.path == "/v1/messages/count_tokens":
            return web.json_response({"input_tokens": 1234})
        if request.method == "POST" and request.path == "/v1/messages":
            try:
                return await self._answer(request, body)
            except (asyncio.CancelledError, ConnectionError):
                self.abandoned += 1
                await self._notify()
                raise
        return _error(404, "no such path in the stub")

    def _has_key(self, headers: dict[str, str]) -> bool:
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self.require_key.encode())

    async def _answer(self, request: web.Request, body: Json) -> web.StreamResponse:
        steps, index, source = _plan(body.get("messages", []), self.plays)
        step = steps[index] if index < len(steps) else Step(text="stub done" if source else "stub ok")
        await asyncio.sleep(step.pre)
        key = (request.headers.get("x-claude-code-session-id", ""), source, index)
        if step.http or step.raw or step.sse in ("stall", "truncate"):
            self._failures[key] = self._failures.get(key, 0) + 1
        failing = not step.times or self._failures.get(key, 0) <= step.times
        if step.http and failing:
            return _error(step.http, "stub error", step.headers)
        if step.raw and failing:
            return web.Response(text=step.raw, content_type=step.raw_type)
        if not body.get("stream"):
            return web.json_response(_message(body, step))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for event in self._events(body, step, failing):
            if event is None:
                assert request.transport
                request.transport.abort()
                break
            await response.write(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), msgspec.json.encode(event)))
        return response

    async def _events(self, body: Json, step: Step, failing: bool) -> AsyncIterator[Json | None]:
        """The stream of one answer; None: drop the connection here."""
        message = _message(body, step)
        final = message.pop("usage")
        start = {**message, "content": [], "stop_reason": None, "usage": {**final, "output_tokens": 1}}
        yield {"type": "message_start", "message": start}
        for index, block in enumerate(message["content"]):
            is_text = block["type"] == "text"
            empty = {**block, **({"text": ""} if is_text else {"input": {}})}
            yield {"type": "content_block_start", "index": index, "content_block": empty}
            if is_text:
                async for event in self._text_events(step, index, failing):
                    yield event
                    if event is None or event["type"] == "error":
                        return
            else:
                delta = {
                    "type": "input_json_delta",
                    "partial_json": msgspec.json.encode(block["input"]).decode(),
                }
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": final["output_tokens"]}}
        yield {"type": "message_stop"}

    async def _text_events(self, step: Step, index: int, failing: bool) -> AsyncIterator[Json | None]:
        for sent, start in enumerate(range(0, len(step.text), step.chunk)):
            delta = {"type": "text_delta", "text": step.text[start : start + step.chunk]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
            if step.gate and not sent:
                await self._gates.setdefault(step.gate, asyncio.Event()).wait()
            await asyncio.sleep(step.delay)
            if sent != 1:
                continue
            if step.sse == "stall" and failing:
                await asyncio.Event().wait()
            elif step.sse == "truncate" and failing:
                yield None
            elif step.sse == "error":
                yield {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def _texts(message: Json) -> list[str]:
    if message.get("role") not in (
        "user",
        "system",
    ):  # what a person says mid-turn arrives with role `system`
        return []
    content = message.get("content") or []
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block.get("type") == "text"]


def _plan(messages: list[Json], plays: Mapping[str, list[Json]]) -> tuple[list[Step], int, str]:
    """The steps in force, which of them is due, and their source text."""
    for position in range(len(messages) - 1, -1, -1):
        texts = _texts(messages[position])
        scripts = [source for text in texts for source in _SCRIPT.findall(text)]
        if not scripts:
            known = (steps for words, steps in plays.items() if any(words in text for text in texts))
            scripts = [msgspec.json.encode(steps).decode() for steps in known]
        if scripts:
            done = sum(message["role"] == "assistant" for message in messages[position + 1 :])
            return msgspec.json.decode(scripts[-1], type=list[Step]), done, scripts[-1]
    return [], 0, ""


def _message(body: Json, step: Step) -> Json:
    """The complete answer of `step`, as a call without streaming gets it."""
    content: list[Json] = [{"type": "text", "text": step.text}] if step.text else []
    for tool in step.tools:
        content.append({"type": "tool_use", "id": _id("toolu"), "name": tool.name, "input": tool.input})
    usage = {
        "input_tokens": 100,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 2000,
        "output_tokens": 50,
    }
    return {
        "id": _id("msg"),
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "stub"),
        "content": content,
        "stop_reason": "tool_use" if step.tools else "end_turn",
        "stop_sequence": None,
        "usage": {**usage, **step.usage},
    }


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}
    return web.json_response({"type": "error", "error": error}, status=status, headers=headers)


async def _main(port: int) -> None:
    async with ClaudeApi(port=port) as api:
        print(api.base_url.rpartition(":")[2], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
