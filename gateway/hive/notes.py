"""What agents tell and ask each other.

A note is a message to another project's agent, in a session of its own for each sender and topic, so that it never gets
between a person and their agent; it starts a turn like any message. It goes only where an operator granted `tell` or
`ask`, at the word of the person with whom its chain began; what is asked in its turn is asked in that person's room.
Chains end after some hops, an edge has so many notes and so much money in an hour, and two agents that go on and on are
stopped by a card.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateway import clock
from gateway.asking import Questions, cards
from gateway.chat import Attachment, Conversation, Fate, Message
from gateway.chat.text import quote, seconds
from gateway.config import AGENT
from gateway.delivery import Fates, Outbox
from gateway.errors import StateError, UserError
from gateway.hive.calls import TRANSPORT
from gateway.projects import Registry
from gateway.store import Connection, Store, conversations, messages, notes, outbox
from gateway.store.messages import StoredMessage
from gateway.store.notes import Note
from gateway.store.turns import Turn
from gateway.tasks import Tasks

log = logging.getLogger(__name__)

#: Notes in one chain; notes and USD of one edge in an hour; notes of two projects about a topic until people are asked.
MAX_HOPS, PER_HOUR, USD_PER_HOUR, LOOP = 4, 30, 5.0, 12
#: Characters of a note; bytes of one that is told in the prompt, and characters that are told of a longer one.
MAX_TEXT, MAX_TOLD, _BEGINNING = 50_000, 4096, 500
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose note it is: the call, the project, the turn that makes it, the person behind, and that person's room."""

    call: str
    project_id: int
    turn: Turn
    word: str
    room_id: int


