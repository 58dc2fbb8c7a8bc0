"""The inbox: what came in is committed here, once, before its platform hears that we have it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeGuard

from gateway import clock, kill_points
from gateway.asking import cards
from gateway.chat import Conversation, Fate, Incoming, Message, Move, Withdrawal
from gateway.config import Access, Role
from gateway.store import Connection, Store, conversations, messages, moves, questions
from gateway.store.conversations import StoredConversation
from gateway.store.messages import StoredMessage

#: Characters of one message; longer ones are answered with this limit.
MAX_MESSAGE = 100_000


class _Committed(NamedTuple):
    """What is new, what was taken back while it waited, and the rooms that moved."""

    accepted: list[StoredMessage]
    withdrawn: list[StoredMessage]
    moved: list[Move]


log = logging.getLogger(__name__)

_NUL = "Your message has a NUL character in it, which is no text. Send it without, or put it into a project file."
#: Seconds between two lines of the log about one stranger, and strangers that are remembered.
_DAY_S, _MOST_STRANGERS = 24 * 3600.0, 1000


class Inbox:
    """Where all transports hand in their events.

    `on_accepted` gets each new message after its commit, in order; `on_withdrawn` each message that its sender took
    back while it waited; `on_moved` each room that became another one. All must return at once. `words` says what the
    agent gets for a prompt with that text; None: its command decides.
    """

    def __init__(
        self,
        store: Store,
        access: Access,
        *,
        on_accepted: Callable[[StoredMessage], None],
        on_withdrawn: Callable[[StoredMessage], None] = lambda _: None,
        on_moved: Callable[[Conversation, Conversation], None] = lambda _old, _new: None,
        words: Callable[[str], str | None] = lambda text: text,
        on_typing: Callable[[Conversation, Collection[str]], None] = lambda _room, _senders: None,
    ) -> None:
        self._store = store
        self._access = access
        #: Who was turned away, and when that was last said.
        self._strangers: dict[str, float] = {}
        self._on_accepted = on_accepted
        self._on_withdrawn = on_withdrawn
        self._on_moved = on_moved
        self._words = words
        #: Hears who is typing in a room.
        self.typing = on_typing
        self.accepted = 0
        self.duplicates = 0

    def of(self, transport: str) -> TransportInbox:
        """The inbox as one transport sees it."""
        return TransportInbox(self, self._store, transport)

    async def accept(
        self, transport: str, incoming: Sequence[Incoming], cursor: str | None, *, project_id: int | None = None
    ) -> list[int]:
        """Commit, then hand on; the ids of the new messages. `project_id`: what their conversation is about, certainly.

        What strangers write, and chatter that is not for us, is not even stored.
        """
        known = [item for item in incoming if self._is_known(item)]
        if not known and cursor is None:
            return []
        handed_on: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        edited = {item.external_id: self._words(_encodable(item.text)) for item in known if _is_edit(item)}
        committed = self._store.write(
            lambda c: self._commit(c, transport, known, cursor, edited, project_id=project_id)
        )
        # Not after an await of the caller: one that is cancelled must not leave what is committed but handed to nobody.
        # And nothing comes between the commit and the hand-over: the router relies on their order.
        committed.add_done_callback(partial(self._hand_on, handed_on))
        return await handed_on

    def _is_known(self, item: Incoming) -> bool:
        if isinstance(item, Move) or self._access.role(item.sender) is not Role.NOBODY:
            return True
        if isinstance(item, Message) and (item.direct or item.addressed):
            self._turned_away(item.sender)
        return False

    def _turned_away(self, sender: str) -> None:
        """Name a stranger in the log, once a day, so that an operator can tell who a list has wrong."""
        if clock.since(self._strangers.get(sender, 0.0)) < _DAY_S:
            return
        if len(self._strangers) >= _MOST_STRANGERS:
            self._strangers.clear()
        self._strangers[sender] = clock.now()
        log.info("%s wrote to the bot and is on no list; to let them: [access] members = [%r]", sender, sender)

    def _hand_on(self, handed_on: asyncio.Future[list[int]], committed: asyncio.Future[_Committed]) -> None:
        try:
            ids = self._hand_on_all(committed.result())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            if not handed_on.done():
                handed_on.set_exception(error)
            return
        if not handed_on.done():
            handed_on.set_result(ids)

    def _hand_on_all(self, committed: _Committed) -> list[int]:
        accepted, withdrawn, moved = committed
        kill_points.reach("inbox.committed")
        for move in moved:
            self._on_moved(move.conversation, move.to)
        self.accepted += len(accepted)
        for message in withdrawn:
            self._on_withdrawn(message)
        gone = {message.id for message in withdrawn}
        for message in accepted:
            if message.id not in gone:
                self._on_accepted(message)
        return [message.id for message in accepted]

    async def recover(self) -> None:
        """Hand out again what was committed but not yet routed when the gateway ended."""
        for message in await self._store.read(lambda c: messages.with_fate(c, Fate.RECEIVED)):
            self._on_accepted(message)

    def _commit(
        self,
        connection: Connection,
        transport: str,
        incoming: Sequence[Incoming],
        cursor: str | None,
        edited: Mapping[str, str | None],
        *,
        project_id: int | None,
    ) -> _Committed:
        accepted: list[StoredMessage] = []
        withdrawn: list[StoredMessage] = []
        moved: list[Move] = []
        for event in incoming:
            item = _storable(event) if isinstance(event, Message) else event
            if isinstance(item, Move):
                moved += [item] if moves.move(connection, item.conversation, item.to) else []
            elif isinstance(item, Withdrawal):
                # An operator may take back anybody's message, as moderators do.
                by = None if self._access.role(item.sender) is Role.OPERATOR else item.sender
                taken_back = messages.withdraw(connection, transport, item.external_id, by)
                withdrawn += [taken_back] if taken_back else []
            elif item.edits is not None:
                if not item.problem:
                    messages.replace_text(connection, item, edited[item.external_id])
            else:
                new = self._add(connection, item, project_id)
                accepted += [new] if new else []
        if cursor is not None:
            conversations.set_cursor(connection, transport, cursor)
        return _Committed(accepted, withdrawn, moved)

    @staticmethod
    def _is_ambient(connection: Connection, message: Message) -> bool:
        room = conversations.find(connection, replace(message.conversation, thread=""))
        return room is not None and room.ambient

    def _add(self, connection: Connection, message: Message, project_id: int | None) -> StoredMessage | None:
        here = conversations.find(connection, message.conversation)
        if project_id is not None and (here is None or here.project_id != project_id):
            here = conversations.ensure(connection, message.conversation, direct=message.direct)
            conversations.switch(connection, here.id, project_id)
            here = replace(here, project_id=project_id)
        meant = _meant_for_us(message, here) or self._is_ambient(connection, message)
        if not meant and not _answers(connection, message, here):
            return None
        if here is None or here.direct != message.direct:
            here = conversations.ensure(connection, message.conversation, direct=message.direct)
        stored = messages.add(connection, message, here.id, here.project_id, direct=message.direct)
        if stored is None:
            self.duplicates += 1
        return stored


class TransportInbox:
    """Implements `gateway.chat.Receiver`."""

    def __init__(self, inbox: Inbox, store: Store, transport: str) -> None:
        self._inbox = inbox
        self._store = store
        self._transport = transport

    async def accept(self, incoming: Sequence[Incoming], cursor: str | None = None) -> None:
        await self._inbox.accept(self._transport, incoming, cursor)

    def typing(self, conversation: Conversation, senders: Collection[str]) -> None:
        self._inbox.typing(conversation, senders)

    async def cursor(self, transport: str) -> str | None:
        return await self._store.read(lambda c: conversations.cursor(c, transport))


def _is_edit(item: Incoming) -> TypeGuard[Message]:
    return isinstance(item, Message) and item.edits is not None


def _storable(message: Message) -> Message:
    """The message as the database can hold it, and as an agent should read it."""
    text, name = _encodable(message.text), _encodable(message.sender_name)
    if "\0" in message.text:
        message = replace(message, problem=message.problem or _NUL)
    files = tuple(replace(file, name=_encodable(file.name), mime=_encodable(file.mime)) for file in message.files)
    if len(text) <= MAX_MESSAGE:
        same = (text, name, files) == (message.text, message.sender_name, message.files)
        return message if same else replace(message, text=text, sender_name=name, files=files)
    told = f"Your message has {len(text):,} characters; the limit is {MAX_MESSAGE:,}. Put it into a project file."
    return replace(message, text=text[:1000], sender_name=name, files=files, problem=told)


def _encodable(text: str) -> str:
    """The text without what cannot be stored: halves of surrogate pairs, and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _answers(connection: Connection, message: Message, here: StoredConversation | None) -> bool:
    """Even in a group, whoever is asked something may give one of the answers without mentioning the bot."""
    if here is None:
        return False
    return any(
        cards.could_answer(body, message.text) for body in questions.asked_of(connection, here.id, message.sender)
    )


def _meant_for_us(message: Message, here: StoredConversation | None) -> bool:
    """In a group the bot must be mentioned, except in an ambient room or a thread that it takes part in."""
    if message.direct or message.addressed:
        return True
    return here is not None and bool(message.conversation.thread)
