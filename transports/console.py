"""The console: the terminal that the gateway runs in, or a pipe.

On a terminal: line editing with history, formatted replies above the line being typed, live progress in a line below
it. On a pipe: a message per line, replies in Markdown as they were said; at the end of input it waits for everything
that is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar, cast

from gateway.chat import Capabilities, Conversation, Fate, Message, MessageRef, Receiver, Reply, WithoutFiles
from gateway.errors import DeliveryRefused, StateError, TransportDown
from transports.terminal import inert, styled

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

log = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK = 2**16
#: Seconds before a line that could not be committed is handed in again.
_RETRY_S = 1.0


class Console(WithoutFiles):
    """Implements `gateway.chat.Transport` for one person at one terminal."""

    name = "console"

    def __init__(
        self, user: str, *, pipe: bool, history: Path, source: TextIO = sys.stdin, sink: TextIO = sys.stdout
    ) -> None:
        self.sender = f"console:{user}"
        self.conversation = Conversation("console", "terminal")
        self.capabilities = Capabilities(
            max_text=1_000_000, edits=not pipe, edit_interval_s=0.1, idempotent=False, marks=False
        )
        self._user = user
        self._pipe = pipe
        self._history = history
        self._source = source
        self._sink = sink
        self._status = ""
        self._session: PromptSession[str] | None = None
        self._numbers = itertools.count(1)
        # Each start is a new series of ids: a line typed again is a new message.
        self._series = secrets.token_hex(6)
        self._ended = asyncio.Event()
        self.serving = False

    async def run(self, receiver: Receiver) -> None:
        """Read until the end of input, or until Ctrl-D or Ctrl-C."""
        self.serving = True
        try:
            if self._pipe:
                await self._read_pipe(receiver)
            else:
                await self._read_terminal(receiver)
        finally:
            self.serving = False
            self._ended.set()

    async def ended(self) -> None:
        """Wait for the end of input."""
        await self._ended.wait()

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        if not self.serving and not self._pipe:
            raise TransportDown("no terminal is attached")
        if reply.live:
            self._show_status(reply.text)
        else:
            self._show_status("")  # what is left of a long run's progress has had its time
            await self._print(reply.text)
        return MessageRef(conversation, key)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        if reply.live:
            self._show_status(reply.text)
        else:
            self._show_status("")
            await self._print(reply.text)

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """A terminal has no marks."""

    async def _accept(self, receiver: Receiver, text: str, problem: str = "") -> None:
        message = Message(
            conversation=self.conversation,
            external_id=f"{self._series}-{next(self._numbers)}",
            sender=self.sender,
            sender_name=self._user,
            text=text,
            problem=problem,
        )
        told = False
        while True:
            try:
                await receiver.accept([message])
                return
            except StateError as error:
                if not told:
                    log.warning("your line is kept until it can be stored: %s", error)
                told = True
                await asyncio.sleep(_RETRY_S)

    async def _read_pipe(self, receiver: Receiver) -> None:
        number = 0
        async for line in _lines(self._source.fileno()):
            number += 1
            try:
                text = line.decode().strip()
            except UnicodeDecodeError:
                await self._accept(receiver, "", f"Line {number} is not valid UTF-8 and was skipped.")
                continue
            if text:
                await self._accept(receiver, text)

    async def _read_terminal(self, receiver: Receiver) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory
        from prompt_toolkit.patch_stdout import patch_stdout

        self._session = PromptSession(
            history=FileHistory(str(self._history)), bottom_toolbar=lambda: self._status or None
        )
        # Raw: the escape sequences that it would remove are ours; what others write there, the log, has none.
        with patch_stdout(raw=True):
            while True:
                try:
                    text = (await self._session.prompt_async(f"{self._user}> ")).strip()
                except (EOFError, KeyboardInterrupt):
                    return
                if text:
                    await self._accept(receiver, text)

    def _show_status(self, text: str) -> None:
        self._status = " · ".join(line for line in inert(text).split("\n") if line.strip())[:200]
        if self._session is not None:
            self._session.app.invalidate()

    async def _print(self, text: str) -> None:
        if self._session is not None:
            knows_styles = os.environ.get("TERM", "dumb") != "dumb"
            shown = styled(text, self._session.output.get_size().columns) if knows_styles else inert(text)
            # sys.stdout as it is now: prompt_toolkit replaces it so that output goes above the line being typed.
            sys.stdout.write(shown + "\n")
            return
        said = inert(text) + "\n"
        try:
            await _aside(lambda: _write(self._sink.fileno(), said.encode()))
        except OSError as error:
            raise DeliveryRefused(f"nobody reads the output any more: {error.strerror}") from error


async def _lines(descriptor: int) -> AsyncIterator[bytes]:
    """The lines of a pipe or a file; the last one may lack its line end."""
    rest = b""
    while chunk := await _aside(lambda: _read(descriptor)):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError as error:
        log.warning("the input can no longer be read: %s", error.strerror)
        return b""


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


async def _aside(call: Callable[[], T]) -> T:
    """Run a call that may block for ever, and cannot be cancelled, in a thread that nobody waits for at the end."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[T] = loop.create_future()

    def resolve(result: T | None, error: OSError | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(cast(T, result))
        else:
            found.set_exception(error)

    def work() -> None:
        try:
            outcome: tuple[T | None, OSError | None] = call(), None
        except OSError as error:
            outcome = None, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            loop.call_soon_threadsafe(resolve, *outcome)

    threading.Thread(target=work, name="console", daemon=True).start()
    return await found
