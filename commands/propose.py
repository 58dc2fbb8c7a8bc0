"""propose: an agent asks people for a change of its own project."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import Command, CommandContext, Parsed, Parser
from gateway.store.releases import By

_BECAUSE = re.compile(r"(?P<change>.+?)(?:[\s,;:]+because\s+(?P<reason>.+))?", re.IGNORECASE | re.DOTALL)
_MOST = 500


class Propose:
    """For agents: asks people for a change of the agent's own project, on a card with the difference and the reason:
    `propose rebuild because the tests need libpq`, `propose limits memory=8g because …`, `propose model opus because
    …`, `propose rollback 3 because …`. A no with a note is the answer to the call, and stays in `releases`."""

    usage = "propose <change...>"
    summary = "ask people to `rebuild`, set `limits memory=8g` or `model x`, or `rollback`; end with `because …`"
    role = Role.MEMBER
    level: Level = "ask"
    acting_role = Role.OPERATOR
    agents_only = True
    always_asks = True
    repeatable = False

    async def effect(self, ctx: CommandContext) -> str:
        """What it would change, and why."""
        inner, command, reason = _inner(ctx)
        describe: Callable[[CommandContext], Awaitable[str]] = getattr(command, "effect")  # noqa: B009 - all have one
        told = await describe(inner)
        ctx.difference, ctx.foreseen = inner.difference, inner.foreseen
        return f"{told}. Its reason: {reason or 'none was given'}"

    async def run(self, ctx: CommandContext) -> str:
        if not ctx.allowed_by:
            raise UserError("A proposal needs a person's yes.")
        inner, command, _ = _inner(ctx)
        told = await command.run(inner)
        ctx.effect = inner.effect
        return told

    async def declined(self, ctx: CommandContext, why: str) -> None:
        """A no stays in the list of releases."""
        project = await ctx.active_project()
        change, reason = _parts(ctx)
        by = By(f"propose {change}", ctx.message.sender, reason=reason)
        told = f"Not allowed: {why}" if why else "Not allowed."
        await ctx.services.projects.releases.note_attempt(project, by, told)


def _parts(ctx: CommandContext) -> tuple[str, str]:
    """The change and the reason. Raises UserError."""
    said = _BECAUSE.fullmatch(ctx.arguments["change"].strip())
    assert said is not None
    change, reason = " ".join(said["change"].split()), " ".join((said["reason"] or "").split())
    if len(reason) > _MOST:
        raise UserError(f"A reason has at most {_MOST} characters.")
    return change, reason


def _inner(ctx: CommandContext) -> tuple[CommandContext, Command, str]:
    """The command that is proposed, with a context of its own that shares what becomes of it. Raises UserError."""
    change, reason = _parts(ctx)
    projects = ctx.services.projects
    known = [command for command in ctx.services.commands if getattr(command, "proposable", False)]
    found = Parser(known, {}).parse(change, projects.names())
    if not isinstance(found, Parsed):
        usages = ", ".join(f"`propose {command.usage.partition(' [')[0]}`" for command in known)
        raise UserError(f"There is nothing like that to propose. There are: {usages}, each with `because …`.")
    if found.arguments.get("project", ctx.agent) != ctx.agent:
        raise UserError("Propose changes of your own project.")
    return replace(ctx, arguments=found.arguments, reason=reason), found.command, reason
