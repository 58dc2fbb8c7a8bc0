"""rollback: a project runs with an earlier release again."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.projects import recipes
from gateway.store.projects import Project
from gateway.store.releases import Release
from stacks.own import difference


class Rollback:
    """Lets a project run with the container, model, agent and limits of an earlier release; without a number, the one
    before. It becomes a new release. Source, home, sessions, SSH port and host key stay. The images of the last three
    are kept; an older one is built again from what is known of it. `releases` lists them."""

    usage = "rollback [project] [number]"
    summary = "go back to an earlier release"
    role = Role.OPERATOR
    level: Level = "ask"
    repeatable = False
    proposable = True
    always_asks = True

    async def effect(self, ctx: CommandContext) -> str:
        """What it would change."""
        project = await ctx.active_project()
        to = await ctx.services.projects.releases.find(project, _number(ctx))
        ctx.foreseen = to.number
        ctx.difference = _difference(project, to)
        return f"{project.name} runs with release {to.number} again"

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        projects, number = ctx.services.projects, _number(ctx)
        if isinstance(ctx.foreseen, int):
            number = ctx.foreseen
        ctx.release()
        async with ctx.notice() as notice:
            to = await projects.releases.find(project, number)
            await notice.say(f"Going back to release {to.number} of {project.name} …")
            by = ctx.by(f"rollback to {to.number}")
            done = await projects.rollback(project, ctx.message.conversation_id, to.number, notice.show, by)
        built = f", built again: {', '.join(done.built)}" if done.built else ""
        return (
            f"{project.name} runs with release {done.to.number} again, as release {done.number}{built}. Source and "
            f"home are as they were; `rebuild {project.name}` reads the source again.{ctx.tells(done.stopped)}"
        )


def _number(ctx: CommandContext) -> int | None:
    number = ctx.get("number")
    return None if number is None else int(number)


def _difference(project: Project, to: Release) -> str:
    """What is other there, line by line. Raises UserError."""
    lines = []
    for name in ("stack", "model", "agent", "limits"):
        before, after = getattr(project, name), getattr(to, name)
        if before != after:
            lines += [f"-{name}: {before or 'default'}", f"+{name}: {after or 'default'}"]
    before, after = recipes.stored(project), recipes.read(to.recipe, to.stack)
    lines += recipes.difference(before.plan, after.plan)
    return "\n".join([*lines, *filter(None, [difference(before.own, after.own)])])
