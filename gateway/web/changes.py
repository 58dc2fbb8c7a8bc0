"""What changed, by numbers: from one of them on, a page of the browser is kept as things are.

A change has a topic and no text: what a topic looks like is rendered when somebody is told, as it is then. So a page
that was away is told once of each thing that changed, whatever happened to it meanwhile, and nothing waits for a page
that is slow. A position is the life of the gateway and a number; one of another life, or one that is too old, is good
for nothing: that page loads anew. Nothing of this is written.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

#: Topics whose last change is remembered.
_MOST = 4096
_PROJECT = "project/"
#: What is asked of people, as a topic; and what is said, anywhere.
NEEDS, FLOW = "needs", "flow"


@dataclass(frozen=True, slots=True)
class Position:
    """Between two changes."""

    life: str
    number: int

    def __str__(self) -> str:
        return f"{self.life}.{self.number}"

    @classmethod
    def of(cls, text: str) -> Position:
        """Read one; what is none is one of no life."""
        life, _, number = text.partition(".")
        return cls(life, int(number)) if number.isascii() and number.isdigit() and len(number) < 16 else cls("", 0)


class Changes:
    """See the module. Use from one event loop."""

    def __init__(self) -> None:
        self._life = secrets.token_hex(8)
        self._number = 0
        #: The number of the last change of each topic, oldest first; and of the last one that is forgotten.
        self._topics: dict[str, int] = {}
        self._forgotten = 0
        self._news: set[asyncio.Future[None]] = set()

    @property
    def now(self) -> Position:
        """After the last change."""
        return Position(self._life, self._number)

    def project(self, project_id: int) -> None:
        """A project is another than before, or is new, or is gone."""
        self.tell(f"{_PROJECT}{project_id}")

    def tell(self, topic: str) -> None:
        """Something changed."""
        self._number += 1
        self._topics.pop(topic, None)
        self._topics[topic] = self._number
        if len(self._topics) > _MOST:
            oldest = next(iter(self._topics))
            self._forgotten = self._topics.pop(oldest)
        news, self._news = self._news, set()
        for one in news:
            if not one.done():
                one.set_result(None)

    def since(self, position: Position) -> list[str] | None:
        """The topics that changed after a position, each once; None where that cannot be known."""
        if position.life != self._life or position.number > self._number:
            return None
        if position.number < self._forgotten:
            return None
        topics: list[str] = []
        for topic, number in reversed(self._topics.items()):
            if number <= position.number:
                break
            topics.append(topic)
        return topics[::-1]

    async def wait(self, position: Position) -> None:
        """Return when something has changed since."""
        while self.now == position:
            future = asyncio.get_running_loop().create_future()
            self._news.add(future)
            try:
                await future
            finally:
                self._news.discard(future)


def project_of(topic: str) -> int | None:
    """The id of the project that a topic is about, if it is about one."""
    return int(topic.removeprefix(_PROJECT)) if topic.startswith(_PROJECT) else None
