"""From a batch to a prompt, and from a run's end to an answer. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.chat import Fate
from gateway.settings import Person
from gateway.store.messages import StoredMessage
from sled.protocol import Finished

#: Characters of one answer that people get; more would bury the conversation.
MAX_ANSWER = 100_000


def compose(batch: Sequence[StoredMessage], people: Mapping[str, Person]) -> str:
    """The prompt of a batch: its messages, joined by blank lines.

    Senders are named where the agent could not know who speaks: several wrote, or the room is shared.
    """
    named = len({message.sender for message in batch}) > 1 or any(not message.direct for message in batch)
    return "\n\n".join(f"{name_of(message, people)}: {message.text}" if named else message.text for message in batch)


def name_of(message: StoredMessage, people: Mapping[str, Person]) -> str:
    """What to call a message's sender."""
    person = people.get(message.sender)
    name = person.name if person else message.sender_name or message.sender.partition(":")[2]
    # One line, no colon: the agent must not mistake a name for the beginning of a message.
    return " ".join(name.replace(":", " ").split()) or "somebody"


def standing_facts(project: str, batch: Sequence[StoredMessage], people: Mapping[str, Person]) -> str:
    """What the agent should know of the conversation, apart from the messages."""
    facts = [f"You work in the project {project}; people write to you in a chat and see your final answer there."]
    for sender in dict.fromkeys(message.sender for message in batch):
        person = people.get(sender)
        if person and person.pronouns:
            facts.append(f"{person.name}'s pronouns are {person.pronouns}.")
    return " ".join(facts)


def fate_of(end: Finished) -> Fate:
    """What a run's end means for its messages."""
    return {"answered": Fate.ANSWERED, "failed": Fate.FAILED, "interrupted": Fate.INTERRUPTED}[end.ending]


def answer(end: Finished, stop_reason: str) -> str:
    """What people read when a run is over. `stop_reason` says who or what ended it, when somebody did."""
    text = end.text.strip()
    if len(text) > MAX_ANSWER:
        rest = len(text) - MAX_ANSWER
        text = f"{text[:MAX_ANSWER]}\n\n({rest:,} more characters are not shown. Ask for the part that you need.)"
    if end.ending == "answered":
        told = text or "(The agent ended without a word.)"
    elif end.reason == "model_key":
        told = (
            "The model key was refused, or none is set. An operator can set another one: agent.api_key in the "
            "configuration, or HUSKIES_AGENT__API_KEY in the gateway's environment; start the gateway again. "
            "Then `retry`."
        )
    elif end.ending == "failed":
        told = _with(text, f"The run failed: {end.error or 'no reason was given'}. `retry` runs it again.")
    elif stop_reason:
        told = _with(text, f"⏹ {stop_reason}")
    else:
        told = _with(text, "The run was interrupted: its process ended. `retry` runs it again.")
    if end.survivors:
        pids = ", ".join(map(str, end.survivors))
        told += f"\n\nThese processes could not be ended: {pids}. `restart` ends the whole project."
    return told


def _with(text: str, last: str) -> str:
    return f"{text}\n\n{last}" if text else last
