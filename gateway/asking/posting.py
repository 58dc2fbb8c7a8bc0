"""Putting questions into conversations: the card, the file that it may need, and its outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.asking import cards
from gateway.chat import Conversation, OutgoingFile
from gateway.delivery import Outbox
from gateway.store import Connection, conversations
from gateway.store import questions as rows
from gateway.store.outbox import encode_choices
from gateway.store.questions import Asked
from sled.protocol import Question

log = logging.getLogger(__name__)

#: Characters of a card; a longer one could not be read, so nobody is asked.
MAX_CARD = 12_000
#: Characters of JSON that may become a card of that length: a diff has common lines once, and escapes are undone.
_MAX_ARGUMENTS = 4 * MAX_CARD
#: Characters of a card besides its arguments: the words to reply with, and what a session would allow.
_AROUND = 1500


@dataclass(frozen=True, slots=True)
class Posting:
    """See the module. `keep` makes a file of arguments that are too long for a card."""

    outbox: Outbox
    keep: Callable[[str, bytes], OutgoingFile]

    def may_need_file(self, question: Question, conversation: Conversation) -> bool:
        """Whether its arguments may be too long for a card, where files can be sent. Quick."""
        large = len(question.arguments) > MAX_CARD - _AROUND or question.tool == "Edit"
        return large and self.outbox.can_send_files(conversation)

    async def attachment(self, question: Question) -> OutgoingFile | None:
        """The file of arguments that are too long for a card; None if none is needed, or none can be made."""
        return await asyncio.to_thread(self._make_attachment, question)

    def _make_attachment(self, question: Question) -> OutgoingFile | None:
        if not is_long(question):
            return None
        try:
            name = f"{question.tool[:40] or 'arguments'}.txt"
            return self.keep(name, cards.attachment(question).encode(errors="replace"))
        except OSError as error:  # a full disk: what nobody can read is denied, and the agent is told
            log.error("the arguments of a question cannot be kept: %s", error)
            return None

    def post(
        self, connection: Connection, asked: Asked, who: str, reply_to: str, attached: OutgoingFile | None = None
    ) -> bool:
        """Put the card into the conversation, below the file that it needs; False if it is too long to be read."""
        if attached is None and not _readable(asked):
            return False
        text = cards.card(asked, who=who, several_open=asked.number > 1, attached=attached is not None)
        if len(text) > MAX_CARD:
            return False
        if attached is not None:
            self.outbox.add_file(connection, asked.destination, attached, "", turn_id=asked.turn_id)
        ids = self.outbox.add(
            connection,
            asked.destination,
            text,
            reply_to=reply_to,
            turn_id=asked.turn_id,
            kind="question",
            choices=encode_choices(cards.choices(asked)),
            notifies=True,
        )
        rows.set_card(connection, asked.id, ids[-1])
        return True

    def remind(self, connection: Connection, asked: Asked, left_s: float) -> None:
        """Say once more that something is asked, to whoever may answer it by name where others read it."""
        here = conversations.by_id(connection, asked.conversation_id)
        mentions = () if here.direct or not asked.requester else (asked.requester.partition(":")[2],)
        text = cards.reminder(asked, left_s)
        self.outbox.add(connection, asked.destination, text, kind="question", notifies=True, mentions=mentions)

    def show(self, connection: Connection, asked: Asked, text: str) -> None:
        """The card turns into its outcome; where nothing can be edited, that is a message of its own."""
        replaces = asked.card_id if self.outbox.can_edit(asked.conversation) else None
        self.outbox.add(connection, asked.destination, text, kind="question", replaces=replaces)


def is_long(question: Question) -> bool:
    """Whether a tool's arguments are too long for a card."""
    if question.kind != "permission":
        return False
    return len(question.arguments) > _MAX_ARGUMENTS or len(cards.arguments(question)) > MAX_CARD - _AROUND


def _readable(asked: Asked) -> bool:
    """Whether people can be shown all of a question: each of its cards."""
    if asked.body.kind == "permission":
        # Before its card is made: that is slow, and a card is at most this much shorter than its JSON.
        return len(asked.body.arguments) <= _MAX_ARGUMENTS
    later = (replace(asked, answers=((),) * number) for number in range(1, len(asked.body.queries)))
    return bool(asked.body.queries) and all(len(cards.card(a, who="", several_open=True)) < MAX_CARD for a in later)
