"""status: how a project is doing."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from gateway import clock
from gateway.chat import Fate
from gateway.chat.text import quote, seconds
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.hive.times import shown
from gateway.intake import CommandContext
from gateway.projects.recipes import stored
from gateway.store import Connection, messages, outbox
from gateway.store.turns import SessionKey
from stacks.words import lacking, stack_lines


class Status:
    """State, source, stacks with their versions, engine, permissions, the runs under way and what waits behind them,
    here and elsewhere."""

    usage = "status [project]"
    summary = "a project's state, runs and queue"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        services = ctx.services
        project = await ctx.active_project()
        projects, dispatcher = services.projects, services.dispatcher
        lines = [f"**{project.name}**: {projects.state(project)}"]
        if project.last_error:
            lines.append(f"- last error: {project.last_error}")
        lines.append(f"- source: `{project.path}`")
        mode = project.permissions
        lines.append(f"- engine {projects.engine.kind}, permissions {mode}")
        recipe = stored(project)
        stacks = stack_lines(recipe.plan, recipe.told, built=projects.engine.isolated)
        lines += [
            f"- {line}" for line in (*(stacks if project.stack else ["stack: not known yet"]), *lacking(recipe.told))
        ]
        for turn in dispatcher.running_in(project.id):
            age = seconds(clock.since(turn.started_at))
            lines.append(f"- running for {age}: {quote(turn.batch[0].text)}")

        def waiting(connection: Connection) -> tuple[list[messages.StoredMessage], int]:
            queued = [m for m in messages.with_fate(connection, Fate.QUEUED) if m.project_id == project.id]
            return queued, outbox.undelivered(connection, ctx.message.conversation_id)

        queued, undelivered = await services.store.read(waiting)
        if queued:
            lines.append(f"- waiting: {', '.join(quote(message.text, 40) for message in queued[:5])}")
        if due := [
            one for one in await services.schedules.of_project(project.id) if one.due is not None and not one.rests
        ]:
            more = f", and {len(due) - 1} more" if len(due) > 1 else ""
            first = shown(due[0].due or 0.0, ZoneInfo(due[0].zone))
            lines.append(f"- next schedule: {first}, {quote(due[0].text, 40)}{more}")
        place = dispatcher.place(SessionKey(project.id, ctx.message.conversation_id))
        if place is not None:
            lines.append(f"- this conversation is number {place + 1} in line")
        if ctx.role is Role.OPERATOR:
            lines += [f"- {count} waiting for {there}: {why}" for there, why, count in await services.outbox.held()]
        if undelivered:
            lines.append(f"- {undelivered} replies in this conversation may not have been delivered")
        return "\n".join(lines)
