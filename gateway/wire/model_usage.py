"""What a model call used, read from its response as that streams by."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.store.usage import Used

#: Bytes of one line of a stream, or of one whole response, that are looked at; longer ones go uncounted.
_MAX_LINE = 2**20
_MAX_JSON = 16 * 2**20
#: Bytes of a request that is looked at; a longer one is a dialogue's for certain.
_MAX_ASKED = 4 * 2**20
#: Only these events of a stream tell of the call as a whole; all others are not even parsed.
_TELLING = (b'"message_start"', b'"message_delta"', b'"message_stop"', b'"error"')
#: What the provider says when it means not now.
_LIMITED = (429, 529)
_LIMITED_TYPES = ("rate_limit_error", "overloaded_error")


class _Tokens(msgspec.Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _Tokens | None = None
    model: str = ""


class _Error(msgspec.Struct):
    type: str = ""


class _Told(msgspec.Struct):
    """A whole response, or one event of a stream: `message` in its first, `usage` in its last but one."""

    type: str = ""
    usage: _Tokens | None = None
    model: str = ""
    message: _Message | None = None
    error: _Error | None = None


class _Asked(msgspec.Struct):
    tools: list[msgspec.Raw] = []


def is_dialogue(body: bytes) -> bool:
    """Whether a request is a dialogue's own; the CLI's side calls (titles and the like) bring no tools."""
    if len(body) > _MAX_ASKED:
        return True
    try:
        return bool(msgspec.json.decode(body, type=_Asked).tools)
    except (msgspec.MsgspecError, RecursionError):
        return False


class CallReader:
    """Reads one call's response. What it has told by any moment is in `used`: a call that is cut counts as far as that.

    `dialogue`: whether the model that answers is the dialogue's. `on_complete` is called when a stream has told
    all that it will.
    """

    def __init__(self, *, dialogue: bool, on_complete: Callable[[], None] = lambda: None) -> None:
        self._dialogue = dialogue
        self._on_complete = on_complete
        self._streams = False
        self._failed = False
        self._limited = False
        self._pending = bytearray()
        self._overlong = False
        self._tokens = _Tokens()
        self._model = ""
        self._accounted = False
        #: Bytes of a response that has begun and is no error.
        self.streamed = 0

    @property
    def used(self) -> Used:
        """The account of the call so far."""
        tokens = self._tokens
        return Used(
            input_tokens=tokens.input_tokens or 0,
            output_tokens=tokens.output_tokens or 0,
            cache_read_tokens=tokens.cache_read_input_tokens or 0,
            cache_write_tokens=tokens.cache_creation_input_tokens or 0,
            at_least=not self._accounted,
            limited=self._limited,
            model=self._model if self._dialogue else "",
        )

    def begin(self, status: int, content_type: str) -> None:
        """The response's headers are here. One that is not a success costs nothing."""
        self._streams = content_type == "text/event-stream"
        self._failed = self._accounted = status >= 300
        self._limited = status in _LIMITED

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the response."""
        if self._failed:
            return
        self.streamed += len(chunk)
        if not self._streams:
            self._keep(chunk)
            return
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._keep(line)
            self._line()
        self._keep(rest)

    def close(self) -> None:
        """The response is over."""
        if not self._streams and not self._failed and not self._overlong:
            self._tell(bytes(self._pending))
            self._pending.clear()

    def _keep(self, part: bytes) -> None:
        if self._overlong or len(self._pending) + len(part) > (_MAX_LINE if self._streams else _MAX_JSON):
            self._overlong = True
            self._pending.clear()
            return
        self._pending += part

    def _line(self) -> None:
        line = bytes(self._pending)
        self._pending.clear()
        self._overlong = False
        if line.startswith(b"data:") and any(kind in line for kind in _TELLING):
            self._tell(line.removeprefix(b"data:"))

    def _tell(self, raw: bytes) -> None:
        try:
            told = msgspec.json.decode(raw, type=_Told)
        except (msgspec.MsgspecError, RecursionError):
            return  # an error page, or cut short: it tells nothing
        if told.type == "error":
            self._limited = self._limited or (told.error is not None and told.error.type in _LIMITED_TYPES)
        self._model = told.model or (told.message.model if told.message else "") or self._model
        if tokens := told.usage or (told.message.usage if told.message else None):
            self._count(tokens)
            # Of a stream, the first account is only of what was read.
            self._accounted = self._accounted or told.usage is not None
        if told.type == "message_stop":
            self._on_complete()

    def _count(self, tokens: _Tokens) -> None:
        """Each account is of the whole call so far, not of what is new; what it leaves out stays as it was."""
        for name in self._tokens.__struct_fields__:
            most = max(getattr(self._tokens, name) or 0, getattr(tokens, name) or 0)
            setattr(self._tokens, name, min(most, 2**53))
