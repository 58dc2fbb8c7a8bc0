"""schedules: what is due, and when."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from gateway.chat.text import code, inline, quote
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.hive.times import shown
from gateway.intake import CommandContext
from gateway.store.schedules import Schedule

#: The most that one reply shows.
_MOST = 60


class ListSchedules:
    """Reminders and recurring messages of the active project, or of the one that you name, with the numbers that
    `cancel` and `retry` take. One that rests shows its last error."""

    usage = "schedules [project]"
    summary = "what the agent is sent, and when"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        found = await ctx.services.schedules.of_project(project.id)
        if not found:
            return f"{project.name} has no schedules. Type, for example, `every weekdays 8:30 run the tests`."
        lines = [line(one) for one in found[:_MOST]]
        return "\n".join([f"**Schedules of {project.name}**", *lines])


def line(one: Schedule) -> str:
    """One schedule, for people."""
    if one.rests:
        when = f"rests after {one.failures} failure{'s' if one.failures != 1 else ''} (`retry {one.id}`)"
    else:
        when = "under way" if one.due is None else shown(one.due, ZoneInfo(one.zone))
    recurs = f", every {code(one.times)}" if one.recurs else ""
    quiet = ", quiet" if one.quiet else ""
    error = f"\n   last error: {inline(one.last_error)}" if one.last_error else ""
    return f"{one.id}. {when}{recurs}{quiet}: {quote(one.text, 80)}, by {one.made_by}{error}"
