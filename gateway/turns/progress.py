"""Sled events become one live message per turn: what the agent does now, then its answer in its place."""

from __future__ import annotations

import asyncio
import logging
import time

from gateway.chat.text import code, seconds, shorten
from gateway.delivery import Outbox
from gateway.errors import StateError
from gateway.store import Store, turns
from gateway.store.conversations import Destination
from gateway.tasks import insist
from sled.protocol import Body, Note, Question, TextDelta, Tool, ToolDone, Withdrawn

log = logging.getLogger(__name__)

#: A turn that ends sooner than this shows only its answer: seconds.
SHOW_AFTER_S = 1.0
#: Characters of the growing answer that are shown while it grows.
_TAIL = 600
_KEPT_TOOLS = 3
#: Seconds between two ticks of the clock while nothing happens: at first, and at most.
_FIRST_TICK_S, _LAST_TICK_S = 3.0, 60.0


class Live:
    """The live message of one session: from its wait for a free place to the end of its turn."""

    def __init__(self, store: Store, outbox: Outbox, to: Destination, reply_to: str, *, quiet: bool = False) -> None:
        self._store = store
        self._outbox = outbox
        self._to = to
        self._reply_to = reply_to
        self._turn_id: int | None = None
        self._began = time.monotonic()
        self._text = ""
        #: The last tools, and whether they failed.
        self._tools: list[tuple[str, bool]] = []
        self._used = 0
        self._note = ""
        self._held = False
        self._told = ""
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        #: Whether progress can be shown there at all.
        self.enabled = outbox.can_edit(to.conversation) and not quiet
        self._closed = False
        #: The outbox row that shows it; what the answer replaces.
        self.row_id: int | None = None

    @classmethod
    def resumed(cls, store: Store, outbox: Outbox, turn: turns.Turn) -> Live:
        """The live message of a turn that another gateway process began."""
        first = turn.batch[0]
        live = cls(store, outbox, first.destination, first.reply_to, quiet=all(message.quiet for message in turn.batch))
        live._turn_id = turn.id
        live.row_id = turn.progress_id
        return live

    def go_on(self) -> None:
        """What was waited for is here."""
        self._held = False
        self.waiting("")

    def waiting(self, why: str) -> None:
        """The session waits; say for what."""
        if why != self._note:
            self._note = why
            self._refresh()

    async def begin(self, turn_id: int) -> None:
        """The turn began; show it unless it is over soon."""
        self._turn_id = turn_id
        self._note = ""
        self._began = time.monotonic()
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._closed:  # over already
            return
        if (row_id := self.row_id) is not None:  # shown while it waited: the answer replaces that
            try:
                await self._store.write(lambda c: turns.set_progress(c, turn_id, row_id))
            except StateError as error:
                log.error("a restart would not find the live message of turn %s: %s", turn_id, error)
            self._refresh()
        elif self.enabled:
            self._timer = asyncio.get_running_loop().call_later(SHOW_AFTER_S, self._refresh)

    async def tell(self, why: str) -> None:
        """Say what the turn has to wait for, for long: in the live message, or else in one of its own."""
        self._text, self._tools = "", []
        self._held = True
        if self.enabled:
            self.waiting(why)
        elif why != self._told:  # each attempt with a key that is refused says the same
            await self._outbox.say(self._to, why)
            self._told = why

    def take(self, body: Body) -> None:
        """Something happened in the run."""
        match body:
            case TextDelta(delta=delta):
                self._note = ""  # whatever was waited for is here
                self._text = (self._text + delta)[-4 * _TAIL :]
            case Question() | Withdrawn():
                self._note = "❓ Waiting for an answer." if isinstance(body, Question) else ""
            case Tool(name=name, detail=detail):
                self._note = ""
                self._used += 1
                self._tools = [*self._tools[-_KEPT_TOOLS + 1 :], (shorten(f"{name} {detail}", 120), False)]
                self._text = ""
            case ToolDone(failed=True) if self._tools:
                self._tools[-1] = (self._tools[-1][0], True)
            case Note(text=text):
                self._note = shorten(text, 200)
            case _:
                return
        if self.row_id is not None:
            self._refresh()

    async def close(self) -> int | None:
        """Show nothing more; the row that the answer replaces, when there is one."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._opening is not None:
            await asyncio.wait([self._opening])
        return self.row_id

    async def retire(self, text: str) -> None:
        """No turn comes of this: leave `text` where something was shown."""
        row_id = await self.close()
        if row_id is None:
            return
        await insist(
            lambda: self._store.write(lambda c: self._outbox.add(c, self._to, text, replaces=row_id)),
            "the end of a live message",
        )
        self._outbox.wake(self._to.conversation)

    def summary(self, took_s: float, *, well: bool) -> str:
        """What is left of the message where the answer stands below it."""
        tools = f", {self._used} tool{'s' if self._used > 1 else ''}" if self._used else ""
        return f"{'✔' if well else '✖'} {seconds(took_s)}{tools}"

    def render(self) -> str:
        """The message as it is now."""
        working = self._turn_id is not None and not self._held
        lines = [f"⏳ Working, {seconds(time.monotonic() - self._began)}" if working else "⏳"]
        if self._note:
            lines.append(self._note)
        lines += [f"› {code(tool)}{' (failed)' if failed else ''}" for tool, failed in self._tools]
        if self._text.strip():
            lines += ["", "…" + self._text[-_TAIL:] if len(self._text) > _TAIL else self._text]
        return "\n".join(lines)

    def _refresh(self) -> None:
        if not self.enabled or self._closed:
            return
        if self.row_id is not None:
            self._outbox.show(self._to.conversation, self.row_id, self.render())
            if self._held and self._timer is not None:
                self._timer.cancel()
            elif self._turn_id is not None and not self._held:
                self._tick()
        elif self._opening is None:
            self._opening = asyncio.create_task(self._open())

    def _tick(self) -> None:
        """Keep its clock going while nothing happens, ever more slowly: each tick is an edit."""
        if self._timer is not None:
            self._timer.cancel()
        pause = min(max((time.monotonic() - self._began) / 2, _FIRST_TICK_S), _LAST_TICK_S)
        self._timer = asyncio.get_running_loop().call_later(pause, self._refresh)

    async def _open(self) -> None:
        """Commit the message itself; only then can it be edited, and replaced by the answer."""
        text, turn_id = self.render(), self._turn_id
        try:
            (row_id,) = await self._store.write(
                lambda c: self._outbox.add(
                    c,
                    self._to,
                    text,
                    reply_to=self._reply_to,
                    turn_id=turn_id,
                    kind="progress",
                )
            )
            self.row_id = row_id
            if self._turn_id is not None:
                turn = self._turn_id
                await self._store.write(lambda c: turns.set_progress(c, turn, row_id))
        except StateError as error:
            log.error("a live message: %s", error)
            self._opening = None
            if self.row_id is None:
                if not self._closed:
                    self._timer = asyncio.get_running_loop().call_later(_FIRST_TICK_S, self._refresh)
                return
        self._outbox.wake(self._to.conversation)
        self._refresh()
