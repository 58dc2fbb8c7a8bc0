"""What needs somebody: questions in any room, turns that failed, and, for operators, what is wrong with the gateway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway import clock
from gateway.asking import cards, is_long
from gateway.chat.text import quote
from gateway.config import Role
from gateway.intake import Services
from gateway.intake.confirmations import GOOD_FOR_S, Waiting
from gateway.intake.logins import Person
from gateway.store import timeline
from gateway.store.questions import Asked
from gateway.store.timeline import Worked
from gateway.web.changes import Changes
from gateway.web.markup import written
from transports.web import NAME, room_of

#: Seconds for which a turn that failed is one that needs somebody.
_FAILED_FOR_S = 86400.0


@dataclass(frozen=True, slots=True)
class Need:
    """One thing. `key`: its name on the page; `html`: all that is asked, or what is wrong.

    `says`: the buttons, each with what pressing it says in the conversation `to`; `hint`: what to do without one.
    """

    key: str
    project: str
    where: str
    since: float
    #: When it is none any more, whatever happens; 0: not by itself.
    until: float = field(default=0.0, kw_only=True)
    html: str
    says: tuple[tuple[str, str], ...] = ()
    to: str = "all"
    hint: str = ""


class Needs:
    """`wrong`: what is wrong with the gateway now, in words for operators."""

    def __init__(self, services: Services, changes: Changes, wrong: Callable[[], list[str]]) -> None:
        self._services = services
        self._changes = changes
        self._wrong = wrong
        #: The turns that failed, and when that was looked up.
        self._failed: tuple[int, list[Worked]] = (-1, [])

    async def of(self, person: Person) -> dict[str, Any]:
        """What the template is to show this person, oldest first."""
        asked = [
            self._question(one)
            for one in self._services.questions.everything()
            if person.role is Role.OPERATOR or one.requester == person.sender
        ]
        failed = [
            self._turn(turn, person)
            for turn in await self._turns()
            if person.role is Role.OPERATOR or turn.sender == person.sender
        ]
        confirm = [self._confirmation(one, person) for one in self._services.confirmations.of(person.sender)]
        found = [one for one in (*asked, *failed, *confirm) if one is not None]
        wrong = self._wrong() if person.role is Role.OPERATOR else []
        return {"needs": sorted(found, key=lambda one: one.since), "wrong": wrong}

    def _question(self, asked: Asked) -> Need | None:
        about = self._services.projects.by_id(asked.project_id)
        if about is None:
            return None
        # Nobody says yes to what they were not shown.
        is_shown = not is_long(asked.body)
        is_permission = asked.body.kind == "permission" and is_shown
        hint = f"Write `answer #{asked.id} …` to the bot."
        if not is_shown:
            hint = "All of it is too long to be shown here. Look at the file in that room, and answer there."
        return Need(
            key=f"question-{asked.id}",
            project=about.name,
            where=f"#{asked.id}, in {asked.conversation}",
            since=asked.asked_at,
            html=written(cards.whole(asked) if is_shown else cards.summary(asked.body)),
            says=(("allow", f"allow #{asked.id}"), ("deny", f"no #{asked.id}")) if is_permission else (),
            hint="" if is_permission else written(hint),
        )

    def _confirmation(self, one: Waiting, person: Person) -> Need:
        """A question of the bot's own, which is answered where it was asked."""
        sender, _, name = one.conversation.room.rpartition(" ")
        is_here = one.conversation.transport == NAME and sender == person.sender and not one.needs_word
        return Need(
            key=f"confirm-{one.code}",
            project="",
            where=f"in {one.conversation}",
            since=one.asked_at,
            until=one.asked_at + GOOD_FOR_S,
            html=written(f"Shall it be done? {quote(one.said, 200)}"),
            says=(("confirm", f"confirm {one.code}"),) if is_here else (),
            to=name if is_here else "all",
            hint=""
            if is_here
            else written(f"Write `confirm {one.code}{' …' if one.needs_word else ''}` in that room."),
        )

    def _turn(self, turn: Worked, person: Person) -> Need | None:
        about = self._services.projects.by_id(turn.project_id)
        if about is None:
            return None
        is_here = turn.room.transport == NAME and turn.room.room == room_of(person.sender, about.name)
        why = turn.error or ("it was cut off" if turn.ending == "interrupted" else "it says no reason")
        return Need(
            key=f"turn-{turn.id}",
            project=about.name,
            where=f"in {turn.room}",
            since=turn.began_at,
            html=written(f"The last turn failed: {quote(why, 300)}"),
            says=(("try again", f"/retry {about.name}"),) if is_here else (),
            to=about.name,
            hint="" if is_here else written("Write `retry` in that room to run it again."),
        )

    async def _turns(self) -> list[Worked]:
        """The last turn of each project, if it failed; looked up once for all who are told of the same change."""
        now = self._changes.now.number
        if self._failed[0] != now:
            since = clock.now() - _FAILED_FOR_S
            self._failed = (now, await self._services.store.read(lambda c: timeline.failed(c, since)))
        return self._failed[1]
