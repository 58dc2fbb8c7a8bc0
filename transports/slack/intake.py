"""From payloads to the gateway's inbox: in the order in which they came, committed before anybody acknowledges them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from gateway.chat import Incoming, Receiver
from gateway.errors import StateError

log = logging.getLogger(__name__)

#: Payloads that may wait, and how many are committed together.
_WAITING, _TOGETHER = 1000, 200
_PAUSE_S = (0.1, 5.0)

Payload = Mapping[str, Any]


class Reader(Protocol):
    """Knows what a payload says."""

    def prepare(self, payload: Payload) -> Awaitable[bool] | None:
        """Find out what reading it needs; None when that is known, false when nothing shall come of it.

        Must not take long: everything behind it waits.
        """

    def read(self, payload: Payload) -> Sequence[Incoming]:
        """What people did."""


@contextlib.contextmanager
def _set_aside(payload: Payload) -> Iterator[None]:
    """Go on without a payload that nobody can read: it would be the same each time that it came."""
    try:
        yield
    except Exception as error:
        told = type(error).__name__
        log.error("slack: a payload (%s) is set aside: %s", str(payload.get("type"))[:40], told, exc_info=True)


class Intake:
    """One queue for the whole workspace; a worker commits what has piled up in one transaction."""

    def __init__(
        self, reader: Reader, receiver: Receiver, *, insists: bool, stored: Callable[[bool], None] = lambda _: None
    ) -> None:
        """Make one whose `run` is to be awaited.

        Args:
            reader: what a payload says.
            receiver: where it goes.
            insists: try again until the store takes it, instead of passing its error on.
            stored: told after each try whether the store took it.
        """
        self._reader = reader
        self._receiver = receiver
        self._insists = insists
        self._stored = stored
        self._queue: asyncio.Queue[tuple[Payload, asyncio.Future[None]]] = asyncio.Queue(_WAITING)

    async def offer(self, payload: Payload) -> asyncio.Future[None]:
        """Put a payload in line, waiting while the line is full; the future is done once it is committed.

        The future fails with StateError where it could not be.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put((payload, done))
        return done

    async def run(self) -> None:
        """Commit until cancelled; who still waits then hears that nothing was committed."""
        batch: list[tuple[Payload, asyncio.Future[None]]] = []
        try:
            while True:
                batch = [await self._queue.get()]
                while len(batch) < _TOGETHER and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                await self._take(batch)
        finally:
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            for _, done in batch:
                if not done.done():
                    done.set_exception(StateError("the transport ended"))
                    done.exception()  # whoever waited may be gone as well

    async def _take(self, batch: Sequence[tuple[Payload, asyncio.Future[None]]]) -> None:
        found = await self._read([payload for payload, _ in batch])
        failure: StateError | None = None
        try:
            if found:
                await self._commit(found)
        except StateError as error:
            failure = error
        for _, done in batch:
            if done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)
                done.exception()

    async def _read(self, payloads: Sequence[Payload]) -> list[Incoming]:
        waits = {}
        for at, payload in enumerate(payloads):
            with _set_aside(payload):
                if (wait := self._reader.prepare(payload)) is not None:
                    waits[at] = wait
        answers = dict(zip(waits, await asyncio.gather(*waits.values(), return_exceptions=True), strict=True))
        found: list[Incoming] = []
        for at, payload in enumerate(payloads):
            if answers.get(at) is not False:
                with _set_aside(payload):
                    found += self._reader.read(payload)
        return found

    async def _commit(self, found: Sequence[Incoming]) -> None:
        pause_s = _PAUSE_S[0]
        while True:
            try:
                await self._receiver.accept(found)
                self._stored(True)
                return
            except StateError as error:
                self._stored(False)
                if not self._insists:
                    raise
                if pause_s == _PAUSE_S[0]:
                    log.warning("slack: not acknowledged until it can be stored: %s", error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S[1])
