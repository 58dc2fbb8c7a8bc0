"""The seam to a platform.

A transport turns platform events into `Message`, `Withdrawal` and `Move`, hands them to its `Receiver`, and sends,
edits and marks what it is told. It knows nothing of projects, commands or agents; nothing else knows its platform.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from gateway.chat.nouns import Attachment, Conversation, Fate, Incoming, MessageRef, OutgoingFile
from gateway.errors import DeliveryRefused


@dataclass(frozen=True, slots=True)
class Reply:
    """Text for a conversation, in Markdown. It already fits the transport's `max_text`.

    `live` text will be replaced soon: a transport that has a better place for such text may use it. `choices` are
    words that may be offered as buttons; the text names them too. `notifies`: it is news that people wait for, and
    should ring; `mentions`: accounts that it calls by name, where others read it, too.
    """

    text: str
    reply_to: str | None = None
    live: bool = False
    choices: tuple[str, ...] = ()
    notifies: bool = False
    mentions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a platform can do, so that nothing else has to ask which platform it is.

    Attributes:
        max_text: longest text of one message, in characters; longer replies are split before they reach `send`.
        edits: a sent message can be replaced; live progress needs it.
        edit_interval_s: seconds between two edits within one budget scope that the platform tolerates.
        idempotent: a second `send` with the same key is the same message, also after a restart.
        marks: fates, or some of them, can be shown (a reaction, typing).
        files: `send_file` and `fetch` work.
        scope: what a budget of the platform's covers: one room, or all that this account sends.
    """

    max_text: int
    edits: bool
    edit_interval_s: float
    idempotent: bool
    marks: bool
    files: bool = False
    scope: Literal["room", "account"] = "room"


class Outcome(StrEnum):
    """What a platform says of a message of ours after it took it."""

    ARRIVED = "arrived"
    LOST = "lost"  # and will not arrive
    AGAIN = "again"  # it did not arrive, and is to be sent again


#: kept: it is news, and recorded. known: it is not news, or not about a message of ours. early: the message is still
#: being sent; say it again soon.
Noted = Literal["kept", "known", "early"]


class Deliveries(Protocol):
    """For transports whose platform tells later what became of a message, or waits for people to write."""

    def wake(self, conversation: Conversation) -> None:
        """What is held for `conversation` may be sent now."""

    async def heard(self, conversation: Conversation) -> float:
        """When a person last wrote there, in seconds since the epoch; 0 if that is not known. Raises StateError."""

    async def newest(self) -> int:
        """The number of the newest message, which its key has after the first dash. Raises StateError."""

    async def said(self, transport: str, external_id: str) -> tuple[str, str] | None:
        """Who said a message, and what: the bot has an empty name. None for an unknown one. Raises StateError."""

    async def claimed(self, conversation: Conversation, since: float) -> Collection[str]:
        """The platform's ids of what is known to be sent there since then. Raises StateError."""

    async def report(self, transport: str, key: str, external_id: str, outcome: Outcome, why: str) -> Noted:
        """Record what became of the message that was sent with `key`, as `external_id`.

        Then `wake` its conversation: there may be something to send. Raises StateError.
        """


class Receiver(Protocol):
    """What a transport hands its events to."""

    async def accept(self, incoming: Sequence[Incoming], cursor: str | None = None) -> None:
        """Commit all of `incoming`, and `cursor` with them, in one transaction; return once they are durable.

        Call it before the platform is acknowledged. Events that were accepted before are recognised and skipped.

        Raises:
            StateError: nothing was committed; do not acknowledge, try again.
        """

    async def cursor(self, transport: str) -> str | None:
        """The cursor last committed for `transport`."""

    def typing(self, conversation: Conversation, senders: Collection[str]) -> None:
        """The people who are typing in a room now, on platforms that tell. Nothing is committed."""


class Transport(Protocol):
    """A chat platform."""

    @property
    def name(self) -> str:
        """The word that access lists, conversations and the configuration use."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def run(self, receiver: Receiver) -> None:
        """Receive until cancelled, recovering from outages by itself.

        Raises:
            TransportRefused: the account cannot be used; run again only after a pause.
        """

    @property
    def serving(self) -> bool:
        """True while the platform is connected and events flow."""

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        """Post `reply`. `key` is the same for each try of one message.

        Raises:
            TransportDown, DeliveryRefused, DeliveryHeld, OutcomeUnknown, TransportRefused.
        """

    async def edit(self, ref: MessageRef, reply: Reply, key: str) -> None:
        """Replace the text of our message `ref`. Raises as `send` does."""

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        """Post a file, with the text of `reply` as its caption. Raises as `send` does."""

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        """Write a file that came with a message to `into`.

        Raises as `send` does; DeliveryRefused above `most` bytes.
        """

    async def mark(self, ref: MessageRef, fate: Fate) -> None:
        """Show `fate` on a person's message. Best effort: failures are logged, never raised."""


@runtime_checkable
class Membership(Protocol):
    """For transports of rooms with several people: who reads a room now."""

    async def is_in(self, conversation: Conversation, sender: str) -> bool:
        """Whether a person is in the room now. Raises TransportError where that cannot be known."""


class WithoutFiles:
    """The part of a transport that cannot carry files."""

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        raise DeliveryRefused("files cannot be sent there")

    async def fetch(self, file: Attachment, into: Path, most: int) -> None:
        raise DeliveryRefused("files cannot be fetched from there")
