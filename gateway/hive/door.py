"""Where calls come in, and their answers go out.

A call is committed as a message, once, however often its sled sends it; from there on it is a message like any other.
Its answer is the reply to that message. It is pushed to the sled once; a sled that did not hear it sends its call
again, and is answered from what is stored.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway import clock
from gateway.chat import Conversation, Fate, Incoming, Message
from gateway.config import AGENT
from gateway.hive.calls import TRANSPORT, CallId, Calls
from gateway.store import Connection, Store, audit, messages, outbox
from gateway.store.messages import StoredMessage
from sled.protocol import Command, Frame, Told

log = logging.getLogger(__name__)

#: Calls of one run, and of one project in an hour; more are refused.
PER_RUN, PER_HOUR = 300, 1000
#: Calls of a project that may wait for their answers at once.
AT_ONCE = 32
_HOUR_S = 3600.0
_OUTCOMES: dict[Fate, Literal["done", "refused", "failed"]] = {Fate.ANSWERED: "done", Fate.REFUSED: "refused"}


@dataclass(slots=True)
class _Counted:
    """What a project has called."""

    of_runs: Counter[str] = field(default_factory=Counter)
    lately: deque[float] = field(default_factory=deque)
    waiting: set[str] = field(default_factory=set)
    #: The runs whose refusal is in the audit.
    noted: set[str] = field(default_factory=set)


class Accept(Protocol):
    """The inbox."""

    async def __call__(
        self, transport: str, incoming: Sequence[Incoming], cursor: str | None, *, project_id: int | None = None
    ) -> list[int]: ...


class Door:
    """See the module. `accept` commits messages, and returns the ids of those that are new."""

    def __init__(
        self,
        store: Store,
        calls: Calls,
        accept: Accept,
        send: Callable[[int, Frame], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._calls = calls
        self._accept = accept
        self._send = send
        self._counted: dict[int, _Counted] = {}

    async def on_command(self, project_id: int, command: Command) -> None:
        """A sled hands in a call, perhaps not for the first time. Raises StateError: it will come again."""
        call = CallId(project_id, command.run, command.call)
        name = self._calls.name_of(project_id)
        if not name or "/" in command.run or "/" in command.call:
            return
        counted = self._counted.setdefault(project_id, _Counted())
        if (why := _too_many(counted, call)) and not await self._is_known(call):
            await self._refuse(counted, call, name, command.text, why)
            return
        message = Message(
            conversation=Conversation(TRANSPORT, name),
            external_id=str(call),
            sender=f"{AGENT}{name}",
            sender_name=name,
            text=command.text,
            word=self._calls.word(call),
        )
        if await self._accept(TRANSPORT, [message], None, project_id=project_id):
            counted.of_runs[call.run] += 1
            counted.lately.append(clock.now())
            counted.waiting.add(call.call)
            return
        if (told := await self._store.read(lambda c: _answer(c, call))) is not None:
            await self._send(project_id, told)

    async def tell(self, message: StoredMessage, fate: Fate, text: str) -> None:
        """The answer to a call is committed: let its sled have it. One that is away will ask."""
        call = CallId.of(message.external_id)
        if (counted := self._counted.get(call.project_id)) is not None:
            counted.waiting.discard(call.call)
        await self._send(call.project_id, Told(call=call.call, outcome=_OUTCOMES.get(fate, "failed"), text=text))

    async def _is_known(self, call: CallId) -> bool:
        found = await self._store.read(lambda c: messages.by_external_id(c, TRANSPORT, str(call)))
        return found is not None

    async def _refuse(self, counted: _Counted, call: CallId, name: str, text: str, why: str) -> None:
        """Refuse a call that is one too many, without a message; the audit has the first one of each run."""
        if call.run not in counted.noted:
            counted.noted.add(call.run)
            told = f"{why} What more the run asks for is refused without a row of its own."
            detail = {"fate": Fate.REFUSED, "told": told}
            word = self._calls.word(call)
            await self._store.write(
                lambda c: audit.add(c, "done", f"{AGENT}{name}", text, word=word, project=name, detail=detail)
            )
        await self._send(call.project_id, Told(call=call.call, outcome="refused", text=why))


def _too_many(counted: _Counted, call: CallId) -> str:
    while counted.lately and clock.since(counted.lately[0]) > _HOUR_S:
        counted.lately.popleft()
    if len(counted.waiting) >= AT_ONCE:
        return f"{AT_ONCE} calls of this project already wait for an answer. Call again when one of them has it."
    if len(counted.lately) >= PER_HOUR:
        return f"This project has made {PER_HOUR:,} calls within an hour. Try again later."
    if call.run and counted.of_runs[call.run] >= PER_RUN:
        return f"This run has made {PER_RUN} calls; it cannot make any more."
    return ""


def _answer(connection: Connection, call: CallId) -> Told | None:
    """What a call was told; None while that is not settled."""
    message = messages.by_external_id(connection, TRANSPORT, str(call))
    if message is None or not message.fate.final:
        return None
    text = "\n".join(outbox.texts_for(connection, message.id, None))
    return Told(call=call.call, outcome=_OUTCOMES.get(message.fate, "failed"), text=text)
