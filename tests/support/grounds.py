"""Proving grounds: for each transport, the platform it talks to and a person on it, behind one interface.

A transport is proven by adding its ground to `tests/transports/test_contract.py`. Those that people elsewhere can reach
are in `remote_grounds`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable, Collection, Sequence
from html import unescape
from pathlib import Path
from typing import Self

from sqlalchemy import insert, select

from gateway.chat import Conversation, Incoming, Message, MessageRef, Move, Reply, Transport
from gateway.config import Access
from gateway.errors import StateError, TransportDown
from gateway.intake import Inbox
from gateway.store import Store, conversations
from gateway.store.tables import messages, outbox
from gateway.testing import FakeTransport, patience
from gateway.web.markup import written
from transports.cli import Cli
from transports.console import Console
from transports.terminal import inert
from transports.web import Web


class Recorder:
    """A `Receiver` in front of a real inbox that can fail, and can lose its answer after the commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Who may speak.
        self.known: list[str] = []
        self.offered: list[Incoming] = []
        #: How many of the next calls fail before the commit; how many after it.
        self.failures = self.lost_answers = 0
        #: How many calls succeeded.
        self.committed = 0
        #: What was in the database, rows and cursor, whenever a call failed before the commit.
        self.while_failing: list[tuple[list[str], str | None]] = []
        self.know([])

    def know(self, operators: list[str]) -> None:
        """Only these may speak."""
        self.known = operators
        self._inbox = Inbox(self._store, Access(operators, []), on_accepted=lambda _: None, on_withdrawn=lambda _: None)

    def typing(self, conversation: Conversation, senders: Collection[str]) -> None:
        """Who is typing is not looked at."""

    async def accept(self, incoming: Sequence[Incoming], cursor: str | None = None) -> None:
        self.offered += incoming
        transport = incoming[0].conversation.transport if incoming else "matrix"
        if incoming and self.failures:
            self.failures -= 1
            self.while_failing.append((await self.stored(), await self.cursor(transport)))
            raise StateError("the disk is full")
        await self._inbox.of(transport).accept(incoming, cursor)
        if incoming and self.lost_answers:
            self.lost_answers -= 1
            raise StateError("the answer was lost")
        self.committed += 1

    async def cursor(self, transport: str) -> str | None:
        return await self._inbox.of(transport).cursor(transport)

    async def stored(self) -> list[str]:
        """The external ids of the rows in the inbox, oldest first."""
        return await self._store.read(lambda c: list(c.scalars(select(messages.c.external_id).order_by(messages.c.id))))

    def times_offered(self, external_id: str) -> int:
        """How often the transport handed in an event."""
        return sum(not isinstance(item, Move) and item.external_id == external_id for item in self.offered)


class Ground:
    """A platform with one person and one conversation; `async with` sets it up, the transport running."""

    transport: Transport
    conversation: Conversation
    #: Whether what was sent can be changed.
    edits = True
    #: What the message of this person must say about them.
    person: str
    person_name: str

    def __init__(self, store: Store) -> None:
        self.store = store
        self.recorder = Recorder(store)
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.recorder.know([self.person])
        self.launch()
        await until(lambda: self.transport.serving, lambda: "the transport does not serve")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def launch(self) -> None:
        """Let the transport run."""
        self.task = asyncio.create_task(self.transport.run(self.recorder))

    async def say(self, text: str) -> str | None:
        """The person writes a line; its external id, where the platform gives one."""
        raise NotImplementedError

    def visible(self) -> list[str]:
        """What the person reads now, oldest first."""
        raise NotImplementedError

    def dangers(self) -> list[str]:
        """What of all that the person got would act on them or their screen."""
        return [letter for text in self.visible() for letter in text if letter not in "\n\t" and acts(letter)]

    async def send(self, text: str, key: str) -> MessageRef:
        """Send as the outbox does: again while the transport is down."""
        deadline = time.monotonic() + 20 * patience()
        while True:
            try:
                return await self.transport.send(self.conversation, Reply(text), key)
            except TransportDown as error:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(error.retry_after_s or 0.05)

    async def row(self, external_id: str) -> tuple[str, str]:
        """Text and fate of a message in the inbox."""
        wanted = select(messages.c.text, messages.c.fate).where(messages.c.external_id == external_id)
        text, fate = await self.store.read(lambda c: c.execute(wanted).one())
        return text, fate

    async def message(self, text: str) -> Message:
        """Wait until the transport hands in a message with this text."""

        def found() -> Message | None:
            return next((m for m in self.recorder.offered if isinstance(m, Message) and m.text == text), None)

        await until(found, lambda: f"offered: {self.recorder.offered}")
        message = found()
        assert message is not None
        return message

    async def shows(self, holds: Callable[[list[str]], object]) -> list[str]:
        """Wait until what the person reads is as asked."""
        await until(lambda: holds(self.visible()), lambda: f"visible: {str(self.visible())[-2000:]}")
        return self.visible()


