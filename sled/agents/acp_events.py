"""What an ACP agent's updates mean: `session/update` in, events of a run out. No I/O here."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any

from acp.schema import (
    AgentMessageChunk,
    PermissionOption,
    TextContentBlock,
    ToolCallProgress,
    ToolCallStart,
    ToolCallUpdate,
    Usage,
    UsageUpdate,
)
from msgspec.structs import replace

from sled.protocol import Body, Finished, TextDelta, Tool, ToolDone, cut

_MAX_ID = 80
_MAX_NAME = 80
_MAX_DETAIL = 200
_MAX_RULE = 500
_MAX_TOOLS = 200
_EDITS = frozenset({"edit", "delete", "move"})
_OVER = {"completed": False, "failed": True}


class Updates:
    """One run as its updates tell it. `cost_before`: what the dialogue had cost before it, USD."""

    def __init__(self, cost_before: float) -> None:
        self.cost = cost_before
        self._cost_before = cost_before
        #: All that is known about each tool call, for the people who are asked about it.
        self._calls: dict[str, dict[str, Any]] = {}
        self._open: set[str] = set()
        self._tools: Counter[str] = Counter()
        #: What was said, from tool to tool; the last piece is the answer.
        self._said = [""]

    def read(self, update: object) -> list[Body]:
        """The events that an update stands for; updates of an unknown kind mean nothing."""
        match update:
            case AgentMessageChunk(content=TextContentBlock(text=text)) if text:
                return self._text(text)
            case ToolCallStart() | ToolCallProgress():
                return self._tool(update)
            case UsageUpdate() if update.cost and update.cost.currency == "USD":
                self.cost = update.cost.amount
        return []

    def call(self, update: ToolCallUpdate) -> dict[str, Any]:
        """All that is known about a tool call, together with what comes with a request for permission."""
        return {**self._calls.get(update.tool_call_id, {}), **_known(update)}

    def account(self, end: Finished, usage: Usage | None) -> Finished:
        """The end of the run, with its answer and what it took."""
        said = [text.strip() for text in self._said]
        spent = self.cost - self._cost_before
        end = replace(
            end,
            text=cut(next((text for text in reversed(said) if text), "")),
            cost_usd=spent if spent >= 0 else self.cost,
            tools=dict(self._tools.most_common(_MAX_TOOLS)),
        )
        if usage is None:
            return end
        return replace(
            end,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_read_tokens or 0,
            cache_write_tokens=usage.cached_write_tokens or 0,
        )

    def _text(self, text: str) -> list[Body]:
        paragraph = "\n\n" if not self._said[-1] and any(self._said) else ""
        self._said[-1] += text
        return [TextDelta(delta=paragraph + text)]

    def _tool(self, update: ToolCallStart | ToolCallProgress) -> list[Body]:
        identity = update.tool_call_id
        begins = identity not in self._calls
        known = self._calls[identity] = {**self._calls.get(identity, {}), **_known(update)}
        events: list[Body] = []
        if begins:
            name = str(known.get("kind") or "tool")
            self._tools[name] += 1
            self._open.add(identity)
            if self._said[-1]:
                self._said.append("")
            events.append(Tool(id=identity[:_MAX_ID], name=name, detail=_line(known.get("title"), _MAX_DETAIL)))
        if update.status in _OVER and identity in self._open:
            self._open.discard(identity)
            events.append(ToolDone(id=identity[:_MAX_ID], failed=_OVER[update.status]))
        return events


def tool_name(call: dict[str, Any]) -> str:
    """What a person is asked to allow, in a few words."""
    title = _line(call.get("title"), _MAX_NAME)
    return ": ".join(filter(None, (str(call.get("kind") or ""), title))) or "tool"


def rule(call: dict[str, Any]) -> str:
    """What "for this session" would allow from then on; empty if that cannot be said for certain."""
    kind = call.get("kind")
    if kind in _EDITS:
        return "edit files"
    given = call.get("rawInput")
    command = given.get("command") if isinstance(given, dict) else None
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        command = shlex.join(command)
    if kind != "execute" or not isinstance(command, str) or not command:
        return ""
    wide = f"Run: {command}"
    return wide if len(wide) <= _MAX_RULE else ""


def choose(options: list[PermissionOption], allow: bool) -> str | None:
    """The id of the option that means "this once"; None if the agent offers nothing of the kind."""
    wanted = ("allow_once", "allow_always") if allow else ("reject_once", "reject_always")
    found = {option.kind: option.option_id for option in reversed(options)}
    return next((found[kind] for kind in wanted if kind in found), None)


def _known(update: ToolCallStart | ToolCallUpdate) -> dict[str, Any]:
    whole = update.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in whole.items() if name not in ("sessionUpdate", "toolCallId", "status")}


def _line(text: object, length: int) -> str:
    line = str(text or "").strip().partition("\n")[0]
    return line if len(line) <= length else line[: length - 1] + "…"
