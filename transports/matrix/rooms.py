"""Who is in which room, event by event: whether a chat is direct depends on when a message was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transports.matrix.events import Place, mapping


class Members:
    """Joined and invited people of each room, with the names they go by there."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, str]] = {}

    def apply(self, room_id: str, event: Mapping[str, Any]) -> None:
        """Follow one event of a room; events other than membership change nothing."""
        if event.get("type") != "m.room.member" or not isinstance(event.get("state_key"), str):
            return
        content = mapping(event.get("content"))
        room = self._rooms.setdefault(room_id, {})
        if content.get("membership") in ("join", "invite"):
            name = content.get("displayname")
            room[event["state_key"]] = name if isinstance(name, str) else ""
        else:
            room.pop(event["state_key"], None)

    def forget(self, room_id: str) -> None:
        """The bot is out of the room."""
        self._rooms.pop(room_id, None)

    def name(self, room_id: str, user_id: str) -> str:
        """The name that somebody goes by in a room, or nothing."""
        return self._rooms.get(room_id, {}).get(user_id, "")

    def place(self, room_id: str, sender: str) -> Place:
        """The room as it is now, for a message of `sender`."""
        room = self._rooms.get(room_id, {})
        return Place(room_id, direct=len(room) <= 2, sender_name=room.get(sender, "") or sender)


def arrival(events: Sequence[Any], me: str) -> tuple[int | None, int | None]:
    """Where the bot was last invited and where it last joined, as indexes of `events`.

    What was said in a room before that is not meant for the bot.
    """
    invited: int | None = None
    joined: int | None = None
    for index, event in enumerate(events):
        source = event.source
        if source.get("type") != "m.room.member" or source.get("state_key") != me:
            continue
        membership = mapping(source.get("content")).get("membership")
        before = mapping(mapping(source.get("unsigned")).get("prev_content")).get("membership")
        if membership == "invite":
            invited = index
        elif membership == "join" and before != "join":
            joined = index
    return invited, joined
