"""The console: the terminal that the gateway runs in, or a pipe.

On a terminal: line editing with history, replies above the line being typed, live progress in a line below it. On a
pipe: a message per line; at the end of input everything that is under way is waited for.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from gateway.chat import Capabilities, Conversation, Fate, Message, MessageRef, Receiver, Reply
from gateway.errors import TransportDown

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

#: Characters that a terminal may take for an order; shown as U+FFFD instead. Line breaks and tabs are harmless.
_HARMLESS = "\n\t"


class Console:
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
            self._print(reply.text)
        return MessageRef(conversation, key)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        if reply.live:
            self._show_status(reply.text)
        else:
            self._show_status("")
            self._print(reply.text)

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """A terminal has no marks."""

    async def _accept(self, receiver: Receiver, text: str, problem: str = "") -> None:
        number = next(self._numbers)
        await receiver.accept(
            [
                Message(
                    conversation=self.conversation,
                    external_id=f"{self._series}-{number}",
                    sender=self.sender,
                    sender_name=self._user,
                    text=text,
                    problem=problem,
                )
            ]
        )

    async def _read_pipe(self, receiver: Receiver) -> None:
        number = 0
        while line := await asyncio.to_thread(self._source.buffer.readline):
            number += 1
            try:
                text = line.decode().strip()
            except UnicodeDecodeError:
                await self._accept(receiver, "", f"Line {number} is no UTF-8 text; nothing was done with it.")
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
        with patch_stdout():
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

    def _print(self, text: str) -> None:
        # sys.stdout as it is now: prompt_toolkit replaces it so that output goes above the line being typed.
        sink = sys.stdout if self._session is not None else self._sink
        print(inert(text), file=sink, flush=True)


def inert(text: str) -> str:
    """Text that no terminal takes for an order: control and formatting characters become U+FFFD."""
    return "".join(
        letter if letter in _HARMLESS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs") else "\ufffd"
        for letter in text
    )
