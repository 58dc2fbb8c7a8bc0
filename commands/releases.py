"""releases: what a project ran with, and what was tried or proposed."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.chat.text import code, inline, shorten
from gateway.config import AGENT, Person, Role
from gateway.hive.powers import Level
from gateway.hive.times import shown
from gateway.intake import CommandContext
from gateway.store.releases import Release

#: Characters of why something did not come about.
_WHY = 300


class Releases:
    """A project's releases: each time it got another container, model, agent or limits, with who asked and who allowed
    it. What failed or was not allowed is listed, too. `rollback` goes back to one. The last three keep their images."""

    usage = "releases [project]"
    summary = "what a project ran with, and what failed"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        projects, people = ctx.services.projects, ctx.services.settings.people
        found = await projects.releases.shown(project)
        if not found:
            return f"{project.name} has no release yet."
        current = max((one.number for one in found if one.number is not None), default=None)
        zone = ctx.services.schedules.zone(ctx.message.at_the_word_of)
        lines = [f"- {_line(one, shown(one.at, zone), people, now=one.number == current)}" for one in found]
        return "\n".join([f"**Releases of {project.name}**", *lines])


def _line(one: Release, at: str, people: Mapping[str, Person], *, now: bool) -> str:
    number = "not made" if one.number is None else f"**{one.number}**"
    told = f"{number}{' (now)' if now and one.number is not None else ''}: {code(one.what)}, {at}"
    if one.asked_by:
        told += f", by {_who(one.asked_by, people)}"
    if one.allowed_by and one.allowed_by != one.asked_by:
        told += f", allowed by {_who(one.allowed_by, people)}"
    if one.reason:
        told += f". Reason: {inline(one.reason)}"
    if one.told:
        told += f". {shorten(inline(one.told), _WHY)}"
    return told


def _who(actor: str, people: Mapping[str, Person]) -> str:
    if actor.startswith(AGENT):
        return f"{actor.removeprefix(AGENT)}'s agent"
    return people[actor].name if actor in people else inline(actor)
