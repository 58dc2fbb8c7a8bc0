"""From a batch to a prompt, and from a run's end to an answer. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.asking import name_of
from gateway.chat import Fate
from gateway.chat.text import is_seen, shorten
from gateway.config import Person
from gateway.store.messages import COMPACT, StoredMessage
from gateway.store.turns import Turn
from sled.protocol import Attached, Finished

if TYPE_CHECKING:
    from gateway.turns.running import RunSettings

#: Characters of one answer that people get; more would bury the conversation.
MAX_ANSWER = 100_000
#: What chats are called; others by their own name.
_PLACES = {
    "agent": "a note from another project's agent",
    "cli": "a terminal",
    "console": "a terminal",
    "matrix": "a Matrix room",
    "slack": "Slack",
    "web": "the browser",
    "whatsapp": "WhatsApp",
}


def compose(batch: Sequence[StoredMessage], people: Mapping[str, Person]) -> str:
    """The prompt of a batch: its messages, joined by blank lines.

    Senders are named where the agent could not know who speaks: several wrote, or the room is shared.
    """
    if batch[0].text == COMPACT:
        return COMPACT
    named = len({message.sender for message in batch}) > 1 or any(not message.direct for message in batch)
    parts = []
    for message in batch:
        said = f"{name_of(message, people)}: {message.text}" if named else message.text
        parts += [part for part in (message.quoted, said) if part]
    return "\n\n".join(parts)


def go_on(prompt: str) -> str:
    """The prompt of a run that continues a turn that its provider stopped."""
    return (
        "The provider's usage limit interrupted you. Continue with this now, without repeating what you have already "
        f"done:\n\n{prompt}"
    )


#: The most commands that an agent is told about.
_MAX_COMMANDS = 10


def news_of(turn: Turn, worth_telling: Callable[[str], bool]) -> str:
    """What the gateway knows to have happened since the session's last turn; empty if that is nothing."""
    typed = [shorten(text, 100) for text in turn.commands if worth_telling(text)]
    if not typed:
        return ""
    more = f" and {len(typed) - _MAX_COMMANDS} before these" if len(typed) > _MAX_COMMANDS else ""
    return f"Since your last turn people used these commands of the chat: {'; '.join(typed[-_MAX_COMMANDS:])}{more}."


def attached_to(message: StoredMessage) -> list[Attached]:
    """The files that came with a message, as a run names them."""
    return [Attached(id=f"m{message.id}-{n}", name=file.name[:200]) for n, file in enumerate(message.files)]


#: How a project without root gets a package of the system's.
_SYSTEM_PACKAGES = (
    " There is no root here. To add a system package, propose a line for .huskies/Dockerfile.fragment, such as "
    "`RUN apt-get update && apt-get install -y PACKAGE`; it counts once an operator has allowed "
    "`huskies propose rebuild because …`."
)


_SHARED = " What all projects should know is in /shared; the lead writes it."


def standing_facts(settings: RunSettings, batch: Sequence[StoredMessage], people: Mapping[str, Person]) -> str:
    """What the agent should know about the conversation and its place, apart from the messages."""
    where = batch[0].conversation.transport
    place = _PLACES.get(where, f"a chat on {where}")
    writers: dict[str, str] = {}
    for message in batch:
        person = people.get(message.sender)
        pronouns = f" ({person.pronouns})" if person and person.pronouns else ""
        writers[message.sender] = f"{name_of(message, people)}{pronouns}"
    kind = "alone with you" if batch[0].direct else "in a group"
    return (
        f"You work in the project {settings.project}; people write to you in {place} and read your final answer there, "
        f"often on a phone. Now {', '.join(writers.values())} writes, {kind}. To send them a file, put a copy of it "
        "into .huskies/outbox; files that they send lie in .huskies/inbox. Your own notes, which outlast everything "
        "else here, belong into ~/notes."
        + (_SYSTEM_PACKAGES + _SHARED if settings.isolated else "")
        + (f" The project runs with {settings.release}; `huskies releases` has the others." if settings.release else "")
        + (f"\n\n{settings.lead}" if settings.lead else "")
    )


def fate_of(end: Finished) -> Fate:
    """What a run's end means for its messages."""
    return {"answered": Fate.ANSWERED, "failed": Fate.FAILED, "interrupted": Fate.INTERRUPTED}[end.ending]


def answer(end: Finished, stop_reason: str) -> str:
    """What people read when a run is over. `stop_reason` says who or what ended it, when somebody did."""
    text = end.text.strip()
    if len(text) > MAX_ANSWER:
        rest = len(text) - MAX_ANSWER
        text = f"{text[:MAX_ANSWER]}\n\n({rest:,} more characters are not shown. Ask for the part you need.)"
    if end.ending == "answered":
        told = text if is_seen(text) else "(The agent finished without saying anything.)"
    elif end.reason == "model_key":
        told = (
            "The model key was refused, or none is set. Whoever runs the gateway can set another one with "
            "`huskies secrets set all api_key` in a terminal; it works at once. Then type `retry`."
        )
    elif end.reason == "dialogue":
        told = _with(
            text,
            f"The run failed: {end.error or 'the API refuses this dialogue'}. It would each time: `compact` shortens "
            "the dialogue, `reset` begins a new one; then send it again.",
        )
    elif end.ending == "failed":
        told = _with(text, f"The run failed: {end.error or 'no reason was given'}. `retry` runs it again.")
    elif stop_reason:
        told = _with(text, f"⏹ {stop_reason}")
    else:
        told = _with(text, "The run was interrupted: its process ended. `retry` runs it again.")
    for note in end.notes:
        told += f"\n\n_{note}_"
    if end.survivors:
        pids = ", ".join(map(str, end.survivors))
        told += f"\n\nThese processes could not be ended: {pids}. `restart` ends the whole project."
    return told


def _with(text: str, last: str) -> str:
    return f"{text}\n\n{last}" if text else last