class Notes:
    """See the module. `hand_on` takes each message once it is committed."""

    def __init__(
        self,
        store: Store,
        outbox_: Outbox,
        questions: Questions,
        *,
        registry: Registry,
        fates: Fates,
        hand_on: Callable[[StoredMessage], None],
    ) -> None:
        self._store = store
        self._outbox = outbox_
        self._questions = questions
        self._registry = registry
        self._fates = fates
        self._hand_on = hand_on
        #: Until when two projects may not go on about a topic: people said no.
        self._stopped: dict[tuple[int, int, str], float] = {}
        self._tasks = Tasks("a late answer stays where it is")

    async def recover(self) -> None:
        """Take up answers that are late; call it before messages are handed on."""
        for note in await self._store.read(notes.under_way):
            if note.late:
                self._follow(note)

    async def close(self) -> None:
        """Forget everything in memory."""
        await self._tasks.close()

    async def tell(self, sender: Sender, to_id: int, topic: str, text: str) -> Note:
        """Send a note. Raises UserError."""
        return await self._send(sender, to_id, topic, text, within_s=0.0)

    async def ask(self, sender: Sender, to_id: int, topic: str, text: str, within_s: float) -> str:
        """Send a note, and wait for its answer; it, or that it will come later. Raises UserError."""
        note = await self._send(sender, to_id, topic, text, within_s=within_s)
        settled = self._fates.settled(note.message_id)
        if (answer := await self._store.read(lambda c: _answer(c, note))) is not None:
            return answer
        try:
            await asyncio.wait_for(asyncio.shield(settled), max(0.0, note.deadline - clock.now()))
        except TimeoutError:
            await self._store.write(lambda c: notes.set_late(c, note.id))
            self._follow(note)
            name = self._name(to_id)
            return f"{name} has not answered within {seconds(within_s)}. Its answer will come as a note."
        answer = await self._store.read(lambda c: _answer(c, note))
        return answer or f"{self._name(to_id)} has nothing to say."

    async def under_way(self) -> list[Note]:
        """Those without an answer yet, oldest first."""
        found = await self._store.read(notes.under_way)
        return [note for note in found if self._name(note.from_id) and self._name(note.to_id)]

    # --- on its way --------------------------------------------------------------------------------------------------

    async def _send(self, sender: Sender, to_id: int, topic: str, text: str, *, within_s: float) -> Note:
        if to_id == sender.project_id:
            raise UserError("That is your own project.")
        if len(text) > MAX_TEXT:
            raise UserError(f"A note has at most {MAX_TEXT:,} characters. Put the rest into a file that both can read.")
        if (before := await self._store.read(lambda c: notes.by_call(c, sender.call))) is not None:
            return before  # the gateway ended before the call was answered
        await self._let_go_on(sender, to_id, topic)
        message, note, room = await self._store.write(
            lambda c: self._store_note(c, sender, to_id, topic, text, within_s=within_s)
        )
        if room is not None:
            self._outbox.wake(room)
        self._hand_on(message)
        return note

    def _store_note(
        self, connection: Connection, sender: Sender, to_id: int, topic: str, text: str, *, within_s: float
    ) -> tuple[StoredMessage, Note, Conversation | None]:
        """Within a unit; and the room that is told. Raises UserError."""
        hops = notes.hops_of_turn(connection, sender.turn.id) + 1
        if hops > MAX_HOPS:
            raise UserError(
                f"This chain has {MAX_HOPS} notes already, and ends here. Tell whoever you work for instead."
            )
        count, usd = notes.sent(connection, sender.project_id, to_id, clock.now() - _HOUR_S)
        if count >= PER_HOUR or usd >= USD_PER_HOUR:
            spent = f"{count} notes, {usd:.2f} USD"
            raise UserError(f"You have told {self._name(to_id)} enough for this hour ({spent}). Try again later.")
        from_name, to_name = self._name(sender.project_id), self._name(to_id)
        about = f" about {topic}" if topic else ""
        then = "Your answer goes back." if within_s else f"Nobody waits for an answer; `tell {from_name} …` sends one."
        message = Message(
            conversation=Conversation(TRANSPORT, to_name, f"{from_name}/{topic}"),
            external_id=f"note/{sender.call}",
            sender=f"{AGENT}{from_name}",
            sender_name=f"{from_name}'s agent",
            text=_told(text),
            files=_attached(text),
            quoted=f"[Note from {from_name}'s agent{about}, at the word of {sender.word}. {then}]",
            word=sender.word,
        )
        stored = _put(connection, message, to_id, sender.room_id)
        note = notes.add(
            connection,
            call=sender.call,
            from_id=sender.project_id,
            to_id=to_id,
            topic=topic,
            hops=hops,
            asks=within_s > 0,
            deadline=clock.now() + within_s,
            message_id=stored.id,
        )
        room = conversations.last_of_project(connection, to_id, TRANSPORT)
        if room is not None:
            verb = "asks" if within_s else "tells"
            line = f"🐾 {from_name}'s agent {verb} {to_name}'s: {quote(text, 200)}"
            self._outbox.add(connection, room.destination, line)
        return stored, note, None if room is None else room.conversation

    async def _let_go_on(self, sender: Sender, to_id: int, topic: str) -> None:
        """Two that have told each other much are stopped until people say go on. Raises UserError."""
        pair = min(sender.project_id, to_id), max(sender.project_id, to_id), topic
        since = clock.now() - _HOUR_S
        count = await self._store.read(lambda c: notes.exchanged(c, sender.project_id, to_id, topic, since))
        if self._stopped.get(pair, 0.0) > clock.now():
            raise UserError("People stopped this exchange. Tell whoever you work for what you would have said.")
        if count == 0 or count % LOOP:
            return
        names = " and ".join(sorted((self._name(sender.project_id), self._name(to_id))))
        about = f" about {topic}" if topic else ""
        told = {"told": f"{names} have exchanged {count} notes{about} within an hour. Shall they go on?"}
        allowed = await self._questions.permission(
            sender.turn,
            tool=cards.NOTES,
            arguments=json.dumps(told, ensure_ascii=False),
            rule="",
            name=f"{sender.call}/loop",
            operators_only=True,
        )
        if not allowed.allowed:
            self._stopped[pair] = clock.now() + _HOUR_S
            raise UserError(allowed.told)

    # --- answers that are late ---------------------------------------------------------------------------------------

    def _follow(self, note: Note) -> None:
        """Send the answer back as a note, once there is one."""
        settled = self._fates.settled(note.message_id)
        settled.add_done_callback(lambda _: self._tasks.start(self._send_late(note)))
        self._tasks.start(self._send_late(note))  # it may have been settled before

    async def _send_late(self, note: Note) -> None:
        def unit(connection: Connection) -> StoredMessage | None:
            answer, asked = _answer(connection, note), messages.by_id_if_any(connection, note.message_id)
            if answer is None or asked is None or not notes.settle_late(connection, note.id):
                return None
            from_name, to_name = self._name(note.from_id), self._name(note.to_id)
            message = Message(
                conversation=Conversation(TRANSPORT, from_name, f"{to_name}/{note.topic}"),
                external_id=f"note/{note.call}/answer",
                sender=f"{AGENT}{to_name}",
                sender_name=f"{to_name}'s agent",
                text=_told(answer),
                files=_attached(answer),
                quoted=f"[The late answer of {to_name}'s agent to what you asked: {quote(asked.text, 300)}]",
                word=asked.word,
            )
            return _put(connection, message, note.from_id, asked.room_id)

        try:
            message = await self._store.write(unit)
        except StateError as error:
            log.error("the late answer to note %s: %s", note.id, error)
            return
        if message is not None:
            self._hand_on(message)

    def _name(self, project_id: int) -> str:
        return self._registry.name_of(str(project_id), "")


def _put(connection: Connection, message: Message, project_id: int, room_id: int | None) -> StoredMessage:
    """Within a unit: a message to a project's agent, in a session of its own."""
    here = conversations.ensure(connection, message.conversation, direct=True)
    stored = messages.add(connection, message, here.id, project_id, direct=True, room_id=room_id)
    assert stored is not None, "a call sends one note"
    return stored


def _told(text: str) -> str:
    """What a prompt says of a note."""
    if len(text.encode()) <= MAX_TOLD:
        return text
    return f"{text[:_BEGINNING].rstrip()} …\n\n(That is its beginning; the whole note is in the file.)"


def _attached(text: str) -> tuple[Attachment, ...]:
    """A note that is too long for a prompt comes as a file, as a person's would; its transport finds it in `ref`."""
    size = len(text.encode())
    return () if size <= MAX_TOLD else (Attachment("note.md", "text/markdown", size, text),)


def is_note(message: StoredMessage) -> bool:
    """Whether an agent wrote it to another one."""
    return message.conversation.transport == TRANSPORT and bool(message.conversation.thread)


def _answer(connection: Connection, note: Note) -> str | None:
    """What the turn of a note said; None while it is not over."""
    message = messages.by_id_if_any(connection, note.message_id)
    if message is None:
        return "(It was not answered.)"
    if not message.fate.final:
        return None
    told = "\n".join(outbox.texts_for(connection, message.id, message.turn_id))
    return told if message.fate is Fate.ANSWERED else f"It was not answered ({message.fate}): {told}"
