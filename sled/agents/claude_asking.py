"""What Claude asks people: whether it may use a tool, and its own questions."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

from claude_agent_sdk import PermissionResult, PermissionResultAllow, PermissionResultDeny, ToolPermissionContext
from claude_agent_sdk.types import CanUseTool, HookCallback, HookContext, HookInput, HookJSONOutput

from sled.agents.claude_tools import PREFIX
from sled.protocol import Option, Query, Question
from sled.turn import TOO_LONG, Turn, chosen, told

#: Characters of a rule; a longer one cannot be read on a button, so that permission is asked each time.
MAX_RULE = 500
EXPIRED = "[expired] nobody answered in time; continue with your best judgement, and say what you chose"
_DENIED = (
    "{tool} was not allowed{why}. Do not try to achieve the same in another way: continue without it if possible, and "
    "say what you wanted to do."
)
_EDITORS = frozenset({"Edit", "Write", "NotebookEdit", "MultiEdit"})
#: A host that everybody reads the same way: no user name before it, no characters that programs disagree on.
_HOST = re.compile(r"https?://([a-z0-9.-]+)(?::\d{1,5})?(?:[/?#].*)?", re.IGNORECASE | re.DOTALL)


def permission(allows: bool, turn: Callable[[], Turn | None]) -> CanUseTool:
    """The SDK's callback. `allows`: tools need no permission; `turn` is the run under way."""

    async def decide(tool: str, given: dict[str, Any], _: ToolPermissionContext) -> PermissionResult:
        if not (now := turn()):
            return PermissionResultDeny(message="no run is under way")
        if tool == "AskUserQuestion":
            return await _questions(now, given)
        await now.ready()  # `hold` was there before, unless the project's own settings switch hooks off
        if allows or tool.startswith(PREFIX):
            return PermissionResultAllow(updated_input=given)
        return await _permission(now, tool, given)

    return decide


def hold(turn: Callable[[], Turn | None]) -> HookCallback:
    """The SDK's hook before each tool, even those that need no permission: none begins before the turn is ready."""

    async def wait(given: HookInput, tool_use_id: str | None, context: HookContext) -> HookJSONOutput:
        if now := turn():
            await now.ready()
        return {}

    return wait


def rule(tool: str, given: dict[str, Any]) -> str:
    """What "for this session" would allow from then on; empty if there is no such thing."""
    match tool:
        case "Bash":
            wide = f"Bash: {given.get('command', '')}"
        case "WebFetch":
            host = _HOST.fullmatch(str(given.get("url", "")))
            wide = f"WebFetch: {host[1].lower()}" if host else ""
        case _ if tool in _EDITORS:
            wide = "edit files"
        case _:
            wide = tool
    return wide if len(wide) <= MAX_RULE else ""


async def _permission(turn: Turn, tool: str, given: dict[str, Any]) -> PermissionResult:
    question = Question(id=_new_id(), kind="permission", tool=tool, arguments=told(given), rule=rule(tool, given))
    decision = await turn.ask(question)
    if decision.allow:
        return PermissionResultAllow(updated_input=given)
    if decision.text == TOO_LONG:
        return PermissionResultDeny(message=TOO_LONG)
    return PermissionResultDeny(message=_DENIED.format(tool=tool, why=f": {decision.text}" if decision.text else ""))


async def _questions(turn: Turn, given: dict[str, Any]) -> PermissionResult:
    """Ask what Claude's own question tool asks; the answers go back in its input."""
    try:
        queries = [_query(asked) for asked in given["questions"]]
    except (KeyError, TypeError, AttributeError) as error:
        return PermissionResultDeny(message=f"these questions cannot be read: {error}")
    decision = await turn.ask(Question(id=_new_id(), kind="query", queries=queries))
    if answers := chosen(queries, decision):
        return PermissionResultAllow(updated_input={**given, "answers": answers})
    return PermissionResultDeny(message=TOO_LONG if decision.text == TOO_LONG else EXPIRED)


def _query(asked: dict[str, Any]) -> Query:
    options = [Option(label=one["label"], description=one.get("description", "")) for one in asked.get("options", [])]
    return Query(
        text=asked["question"],
        header=asked.get("header", ""),
        options=options,
        several=bool(asked.get("multiSelect")),
    )


def _new_id() -> str:
    return secrets.token_hex(8)
