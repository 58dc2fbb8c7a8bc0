"""The lanes of messages without a key, without a homeserver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gateway.chat import Conversation, Incoming, Message, Move
from transports.matrix.events import Place
from transports.matrix.held import Held, Sealed

HERE = Place("!r", direct=False, sender_name="")


def said(event_id: str) -> Message:
    """A message that can be read."""
    return Message(Conversation("matrix", "!r"), event_id, "matrix:@ana:hs.test", event_id)


def sealed(event_id: str, until: float = 10) -> Any:
    """A message that cannot."""
    return Sealed(SimpleNamespace(event_id=event_id), HERE, until)


def opener(*readable: str) -> Any:
    """Opens these events and no others."""

    def opened(item: Sealed) -> list[Incoming] | None:
        return [said(item.event.event_id)] if item.event.event_id in readable else None

    return opened


def ids(held: Held, *readable: str) -> list[str]:
    """What is released once these events can be read."""
    released = held.release(opener(*readable))
    return [item.external_id for item in released if not isinstance(item, Move)]


def test_a_lane_keeps_its_order_and_holds_up_nobody_else() -> None:
    held = Held()
    held.add("!r", "ana", sealed("$1"), "s1")
    held.add("!r", "ana", said("$2"), "s1")
    held.add("!r", "ana", sealed("$3"), "s2")
    held.add("!r", "ana", said("$4"), "s3")
    assert held.blocks("!r", "ana")
    assert not held.blocks("!r", "bob")
    assert not held.blocks("!s", "ana")
    assert ids(held) == []
    assert ids(held, "$3") == []
    assert ids(held, "$1") == ["$1", "$2"]
    assert ids(held, "$3") == ["$3", "$4"]
    assert not held.blocks("!r", "ana")


def test_the_cursor_stays_before_the_oldest_that_is_held() -> None:
    held = Held()
    assert held.cursor("s9") == "s9"
    held.add("!r", "ana", sealed("$1", until=30), "s1")
    held.add("!r", "bob", sealed("$2", until=20), "s2")
    assert held.cursor("s9") == "s1"
    assert held.next_deadline() == 20
    assert ids(held, "$1") == ["$1"]
    assert held.cursor("s9") == "s2"
    held.drop("$2")
    assert held.cursor("s9") == "s9"
    assert held.next_deadline() is None


def test_taking_a_message_back_lets_the_next_ones_go() -> None:
    held = Held()
    held.add("!r", "ana", sealed("$1"), "s1")
    held.add("!r", "ana", said("$2"), "s1")
    held.drop("$1")
    assert ids(held) == ["$2"]
