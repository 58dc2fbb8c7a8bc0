"""The nouns of chat: what people write, where, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Fate(StrEnum):
    """Where a message stands. The last five are final."""

    RECEIVED = "received"  # committed, not yet routed
    QUEUED = "queued"  # in a coalesce window, or waiting for a run to end
    RUNNING = "running"  # part of a turn, or a command at work
    ANSWERED = "answered"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its run was cut off; `retry` runs it again
    DISCARDED = "discarded"  # dropped by `stop`, or withdrawn by its sender
    REFUSED = "refused"  # queue full, no such project, a file we cannot take

    @property
    def final(self) -> bool:
        """True when nothing more will happen to the message by itself."""
        return self not in (Fate.RECEIVED, Fate.QUEUED, Fate.RUNNING)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A room, narrowed to a thread where there is one."""

    transport: str
    room: str
    thread: str = ""

    def __str__(self) -> str:
        return f"{self.transport}:{self.room}" + (f"/{self.thread}" if self.thread else "")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message. `ref` is how its transport finds it again; `size` in bytes, 0 if unknown."""

    name: str
    mime: str
    size: int
    ref: str


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file for people; it lies on this host, at `path`."""

    path: Path
    name: str
    mime: str
    size: int


@dataclass(frozen=True, slots=True)
class Message:
    """One inbound chat event, as its platform described it.

    Attributes:
        external_id: the platform's id of the event; with the transport's name it is unique for ever.
        sender: `<transport>:<account>`, e.g. `matrix:@ana:example.org`; what access lists name.
        sender_name: how the platform shows the sender; only for display.
        direct: a chat of one person with the bot: every message counts.
        addressed: the bot was mentioned, or this replies to it. Meaningless when `direct`.
        edits: the external id of the earlier message that this one replaces.
        problem: why the text cannot be had (a lost key); shown to the sender instead of running it.
        files: what came with it; fetched when a turn takes the message.
        presses: the external id of our message whose button, or reaction, this is; `text` is the choice.
        quoted: what it answers, as `text.pointed_at` has it: for the agent, and never read as a command.
        word: the person at whose word it is written, as a `sender`; empty: the sender's own.
    """

    conversation: Conversation
    external_id: str
    sender: str
    text: str
    sender_name: str = ""
    direct: bool = True
    addressed: bool = False
    edits: str | None = None
    problem: str = ""
    files: tuple[Attachment, ...] = ()
    presses: str = ""
    quoted: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A person took a message back (a redaction, a deletion)."""

    conversation: Conversation
    external_id: str
    sender: str


@dataclass(frozen=True, slots=True)
class Move:
    """A room continues as another one (an upgrade): what was agreed in it holds there."""

    conversation: Conversation
    to: Conversation


Incoming = Message | Withdrawal | Move


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message that is on its platform: ours after a send, or a person's."""

    conversation: Conversation
    external_id: str
