"""The tools that we give Claude: ask people, send them files, and use the commands that it was granted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claude_agent_sdk import McpSdkServerConfig, create_sdk_mcp_server, tool

from sled.door import call
from sled.outbox import NotSent, put
from sled.protocol import Option, Query, Question
from sled.turn import TOO_LONG, Turn, chosen

#: The server's name, and what its tools' names begin with.
SERVER = "huskies"
PREFIX = f"mcp__{SERVER}__"

_ASK = (
    "Ask the person you work for, in their chat, and wait for the answer. Give `options` where there are some to "
    "choose from (people may still answer in their own words), `several` if more than one may be chosen. "
    "The result is their answer, or begins with [expired] if nobody answered in time."
)
_SEND = (
    "Send a file from the workspace to the person you work for, into their chat: a picture, a report, a build result. "
    "It arrives with your answer."
)
_ASK_SCHEMA = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 1, "maxLength": 2000},
        "options": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 200}, "maxItems": 20},
        "several": {"type": "boolean"},
    },
    "required": ["question"],
}
_SEND_SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "the file, absolute or below the workspace"},
        "caption": {"type": "string", "maxLength": 2000},
    },
    "required": ["path"],
}
_HUSKIES_SCHEMA = {
    "type": "object",
    "properties": {"command": {"type": "string", "minLength": 1, "maxLength": 100_000}},
    "required": ["command"],
}
_EXPIRED = "[expired] nobody answered in time; continue with your best judgement, and say so"

Result = dict[str, Any]


def server(workspace: Path, turn: Callable[[], Turn | None], door: str) -> McpSdkServerConfig:
    """The in-process server of these tools; `turn` is the run under way, `door` what it is told of its commands."""

    @tool("ask_operator", _ASK, _ASK_SCHEMA)
    async def ask_operator(given: dict[str, Any]) -> Result:
        if not (now := turn()):
            return _result("no run is under way", failed=True)
        return await _ask(now, given)

    @tool("send_file", _SEND, _SEND_SCHEMA)
    async def send_file(given: dict[str, Any]) -> Result:
        try:
            name = await asyncio.to_thread(put, workspace, given["path"], given.get("caption", ""))
        except (NotSent, OSError) as error:
            return _result(f"not sent: {error}", failed=True)
        return _result(f"{name} will be sent with your answer")

    @tool("huskies", door, _HUSKIES_SCHEMA)
    async def huskies(given: dict[str, Any]) -> Result:
        try:
            outcome, told = await call(given["command"])
        except OSError as error:
            return _result(f"the gateway cannot be asked now: {error}", failed=True)
        return _result(told, failed=outcome != "done")

    made = create_sdk_mcp_server(SERVER, tools=[ask_operator, send_file, *([huskies] if door else [])])
    # Otherwise the model has to search for the tools before it can use them.
    return {**made, "alwaysLoad": True}  # type: ignore[typeddict-unknown-key]


async def _ask(turn: Turn, given: dict[str, Any]) -> Result:
    options = [Option(label=label) for label in given.get("options", [])]
    query = Query(text=given["question"], options=options, several=bool(given.get("several")))
    decision = await turn.ask(Question(id=secrets.token_hex(8), kind="query", queries=[query]))
    if decision.text == TOO_LONG and not decision.allow:
        return _result(TOO_LONG, failed=True)
    return _result(chosen([query], decision).get(query.text, _EXPIRED))


def _result(text: str, *, failed: bool = False) -> Result:
    return {"content": [{"type": "text", "text": text}], "is_error": failed}
