"""One room with the bot, as a person sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.matrix_user import MatrixUser


def shown(holds: Callable[[str], bool]) -> Callable[[dict[str, Any]], bool]:
    """A message, or an edit of one, whose text is as asked."""

    def check(event: dict[str, Any]) -> bool:
        content = event["content"]
        body = content.get("m.new_content", content).get("body", "")
        return event["type"] == "m.room.message" and holds(body)

    return check


def contains(text: str) -> Callable[[dict[str, Any]], bool]:
    return shown(lambda body: text in body)


def is_final(text: str) -> Callable[[dict[str, Any]], bool]:
    """An answer, not the live message that quotes its beginning."""
    return shown(lambda body: body == text)


class Room:
    """The person's view of one room with the bot."""

    def __init__(self, user: MatrixUser, room: str, bot: str) -> None:
        self.user, self.room, self.bot = user, room, bot

    async def say(self, text: str) -> str:
        """Write something; its event id."""
        return await self.user.say(self.room, text)

    async def sees(self, predicate: Callable[[dict[str, Any]], bool], timeout_s: float = 40) -> str:
        """The text of the bot's first message that fits, seen already or still to come."""
        event = await self.user.sees(predicate, room=self.room, by=self.bot, timeout_s=timeout_s)
        content = event["content"]
        return str(content.get("m.new_content", content)["body"])

    def texts(self) -> list[str]:
        """What the bot's messages read now, oldest first: an edit counts for what it changes."""
        texts: dict[str, str] = {}
        for room, event in self.user.seen:
            if room != self.room or event["sender"] != self.bot or event["type"] != "m.room.message":
                continue
            content = event["content"]
            relation = content.get("m.relates_to", {})
            target = relation["event_id"] if relation.get("rel_type") == "m.replace" else event["event_id"]
            texts[target] = content.get("m.new_content", content)["body"]
        return list(texts.values())

    def count(self, text: str) -> int:
        """How many messages of the bot's read `text` now."""
        return self.texts().count(text)

    async def accepted(self, event_id: str) -> None:
        """Wait until the bot has marked a message: it is committed."""
        await self.user.sees(lambda event: marks(event, event_id), room=self.room, by=self.bot)


def marks(event: dict[str, Any], target: str) -> bool:
    """Any reaction of the bot's to a message: it is accepted."""
    relation = event["content"].get("m.relates_to", {})
    return bool(event["type"] == "m.reaction" and relation.get("event_id") == target)
