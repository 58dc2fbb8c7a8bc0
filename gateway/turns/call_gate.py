"""Whether a model call of a project may go out now: it belongs to an open turn, and today's budget has room for it.

A turn is admitted before it begins; but a container can call the model whenever it likes, and so each call is asked
about. While it is under way, all that its answer may cost is *reserved*: where little is left, calls go out one after
the other. What one has cost counts at once; so a budget is exceeded by one call at most.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.store.turns import SessionKey
from gateway.turns.admission import Admission

NO_TURN = "only a run that people began may call the model, and none is open"
USED_UP = "today's budget is used up, and an operator said no to more"


@dataclass(slots=True)
class CallGate:
    """See the module. `at_work`: the sessions of a project whose turn is open, or begins."""

    admission: Admission
    at_work: Callable[[int], list[SessionKey]]
    #: Set once it is known which turns are open: until then calls wait.
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _reserved: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def enter(self, project: str, usd: float) -> str:
        """Reserve what a call may cost; why it may not go out, or empty. What was let in must `leave`.

        Waits until calls that are under way leave room, and for an operator once the budget is used up.
        """
        await self.ready.wait()
        project_id = int(project)
        refusals = self.admission.refusals[project_id]
        while keys := self.at_work(project_id):
            if self._fits(project_id):
                self._reserved[project_id] += usd
                return ""
            if self.admission.is_used_up(project_id):
                self.admission.ask(keys[0])
            news = self._news
            self.admission.held_calls[project_id] += 1
            try:
                await news.wait()
            finally:
                self.admission.held_calls[project_id] -= 1
            if self.admission.refusals[project_id] != refusals:
                return USED_UP
        return NO_TURN

    def leave(self, project: str, reserved: float, cost: float) -> None:
        """A call is over, and has cost that."""
        project_id = int(project)
        self._reserved[project_id] -= reserved
        if self._reserved[project_id] <= 1e-9:
            del self._reserved[project_id]
        self.admission.metered(project_id, cost)
        self.look_again()

    def look_again(self) -> None:
        """More may be allowed now, or a turn is over: whoever is held looks again."""
        self._news.set()
        self._news = asyncio.Event()

    def _fits(self, project_id: int) -> bool:
        spent, most = self.admission.left(project_id)
        return self.admission.budget(project_id) <= 0 or spent + self._reserved.get(project_id, 0.0) < most
