"""What people are called, in prompts and on cards."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config import Person
from gateway.store.messages import StoredMessage


def name_of(message: StoredMessage, people: Mapping[str, Person]) -> str:
    """What to call a message's sender."""
    person = people.get(message.sender)
    name = person.name if person else message.sender_name or message.sender.partition(":")[2]
    # One line, no colon: the agent must not mistake a name for the beginning of a message.
    return " ".join(name.replace(":", " ").split()) or "somebody"
