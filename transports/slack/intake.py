"""From payloads to the gateway's inbox: in order of arrival, and committed before anybody acknowledges them."""

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
_MOST, _TOGETHER = 1000, 200
_PAUSE_S = (0.1, 5.0)

Payload = Mapping[str, Any]
_Waiting = tuple[Payload, asyncio.Future[str]]


class Reader(Protocol):
    """Knows what a payload says."""

    def prepare(self, payload: Payload) -> Awaitable[str] | None:
        """Find out what reading it needs; None if that is known. Its result: why the payload is to be ignored.

        It must not take long: everything behind it waits.
        """

    def read(self, payload: Payload) -> Sequence[Incoming]:
        """What people did."""


@contextlib.contextmanager
def _set_aside(payload: Payload) -> Iterator[None]:
    """Continue without a payload that cannot be read: it would fail again each time it came."""
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
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(_MOST)

    async def offer(self, payload: Payload) -> asyncio.Future[str]:
        """Put a payload in line, waiting while the line is full; the future is done once it is committed.

        Its result: why nothing came of it, for the person who did it; empty if something did. It fails with StateError
        if it could not be committed.
        """
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await self._queue.put((payload, done))
        return done

    async def run(self) -> None:
        """Commit until cancelled; whoever still waits then is told that nothing was committed."""
        batch: list[_Waiting] = []
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

    async def _take(self, batch: Sequence[_Waiting]) -> None:
        found, refusals = await self._read([payload for payload, _ in batch])
        failure: StateError | None = None
        try:
            if found:
                await self._commit(found)
        except StateError as error:
            failure = error
        for at, (_, done) in enumerate(batch):
            if done.done():
                continue
            if failure is None:
                done.set_result(refusals.get(at, ""))
            else:
                done.set_exception(failure)
                done.exception()

    async def _read(self, payloads: Sequence[Payload]) -> tuple[list[Incoming], dict[int, str]]:
        waits = {}
        for at, payload in enumerate(payloads):
            with _set_aside(payload):
                if (wait := self._reader.prepare(payload)) is not None:
                    waits[at] = wait
        answers = dict(zip(waits, await asyncio.gather(*waits.values(), return_exceptions=True), strict=True))
        refusals = {at: answer for at, answer in answers.items() if isinstance(answer, str) and answer}
        found: list[Incoming] = []
        for at, payload in enumerate(payloads):
            if at not in refusals:
                with _set_aside(payload):
                    found += self._reader.read(payload)
        return found, refusals

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