class FakeGround(Ground):
    """The platform in memory. Its events come by hand, and come again while they are refused."""

    person, person_name = "fake:ana", "Ana"
    conversation = Conversation("fake", "room")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.transport = self._fake = FakeTransport()
        self._ids = itertools.count(1)

    async def say(self, text: str) -> str:
        external_id = f"m{next(self._ids)}"
        await persist(self.recorder, self._fake.message(text, external_id))
        return external_id

    def visible(self) -> list[str]:
        return self._fake.texts

    def dangers(self) -> list[str]:
        return []  # a list in memory takes no orders


class CliGround(Ground):
    """`huskies send`: messages come through the socket, and the database is the delivery."""

    person, person_name = "cli:ana", "ana"
    edits = False
    conversation = Conversation("cli", "default")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.transport = self._cli = Cli("ana")
        self._ids = itertools.count(1)
        self._sent: dict[str, str] = {}

    async def say(self, text: str) -> str:
        external_id = f"m{next(self._ids)}"
        await persist(self.recorder, self._cli.message(text, "default", external_id))
        return external_id

    async def send(self, text: str, key: str) -> MessageRef:
        if key not in self._sent:  # the outbox's row is there before the transport hears of it
            await self.store.write(
                lambda c: c.execute(
                    insert(outbox).values(
                        conversation_id=conversations.ensure(c, self.conversation, direct=True).id,
                        kind="reply",
                        text=text,
                        reply_to="",
                        state="pending",
                        created_at=time.time(),
                    )
                ).close()
            )
            rows = await self.store.read(lambda c: list(c.scalars(select(outbox.c.text).order_by(outbox.c.id))))
            self._sent[key] = rows[-1]
        return await super().send(text, key)

    def visible(self) -> list[str]:
        return [inert(text) for text in self._sent.values()]  # as `huskies send` prints them


class Shown(Web):
    """The page's transport; what is committed before it hears of it, as its readers find it in the database."""

    def __init__(self) -> None:
        super().__init__(lambda _room, what: self.changed.append(what), Path())
        self.changed: list[str] = []
        self.texts: dict[str, str] = {}

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        self.texts[key] = reply.text
        return await super().send(conversation, reply, key)

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        self.texts[ref.external_id] = reply.text
        await super().edit(ref, reply, key)


class WebGround(Ground):
    """The page: messages come by its own requests, and what is said is written as its templates have it."""

    person, person_name = "web:ana", "Ana"
    conversation = Conversation("web", "web:ana demo")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.transport = self._web = Shown()
        self._ids = itertools.count(1)

    async def say(self, text: str) -> str:
        external_id = f"web:ana {next(self._ids)}"
        await persist(self.recorder, Message(self.conversation, external_id, self.person, text, sender_name="Ana"))
        return external_id

    def visible(self) -> list[str]:
        # A browser shows where a link leads.
        found = [re.sub(r'<a href="([^"]*)"[^>]*>', r"(\1) ", written(text)) for text in self._web.texts.values()]
        return [unescape(re.sub(r"<[^>]*>", "", text)) for text in found]


class PipeGround(Ground):
    """The console on a pipe; what it prints goes into a file, which is looked at line by line."""

    person, person_name = "console:ana", "ana"
    edits = False
    conversation = Conversation("console", "terminal")

    def __init__(self, store: Store, folder: Path) -> None:
        super().__init__(store)
        keys, self._keys = os.pipe()
        self._source = os.fdopen(keys, encoding="utf-8")
        self._output = folder / "output"
        self._sink = self._output.open("w", encoding="utf-8")
        self.transport = Console("ana", pipe=True, history=folder / "history", source=self._source, sink=self._sink)

    async def __aexit__(self, *_: object) -> None:
        os.close(self._keys)
        await super().__aexit__()
        self._sink.close()
        # A cancelled run leaves a thread in its read; the end of the pipe lets it go before the descriptor is closed.
        await asyncio.sleep(0.05)
        self._source.close()

    async def say(self, text: str) -> None:
        os.write(self._keys, f"{text}\n".encode())

    def visible(self) -> list[str]:
        return self._output.read_text(encoding="utf-8").split("\n")[:-1]


def acts(letter: str) -> bool:
    """Whether a terminal or a text layout takes a character for an order."""
    code = ord(letter)
    return code < 32 or 127 <= code < 160 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069


async def persist(recorder: Recorder, message: Message) -> None:
    """Hand a message in as a platform does: again while nobody takes it."""
    async with asyncio.timeout(10 * patience()):
        while True:
            with contextlib.suppress(StateError):
                return await recorder.accept([message])
            await asyncio.sleep(0.01)


async def until(holds: Callable[[], object], told: Callable[[], str], within_s: float = 30) -> None:
    """Poll what has no event of its own."""
    deadline = time.monotonic() + within_s * patience()
    while not holds():
        assert time.monotonic() < deadline, told()
        await asyncio.sleep(0.02)
