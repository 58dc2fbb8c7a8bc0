"""What Claude's messages mean: SDK messages in, events of a run out. No I/O here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from claude_agent_sdk.types import (
    AssistantMessage,
    Message,
    RateLimitEvent,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from sled.protocol import Body, Ending, Finished, Note, Reason, Started, TextDelta, Tool, ToolDone, cut

#: Notes about retries that one run may show; an outage would fill the chat otherwise.
MAX_RETRY_NOTES = 3
_MAX_DETAIL = 200
_MAX_ERROR = 300
_MAX_ID = 80
_MAX_TOOLS = 200
#: The model of messages that the CLI made up itself.
_SYNTHETIC = "<synthetic>"
_COUNTED = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

#: The part of a tool's input that tells a person what it does.
_TELLING = {
    "Bash": "command",
    "Read": "file_path",
    "Write": "file_path",
    "Edit": "file_path",
    "NotebookEdit": "notebook_path",
    "Grep": "pattern",
    "Glob": "pattern",
    "WebFetch": "url",
    "WebSearch": "query",
    "Skill": "skill",
}
_PATHS = ("file_path", "notebook_path")


class Reader:
    """One run as the SDK's messages tell it, in order.

    `cost_before` (USD) is what the dialogue had cost before this run, as results give the total. `first` are
    events that go out right after `Started`.
    """

    def __init__(self, workspace: Path, cost_before: float, first: list[Body] | None = None) -> None:
        self.session = ""
        #: The model's API refused the credential: retrying, as the CLI does for three minutes, is pointless.
        self.key_refused = False
        self._workspace = workspace
        self._cost_before = cost_before
        self._first = first or []
        self._cost = 0.0
        self._model = ""
        self._words: list[str] = []
        self._usage: Counter[str] = Counter()
        self._tools: Counter[str] = Counter()
        self._resets_at = 0.0
        self._results: list[str] = []
        self._last: ResultMessage | None = None
        self._said = ""
        self._streamed = False
        self._retries = 0
        self._limited = False

    def read(self, message: Message) -> list[Body]:
        """The events that `message` stands for; messages of an unknown kind mean nothing."""
        events = self._meet(message)
        match message:
            case StreamEvent(parent_tool_use_id=None):
                events += self._stream(message.event)
            case AssistantMessage():
                events += self._assistant(message)
            case UserMessage(content=list() as blocks):
                events += [
                    ToolDone(id=clip(block.tool_use_id, _MAX_ID), failed=bool(block.is_error))
                    for block in blocks
                    if isinstance(block, ToolResultBlock)
                ]
            case SystemMessage(subtype="api_retry"):
                events += self._retry(message.data)
            case RateLimitEvent():
                events += self._limit(message)
            case ResultMessage():
                self._result(message)
            case _:
                pass
        return events

    def finished(self, *, stopped: bool = False, crash: str = "") -> Finished:
        """How the run ended, as far as it was read. `crash`: what the CLI died of, when it died."""
        ending, reason, error = self._ending(stopped, crash)
        return Finished(
            ending=ending,
            reason=reason,
            error=error,
            text=cut(self._text()),
            notes=[event.text for event in self._first if isinstance(event, Note)],
            agent_session=self.session,
            cost_usd=self._cost,
            model=clip(self._model, _MAX_DETAIL),
            input_tokens=self._usage["input_tokens"],
            output_tokens=self._usage["output_tokens"],
            cache_read_tokens=self._usage["cache_read_input_tokens"],
            cache_write_tokens=self._usage["cache_creation_input_tokens"],
            tools=dict(self._tools.most_common(_MAX_TOOLS)),
            resets_at=self._resets_at,
        )

    def _ending(self, stopped: bool, crash: str) -> tuple[Ending, Reason, str]:
        if stopped:
            return "interrupted", "stopped", ""
        if self.key_refused:
            return "failed", "model_key", "the model's API refused the key"
        if crash:
            return "failed", "crashed", clip(crash)
        if self._last and not self._last.is_error:
            return "answered", "", ""
        status = self._last.api_error_status if self._last else None
        limited = self._limited or status == 429
        # What is in the dialogue would be refused each time: too long, a picture that is none.
        why: Reason = "limit" if limited else "dialogue" if status in (400, 413) else ""
        return "failed", why, self._complaint()

    def _complaint(self) -> str:
        """The first line of the CLI's error."""
        if not self._last:
            return "Claude ended without an answer"
        told = self._last.result or "; ".join(self._last.errors or []) or self._last.subtype
        return clip(_first_line(told))

    def _text(self) -> str:
        # A message that came in too late for the running turn gets a turn, and so a result, of its own.
        return "\n\n".join(text for text in self._results if text) or self._said

    def _meet(self, message: Message) -> list[Body]:
        """`Started`, at the first message that knows the session."""
        session = getattr(message, "session_id", None)
        if isinstance(message, SystemMessage):
            session = message.data.get("session_id")
            if message.subtype == "init":
                self._model = str(message.data.get("model") or "")
                told = message.data.get("slash_commands")
                self._words = [str(word)[:100] for word in told][:500] if isinstance(told, list) else []
        if self.session or not isinstance(session, str) or not session:
            return []
        self.session = clip(session, _MAX_ID)
        return [Started(agent_session=self.session, words=self._words), *self._first]

    def _stream(self, event: dict[str, Any]) -> list[Body]:
        delta = event.get("delta") or {}
        text = delta.get("text") if delta.get("type") == "text_delta" else None
        if text:
            self._streamed = True
            return [TextDelta(delta=cut(text))]
        block = event.get("content_block") or {}
        if block.get("type") == "text" and self._streamed:
            return [TextDelta(delta="\n\n")]  # what is said after a tool is another paragraph
        return []

    def _assistant(self, message: AssistantMessage) -> list[Body]:
        events: list[Body] = []
        if not message.parent_tool_use_id and not message.error and message.model != _SYNTHETIC:
            self._model = message.model
        for block in message.content:
            if isinstance(block, ToolUseBlock):
                detail = tool_detail(block.name, block.input, self._workspace)
                name = clip(block.name, _MAX_DETAIL)
                self._tools[name] += 1
                events.append(Tool(id=clip(block.id, _MAX_ID), name=name, detail=detail))
            elif isinstance(block, TextBlock) and not message.parent_tool_use_id and not message.error:
                self._said = block.text
        return events

    def _retry(self, data: dict[str, Any]) -> list[Body]:
        status = data.get("error_status")
        if status == 401:
            self.key_refused = True
            return []
        self._retries += 1
        if self._retries > MAX_RETRY_NOTES:
            return []
        why = " ".join(str(part) for part in (status, data.get("error")) if part) or "no response"
        delay = float(data.get("retry_delay_ms") or 0) / 1000
        attempt = data.get("attempt", "?")
        text = f"The model's API failed ({why}), attempt {attempt}; trying again in {delay:.1f} s"
        return [Note(text=clip(text))]

    def _limit(self, message: RateLimitEvent) -> list[Body]:
        if message.rate_limit_info.status != "rejected":  # a warning stops nothing
            return []
        first = not self._limited
        self._limited = True
        self._resets_at = float(message.rate_limit_info.resets_at or 0)
        return [Note(text="The provider's usage limit is reached")] if first else []

    def _result(self, message: ResultMessage) -> None:
        if not answers_nobody(message):
            self._answer(message)
        total = message.total_cost_usd or 0.0
        # A dialogue that was cleared counts from nothing again.
        self._cost += total - self._cost_before if total >= self._cost_before else total
        self._cost_before = total
        usage = message.usage or {}
        for kind in _COUNTED:
            self._usage[kind] += usage.get(kind) or 0

    def _answer(self, message: ResultMessage) -> None:
        self._last = message
        if not message.is_error:
            self._limited, self._resets_at = False, 0.0
            self._results.append(message.result or self._said)
        elif message.api_error_status == 401:
            self.key_refused = True


def answers_nobody(result: ResultMessage) -> bool:
    """Whether this ends a turn that the CLI began on its own, as it does when a background task ends."""
    origin = result.origin
    return origin is not None and origin["kind"] != "human" and not result.user_message_uuids


def tool_detail(name: str, given: dict[str, Any], workspace: Path) -> str:
    """What a person wants to know about a tool's use: its command, file or pattern, else its description."""
    key = _TELLING.get(name, "description")
    value = given.get(key)
    if not isinstance(value, str):
        return ""
    if key in _PATHS:
        path = PurePosixPath(value)
        value = str(path.relative_to(workspace)) if path.is_relative_to(workspace) else value
    return clip(_first_line(value), _MAX_DETAIL)


def clip(text: str, length: int = _MAX_ERROR) -> str:
    """At most `length` characters of `text`, fit for a frame."""
    text = _encodable(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def _encodable(text: str) -> str:
    # JavaScript cuts strings between surrogates; what is left of such a character has no UTF-8 form.
    return text.encode(errors="replace").decode()


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
