"""The Matrix transport at work in a test, with a receiver that remembers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Self

from gateway.chat import Conversation, Incoming, Message, MessageRef, Move, Reply, Withdrawal
from gateway.errors import StateError, TransportDown
from gateway.testing import patience
from tests.support.running import Running
from tests.support.synapse import Account
from transports.matrix import MatrixConfig, MatrixTransport


class MemoryReceiver:
    """A `Receiver` that keeps what it accepted, each event once, as the gateway's inbox does."""

    def __init__(self) -> None:
        self.accepted: list[Incoming] = []
        self.committed: str | None = None
        self.offered = 0
        #: How many calls of `accept` fail from now on.
        self.failures = 0
        self._news = asyncio.Condition()
        #: Who was typing where, each time that it was told.
        self.typed: asyncio.Queue[tuple[str, list[str]]] = asyncio.Queue()

    def typing(self, conversation: Conversation, senders: Collection[str]) -> None:
        """Keep who is typing."""
        self.typed.put_nowait((conversation.room, list(senders)))

    async def accept(self, incoming: Sequence[Incoming], cursor: str | None = None) -> None:
        """Commit, or fail as often as asked."""
        self.offered += 1
        if self.failures:
            self.failures -= 1
            raise StateError("disk full")
        async with self._news:
            known = set(map(identity, self.accepted))
            self.accepted += [item for item in incoming if identity(item) not in known]
            self.committed = cursor
            self._news.notify_all()

    async def cursor(self, transport: str) -> str | None:
        """The last one committed."""
        assert transport == "matrix"
        return self.committed

    @property
    def messages(self) -> list[Message]:
        """What people wrote."""
        return [item for item in self.accepted if isinstance(item, Message)]

    @property
    def texts(self) -> list[str]:
        """What people wrote, only the words."""
        return [message.text for message in self.messages]

    async def gets(self, holds: Callable[[Message], bool], timeout_s: float = 30) -> Message:
        """The first message that fits, had already or still to come."""

        def found() -> Message | None:
            return next((message for message in self.messages if holds(message)), None)

        async with asyncio.timeout(timeout_s * patience()), self._news:
            await self._news.wait_for(lambda: found() is not None)
        message = found()
        assert message is not None
        return message

    async def gets_move(self) -> Move:
        """The first room that became another one."""

        def found() -> list[Move]:
            return [item for item in self.accepted if isinstance(item, Move)]

        async with asyncio.timeout(30 * patience()), self._news:
            await self._news.wait_for(lambda: bool(found()))
        return found()[0]

    async def gets_text(self, text: str, timeout_s: float = 30) -> Message:
        """The message with this text."""
        return await self.gets(lambda message: message.text == text, timeout_s)

    async def gets_withdrawal(self, event_id: str) -> Withdrawal:
        """The withdrawal of a message."""

        def found() -> list[Withdrawal]:
            return [i for i in self.accepted if isinstance(i, Withdrawal) and i.external_id == event_id]

        async with asyncio.timeout(30 * patience()), self._news:
            await self._news.wait_for(lambda: bool(found()))
        return found()[0]


def identity(item: Incoming) -> tuple[object, ...]:
    return (item,) if isinstance(item, Move) else (type(item), item.external_id)


class Bot(Running):
    """A transport that runs from `async with` on; it can be stopped and started again on the same store."""

    def __init__(
        self,
        url: str,
        account: Account,
        store: Path,
        *,
        may_invite: Callable[[str], bool] = lambda _: True,
        **settings: Any,
    ) -> None:
        """`settings` go into the configuration; by default the account's access token is used."""
        defaults: dict[str, Any] = {"hold_s": 60.0, "poll_s": 5.0}
        if "password" not in settings:
            defaults["access_token"] = account.access_token
        self.account = account
        self.user_id = account.user_id
        defaults |= {"homeserver": url, "user_id": account.user_id, "store": store}
        self.config = MatrixConfig(**(defaults | settings))
        self.may_invite = may_invite
        self.receiver = MemoryReceiver()
        self.transport = MatrixTransport(self.config, may_invite)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def launch(self) -> None:
        """Run, without waiting for anything."""
        self.task = asyncio.create_task(self.transport.run(self.receiver))

    async def start(self) -> None:
        """Run, and wait until events flow."""
        self.launch()
        await self.serves()

    def reborn(self, **changes: Any) -> None:
        """Replace the transport by a new one on the same store and receiver, as a new process would."""
        assert self.task is None
        self.config = dataclasses.replace(self.config, **changes)
        self.transport = MatrixTransport(self.config, self.may_invite)

    async def send(self, room: str, text: str, key: str, *, thread: str = "", reply_to: str = "") -> MessageRef:
        """Post a text, and again while the transport says that it cannot yet."""
        conversation = Conversation("matrix", room, thread)
        deadline = time.monotonic() + 20 * patience()
        while True:
            try:
                return await self.transport.send(conversation, Reply(text, reply_to or None), key)
            except TransportDown as error:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(error.retry_after_s or 0.1)

    def session(self) -> dict[str, str]:
        """The session file."""
        return dict(json.loads((self.config.store / "session.json").read_text()))
