"""Sending one conversation's rows: oldest first, again and again until its platform has them, edits in between.

A worker is the only caller of the transport for its conversation: so a late progress edit can never overtake the answer
that replaces it. A platform that recognises a repeated key is simply sent to again after a crash; for one that does
not, a row that was in the air is reported as unknown.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway import clock, kill_points
from gateway.chat import Conversation, MessageRef, OutgoingFile, Reply, Transport
from gateway.chat.cutting import split
from gateway.chat.text import quote, units
from gateway.delivery.instead import fail, hold
from gateway.delivery.pace import Pace
from gateway.errors import (
    DeliveryHeld,
    DeliveryRefused,
    OutcomeUnknown,
    StateError,
    TooLong,
    TransportDown,
    TransportError,
    TransportRefused,
)
from gateway.store import Connection, Store, messages
from gateway.store import outbox as rows
from gateway.store.outbox import Outgoing, decode_choices

log = logging.getLogger(__name__)

#: Seconds that sending a reply is tried while its platform is down.
GIVE_UP_S = 24 * 3600.0
#: And a file, which may hold up the answers behind it for a long time at each try.
GIVE_UP_FILE_S = 600.0
_BACK_OFF_S = (0.2, 30.0)
#: Characters below which a text is no more cut.
_SMALLEST = 150
_DOUBT = "It is not known whether this arrived:"


class Worker:
    """Sends one conversation's rows, oldest first, and between them the live edits."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        conversation: Conversation,
        pace: Pace,
        *,
        wake: Callable[[Conversation], None],
        through: Callable[[Worker], None],
        done: Callable[[Worker], None],
    ) -> None:
        self._store = store
        self._transport = transport
        self.conversation = conversation
        self._pace = pace
        self._wake = wake
        self._through = through
        self._done = done
        self._news = asyncio.Event()
        self._live: dict[int, str] = {}
        self._refs: dict[int, MessageRef] = {}
        self._slot: float | None = None
        self._failures = 0
        self._held = False
        self.sent = 0
        #: The last row was refused for good.
        self.failed = False
        self.task = asyncio.create_task(self._run())

    @property
    def held(self) -> bool:
        """Whether the room takes nothing now."""
        return self._held

    def wake(self) -> None:
        self._news.set()

    def show(self, row_id: int, text: str) -> None:
        self._live[row_id] = text
        self._news.set()

    async def _run(self) -> None:
        try:
            # The check and the end are one step without an await: a wake-up in between is not lost.
            while self._news.is_set() or self._live:
                self._news.clear()
                self._held = False
                try:
                    row = await self._store.read(self._next)
                    while row is not None and not self._held:
                        row = await self._deliver(row)
                    if not self._held:
                        self._through(self)
                    await self._edit_live()
                except StateError:
                    # Nothing is lost: the row is as it was. Try again when the disk may have recovered.
                    await asyncio.sleep(_BACK_OFF_S[0] * 5)
                    self._news.set()
                except Exception:
                    # A defect, and the rows are as they were: they must not have to wait until somebody writes.
                    log.exception("sending to %s stumbled", self.conversation)
                    await asyncio.sleep(_BACK_OFF_S[1])
                    self._news.set()
        finally:
            self._done(self)

    def _next(self, connection: Connection) -> Outgoing | None:
        return rows.next_pending(connection, self.conversation)

    async def _deliver(self, row: Outgoing) -> Outgoing | None:
        """Try to send a row; the one that comes next then, which may be the same one. Raises StateError."""
        if row.state == "sending":
            return await self._settle(row, "unknown", error="the gateway ended while this was being sent")
        if not self._transport.capabilities.idempotent:
            await self._settle(row, "sending")
        try:
            with self._pace.sending():
                ref = await self._hand_over(row)
        except DeliveryRefused as error:
            if isinstance(error, TooLong) and (parts := _smaller(row)):
                log.info("%s takes message %s in smaller parts only: %s", self._transport.name, row.id, error)
                return await self._cut(row, parts)
            log.warning("%s refused message %s: %s", self._transport.name, row.id, error)
            return await self._refused(row, str(error))
        except OutcomeUnknown as error:
            log.warning("%s may have taken message %s: %s", self._transport.name, row.id, error)
            return await self._doubted(row, str(error))
        except DeliveryHeld as error:
            await self._wait_for_room(row, str(error))
            return None
        except StateError:
            raise
        except (TransportDown, TransportRefused) as error:
            if await self._too_old(row):
                return await self._settle(row, "failed", error=str(error))
            await self._settle(row, "pending", error=str(error))
            await self._back_off(error)
            return await self._store.read(self._next)  # much may have come in the meantime
        except Exception as error:
            # A defect: it would fail again each time, and hold up whatever comes behind it.
            log.exception("%s stumbled over message %s", self._transport.name, row.id)
            return await self._settle(row, "unknown", error=f"{type(error).__name__}: {error}")
        else:
            kill_points.reach("outbox.sent")
            self._failures = 0
            self.sent += 1
            self._refs[row.id] = ref
            return await self._settle(row, "sent", external_id=ref.external_id)

    async def _hand_over(self, row: Outgoing) -> MessageRef:
        choices = decode_choices(row.choices)
        reply = Reply(
            row.text,
            row.reply_to or None,
            live=row.kind == "progress",
            choices=choices,
            notifies=row.notifies,
            mentions=row.mentions,
        )
        if row.file:
            told = json.loads(row.file)
            file = OutgoingFile(Path(told["path"]), told["name"], told["mime"], told["size"])
            return await self._transport.send_file(self.conversation, file, reply, row.key)
        if row.replaces is not None:
            self._live.pop(row.replaces, None)
            replaced = await self._ref(row.replaces)
            if replaced is not None:
                try:
                    await self._transport.edit(replaced, reply, row.key)
                    return replaced
                except TooLong:  # its first part goes there
                    raise
                except DeliveryRefused as error:  # the live message is gone: the answer must arrive all the same
                    log.info("%s refused an edit: %s", self._transport.name, error)
        return await self._transport.send(self.conversation, reply, row.key)

    async def _ref(self, row_id: int) -> MessageRef | None:
        """Where a sent row stands; None when it never arrived."""
        if row_id not in self._refs:
            row = await self._store.read(lambda c: rows.by_id(c, row_id))
            if row is None or row.state != "sent":
                return None
            self._refs[row_id] = MessageRef(self.conversation, row.external_id)
        return self._refs[row_id]

    async def _edit_live(self) -> None:
        """One live edit, if its turn has come; else wait for that, or for news."""
        if not self._live:
            return
        loop = asyncio.get_running_loop()
        if self._slot is None:
            self._slot = self._pace.book(self._transport.capabilities.edit_interval_s)
        if (early := self._slot - loop.time()) > 0:
            await _wait([self._news], early)
            return
        if not self._pace.calm.is_set():
            await _wait([self._news, self._pace.calm], _BACK_OFF_S[1])
            return
        self._slot = None
        row_id, text = next(iter(self._live.items()))
        del self._live[row_id]
        ref = await self._ref(row_id)
        if ref is None:
            return
        try:
            await self._transport.edit(ref, Reply(text, live=True), f"live-{row_id}-{time.time_ns()}")
        except TransportDown as error:
            self._pace.pause(error.retry_after_s or _BACK_OFF_S[1])
        except TransportError as error:
            log.info("a progress edit failed: %s", error)
            self._pace.pause(_BACK_OFF_S[1])
        except Exception:
            log.exception("%s stumbled over a progress edit", self._transport.name)
            self._pace.pause(_BACK_OFF_S[1])

    async def _too_old(self, row: Outgoing) -> bool:
        """Whether it was tried for long enough: since it was written, or, if it was held, since the person wrote."""
        since = row.created_at
        if row.held:
            since = max(since, await self._store.read(lambda c: messages.last_received_at(c, self.conversation)))
        return clock.since(since) > (GIVE_UP_FILE_S if row.file else GIVE_UP_S)

    async def _back_off(self, error: TransportError) -> None:
        self._failures += 1
        shortest, longest = _BACK_OFF_S
        pause = min(longest, shortest * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1)
        if isinstance(error, TransportDown) and error.retry_after_s is not None:
            pause = error.retry_after_s
            self._pace.pause(pause)
        await asyncio.sleep(pause)

    async def _refused(self, row: Outgoing, why: str) -> Outgoing | None:
        """A row will never arrive, and people get what can be had instead. What comes next."""
        most = self._transport.capabilities.max_text
        self.failed = True

        def unit(connection: Connection) -> tuple[Conversation | None, Outgoing | None]:
            return fail(connection, row, why, most), self._next(connection)

        elsewhere, following = await self._store.write(unit)
        if elsewhere is not None:
            self._wake(elsewhere)
        return following

    async def _wait_for_room(self, row: Outgoing, why: str) -> None:
        """A row is held until the room has changed; then we are woken."""
        self._held = True
        if (row.held, row.error) != (True, why):
            log.warning("%s takes nothing now: %s", self.conversation, why)
            if (elsewhere := await self._store.write(lambda c: hold(c, row, why))) is not None:
                self._wake(elsewhere)

    async def _cut(self, row: Outgoing, parts: Sequence[str]) -> Outgoing | None:
        """A row goes out in parts; the first of them."""

        def unit(connection: Connection) -> Outgoing | None:
            rows.cut(connection, row, parts)
            return self._next(connection)

        return await self._store.write(unit)

    async def _doubted(self, row: Outgoing, why: str) -> Outgoing | None:
        """Nobody knows whether a row arrived: people are told, so that they can look. What comes next."""
        said = f"{_DOUBT} {quote(row.text or json.loads(row.file or '{}').get('name', ''))}"

        def unit(connection: Connection) -> Outgoing | None:
            rows.set_state(connection, row.id, "unknown", error=why)
            if not row.text.startswith(_DOUBT):  # of such words nothing is said
                rows.add(connection, row.conversation_id, [said])
            return self._next(connection)

        return await self._store.write(unit)

    async def _settle(
        self, row: Outgoing, state: rows.State, *, external_id: str | None = None, error: str = ""
    ) -> Outgoing | None:
        """Record how a row stands; what comes next, as is known in the same transaction."""

        def unit(connection: Connection) -> Outgoing | None:
            rows.set_state(connection, row.id, state, external_id=external_id, error=error)
            return self._next(connection)

        return await self._store.write(unit)


def _smaller(row: Outgoing) -> list[str]:
    """The text of a row in parts of half its length; none where that makes no sense."""
    half = units(row.text) // 2
    return split(row.text, half) if half >= _SMALLEST and not row.file and row.kind != "progress" else []


async def _wait(events: Sequence[asyncio.Event], seconds: float) -> None:
    """Wait until one of the events is set, or the time is over."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
