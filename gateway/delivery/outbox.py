"""The outbox: what goes out is committed first, then sent.

One worker per conversation (`delivery`), while it has something to send.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from gateway.chat import (
    Capabilities,
    Conversation,
    Fate,
    MessageRef,
    Noted,
    Outcome,
    OutgoingFile,
    Transport,
)
from gateway.chat.cutting import split
from gateway.delivery.instead import fail
from gateway.delivery.pace import Pace
from gateway.delivery.worker import Worker
from gateway.store import Connection, Store, messages
from gateway.store import outbox as rows
from gateway.store.conversations import Destination

#: Seconds until a room that took nothing is tried again, whatever happens there; the most.
HELD_S = (10.0, 300.0)
#: For a transport that is no longer configured: replies are kept, in parts that any platform takes.
_OFF = Capabilities(max_text=1500, edits=False, edit_interval_s=0.0, idempotent=False, marks=False)


class Outbox:
    """Sends for all conversations."""

    def __init__(
        self, store: Store, transports: Mapping[str, Transport], on_new: Callable[[], None] = lambda: None
    ) -> None:
        """`on_new` is called whenever there is something new to send."""
        self._store = store
        self._on_new = on_new
        self._transports = transports
        self._workers: dict[Conversation, Worker] = {}
        self._marks: set[asyncio.Task[None]] = set()
        #: Final marks, each shown once what was said of it has gone out.
        self._final: defaultdict[Conversation, list[tuple[MessageRef, Fate]]] = defaultdict(list)
        #: Conversations that take nothing now: how often they were tried, and when again.
        self._held: dict[Conversation, tuple[int, asyncio.TimerHandle]] = {}
        self._paces: dict[tuple[str, str], Pace] = {}
        #: Where conversations went whose room became another one since this process began.
        self._moved: dict[Conversation, Conversation] = {}
        self._closing = False
        self.sent = 0

    def add(
        self,
        connection: Connection,
        to: Destination,
        text: str,
        *,
        reply_to: str = "",
        message_id: int | None = None,
        turn_id: int | None = None,
        replaces: int | None = None,
        kind: rows.Kind = "reply",
        choices: str = "",
        notifies: bool = False,
        mentions: Sequence[str] = (),
    ) -> list[int]:
        """Within a unit: store `text`, cut to what the platform takes. Call `wake` after the commit."""
        return rows.add(
            connection,
            to.id,
            split(text, self._capabilities(to.conversation).max_text),
            reply_to=reply_to,
            message_id=message_id,
            turn_id=turn_id,
            replaces=replaces,
            kind=kind,
            choices=choices,
            notifies=notifies,
            mentions=mentions,
        )

    def reply(
        self,
        connection: Connection,
        message: messages.StoredMessage,
        text: str,
        *,
        turn_id: int | None = None,
        replaces: int | None = None,
        choices: str = "",
        notifies: bool = False,
        mentions: Sequence[str] = (),
    ) -> None:
        """Within a unit: store the reply to a message. Call `wake` after the commit."""
        self.add(
            connection,
            message.destination,
            text,
            reply_to=message.reply_to,
            message_id=message.id,
            turn_id=turn_id,
            replaces=replaces,
            choices=choices,
            notifies=notifies,
            mentions=mentions,
        )

    def add_file(
        self,
        connection: Connection,
        to: Destination,
        file: OutgoingFile,
        caption: str,
        *,
        turn_id: int | None = None,
    ) -> None:
        """Within a unit: store that a file is to be sent. Where files cannot be, people read where it is."""
        if not self._capabilities(to.conversation).files:
            size = f"{max(1, file.size // 1024):,} KiB"
            text = f"📎 {file.name} ({size}) {caption}".rstrip() + f"\nIt is on the gateway's host: `{file.path}`"
            self.add(connection, to, text, turn_id=turn_id)
            return
        stored = json.dumps({"path": str(file.path), "name": file.name, "mime": file.mime, "size": file.size})
        rows.add(connection, to.id, [caption[:1000]], turn_id=turn_id, file=stored)

    async def stands_at(self, row_id: int) -> str:
        """The platform's id of a sent row; empty if it was not sent."""
        row = await self._store.read(lambda c: rows.by_id(c, row_id))
        return row.external_id if row is not None and row.state == "sent" else ""

    def wake(self, conversation: Conversation) -> None:
        """There is something new to send."""
        self._on_new()
        if not self._closing and conversation.transport in self._transports:
            self._worker(conversation).wake()

    def moved(self, old: Conversation, new: Conversation) -> None:
        """A room became another one: whoever still speaks of the old one means the new one."""
        self._moved.pop(new, None)  # two that name each other must not send us round in circles
        self._moved[old] = new
        self.wake(new)

    async def say(self, to: Destination, text: str) -> None:
        """Commit a message of the bot's own accord, and send it."""
        await self._store.write(lambda c: self.add(c, to, text))
        self.wake(to.conversation)

    def can_edit(self, conversation: Conversation) -> bool:
        """True when live progress can be shown there."""
        return self._capabilities(conversation).edits

    def can_send_files(self, conversation: Conversation) -> bool:
        """True when files arrive there as such."""
        return self._capabilities(conversation).files

    def show(self, conversation: Conversation, row_id: int, text: str) -> None:
        """Make progress row `row_id` read `text` as soon as the platform's pace allows; only the newest text counts."""
        if not self._closing:
            self._worker(conversation).show(row_id, text)

    def mark(self, refs: Sequence[MessageRef], fate: Fate) -> None:
        """Show a fate on people's messages, where the platform can; in the background.

        A final one only once the conversation's replies are out: what nobody could read is not done.
        """
        for ref in refs:
            transport = self._transports.get(ref.conversation.transport)
            if transport is None or not transport.capabilities.marks or self._closing:
                continue
            if fate.final:
                self._final[self._now(ref.conversation)].append((ref, fate))
                self.wake(ref.conversation)
            else:
                self._mark(transport, ref, fate)

    def written_in(self, conversation: Conversation) -> None:
        """Something happened in a room: what it did not take, it may take now."""
        room = (conversation.transport, conversation.room)
        for held in [held for held in self._held if (held.transport, held.room) == room]:
            self.wake(held)

    async def held(self) -> list[tuple[Conversation, str, int]]:
        """The conversations that take nothing now: why, and how many messages wait for them."""
        return await self._store.read(rows.held)

    def _mark(self, transport: Transport, ref: MessageRef, fate: Fate) -> None:
        task = asyncio.create_task(transport.mark(ref, fate))
        self._marks.add(task)
        task.add_done_callback(self._marks.discard)

    async def heard(self, conversation: Conversation) -> float:
        """When a person last wrote there; 0 if that is not known."""
        return await self._store.read(lambda c: messages.last_received_at(c, conversation))

    async def newest(self) -> int:
        """The number of the newest message."""
        return await self._store.read(rows.newest)

    async def said(self, transport: str, external_id: str) -> tuple[str, str] | None:
        """Who said a message, and what. See `gateway.chat.Deliveries`."""
        return await self._store.read(lambda c: rows.said(c, transport, external_id))

    async def claimed(self, conversation: Conversation, since: float) -> Collection[str]:
        """The platform's ids of what was sent there since then."""
        return await self._store.read(lambda c: rows.sent_since(c, conversation, since))

    async def report(self, transport: str, key: str, external_id: str, outcome: Outcome, why: str) -> Noted:
        """Record what a platform says of a message that it took. See `gateway.chat.Deliveries`."""
        row = await self._store.read(lambda c: rows.by_key(c, transport, key))
        if row is None or (outcome is Outcome.ARRIVED and row.state == "sent"):
            return "known"
        most = self._capabilities(row.conversation).max_text
        return await self._store.write(lambda c: _learn(c, row.id, external_id, outcome, why=why, most=most))

    async def recover(self) -> None:
        """Send what was left unsent when the gateway ended."""
        for conversation in await self._store.read(rows.waiting):
            self.wake(conversation)

    async def drain(self, within_s: float) -> bool:
        """Wait until everything is sent; False when time ran out first."""
        deadline = asyncio.get_running_loop().time() + within_s
        while self._workers:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await asyncio.wait([worker.task for worker in self._workers.values()], timeout=left)
        return True

    async def close(self) -> None:
        """Stop sending; what is unsent stays committed."""
        self._closing = True
        for _, timer in self._held.values():
            timer.cancel()
        tasks = [*(worker.task for worker in self._workers.values()), *self._marks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _capabilities(self, conversation: Conversation) -> Capabilities:
        transport = self._transports.get(conversation.transport)
        return _OFF if transport is None else transport.capabilities

    def _worker(self, conversation: Conversation) -> Worker:
        conversation = self._now(conversation)
        worker = self._workers.get(conversation)
        if worker is None:
            transport = self._transports[conversation.transport]
            scope = (transport.name, conversation.room if transport.capabilities.scope == "room" else "")
            pace = self._paces.setdefault(scope, Pace())
            worker = self._workers[conversation] = Worker(
                self._store, transport, conversation, pace, wake=self.wake, through=self._through, done=self._done
            )
        return worker

    def _now(self, conversation: Conversation) -> Conversation:
        """The conversation that it has become."""
        while conversation in self._moved:
            conversation = self._moved[conversation]
        return conversation

    def _through(self, worker: Worker) -> None:
        """All that was there is sent, or will never be."""
        tried = self._held.pop(worker.conversation, None)
        if tried is not None:
            tried[1].cancel()
        for ref, fate in self._final.pop(worker.conversation, []):
            lost = worker.failed and fate is Fate.ANSWERED
            self._mark(self._transports[ref.conversation.transport], ref, Fate.FAILED if lost else fate)
        worker.failed = False

    def _done(self, worker: Worker) -> None:
        self.sent += worker.sent
        if worker.held and not self._closing:
            tries, timer = self._held.get(worker.conversation, (0, None))
            if timer is not None:
                timer.cancel()
            pause = min(HELD_S[0] * 2**tries, HELD_S[1])
            again = asyncio.get_running_loop().call_later(pause, self.wake, worker.conversation)
            self._held[worker.conversation] = (tries + 1, again)
        if self._workers.get(worker.conversation) is worker:
            del self._workers[worker.conversation]
        if not self._workers:
            self._paces = {scope: pace for scope, pace in self._paces.items() if not pace.idle}


def _learn(connection: Connection, row_id: int, external_id: str, outcome: Outcome, *, why: str, most: int) -> Noted:
    """Record what became of a row."""
    row = rows.by_id(connection, row_id)
    if row is not None and row.state in ("sending", "pending"):
        return "early"
    # A platform repeats itself, and may still speak of an earlier try.
    if row is None or not (row.state == "unknown" or (row.state == "sent" and row.external_id == external_id)):
        return "known"
    if outcome is Outcome.ARRIVED:
        rows.set_state(connection, row.id, "sent", external_id=external_id)
    elif outcome is Outcome.AGAIN:
        rows.set_state(connection, row.id, "pending", external_id="", error=why)
    else:
        fail(connection, row, why, most)
    return "kept"
