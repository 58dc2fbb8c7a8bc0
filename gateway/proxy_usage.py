"""What a model call used, read from its response as that streams by."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

#: Bytes of one line of a stream, or of one whole response, that are looked at; longer ones go uncounted.
_MAX_LINE = 2**20
_MAX_JSON = 16 * 2**20
#: Only these events of a stream tell of tokens; all others are not even parsed.
_TELLING = (b'"message_start"', b'"message_delta"')


@dataclass
class Usage:
    """What a project used. Input includes cached tokens; of a cut call, output is what was told by then."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class _Tokens(msgspec.Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def read(self) -> int:
        parts = (self.input_tokens, self.cache_creation_input_tokens, self.cache_read_input_tokens)
        return sum(part or 0 for part in parts)


class _Message(msgspec.Struct):
    usage: _Tokens | None = None


class _Told(msgspec.Struct):
    """A whole response, or one event of a stream: `message` in its first, `usage` in its last."""

    usage: _Tokens | None = None
    message: _Message | None = None


class UsageReader:
    """Adds what one response tells to `usage` at once: a call that is cut is counted as far as it got."""

    def __init__(self, usage: Usage, content_type: str) -> None:
        self._usage = usage
        self._streams = content_type == "text/event-stream"
        self._limit = _MAX_LINE if self._streams else _MAX_JSON
        self._pending = bytearray()
        self._overlong = False
        self._input = 0
        self._output = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the response."""
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
        if not self._streams and not self._overlong:
            self._tell(bytes(self._pending))

    def _keep(self, part: bytes) -> None:
        if self._overlong or len(self._pending) + len(part) > self._limit:
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
        except msgspec.MsgspecError:
            return  # an error page, or cut short: it tells nothing
        tokens = told.usage or (told.message.usage if told.message else None)
        if tokens is None:
            return
        # Each account is of the whole call so far, not of what is new.
        read, written = max(self._input, tokens.read), max(self._output, tokens.output_tokens or 0)
        self._usage.input_tokens += read - self._input
        self._usage.output_tokens += written - self._output
        self._input, self._output = read, written
