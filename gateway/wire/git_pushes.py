"""Whether a project may push now: people are asked in the conversation of its turn.

What is allowed holds for `GOOD_FOR_S`, for that project and repository: a push is two or three requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from gateway.asking import Questions
from gateway.store.turns import Turn
from gateway.wire.git_url import GitUrl

#: Seconds.
GOOD_FOR_S = 600.0
NO_RUN = "only an agent's run can push with the gateway's token, and none is under way; ask the agent to push"
DENIED = "nobody allowed this push; the commits stay in the project"


@dataclass(slots=True)
class Pushes:
    """See the module. `running` gives a project's open turns, `mode` its permissions."""

    questions: Questions
    running: Callable[[int], list[Turn]]
    mode: Callable[[int], str]
    _granted: dict[tuple[int, str], float] = field(default_factory=dict)

    async def refusal(self, project: str, repository: GitUrl) -> str:
        """Why a project (its id, as text) may not push there; empty when it may. Waits for people."""
        project_id, now = int(project), asyncio.get_running_loop().time()
        self._granted = {what: until for what, until in self._granted.items() if until > now}
        if (project_id, repository.url) in self._granted:
            return ""
        turns = self.running(project_id)
        if not turns:
            return NO_RUN
        if self.mode(project_id) != "allow":
            arguments = msgspec.json.encode({"repository": repository.url}).decode()
            rule = f"git push to {repository.url}"
            asked = await self.questions.permission(turns[0], tool="git push", arguments=arguments, rule=rule)
            if not asked.allowed:
                return f"{DENIED} ({asked.why})" if asked.why else DENIED
        self._granted[project_id, repository.url] = asyncio.get_running_loop().time() + GOOD_FOR_S
        return ""
