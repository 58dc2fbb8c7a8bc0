"""rebuild: give a project a container from an up-to-date image."""

from __future__ import annotations

import time
from dataclasses import replace

from gateway.chat.text import unfenced
from gateway.config import Role
from gateway.errors import UserError, VersionMissing
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.projects import Changes, Rebuilt, recipes
from gateway.projects.recipes import stored
from gateway.store.projects import Project
from stacks.own import difference
from stacks.plan import Plan
from stacks.words import lacking, stack_lines


class Rebuild:
    """Reads the source again, rebuilds what has changed in the project's image, and gives the project a fresh
    container. Source, home, sessions, SSH port and host key stay; the reply says what changed. `--stack` chooses
    another main toolchain; `--stack auto` lets the files decide again. `--fresh` fetches everything again: newer
    packages, and what could not be fetched last time. What the source itself wants to add
    (`.huskies/Dockerfile.fragment`, a devcontainer.json) is shown first, and used once you confirm it. The project
    keeps running while the image is built, and stays as it is if that fails. The process engine has no image: it only
    restarts the sled."""

    usage = "rebuild [project] [--stack <stack>] [--fresh]"
    summary = "rebuild a project's image and container"
    role = Role.OPERATOR
    level: Level = "ask"
    repeatable = True
    proposable = True

    async def effect(self, ctx: CommandContext) -> str:
        """What it would change."""
        project = await ctx.active_project()
        if not ctx.services.projects.engine.isolated:
            return f"{project.name} runs a fresh sled; what runs there is stopped"
        changes, plan = await _foresee(ctx, project)
        before = stored(project)
        own = difference(before.own, changes.own or before.own)
        ctx.foreseen = changes
        ctx.difference = "\n".join([*recipes.difference(before.plan, plan), *filter(None, [own])])
        as_root = " Layers are built as root, with your network." if own else ""
        return f"{project.name} gets a fresh container from an up-to-date image; what runs there is stopped.{as_root}"

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        projects, here = ctx.services.projects, ctx.message.conversation_id
        stack = ctx.get("stack")
        if not projects.engine.isolated:
            if stack is not None or ctx.get("fresh") is not None:
                raise UserError("That changes a container's image; the process engine uses what this host has.")
            ctx.release()
            stopped = await projects.restart(project, here)
            return f"{project.name} runs a fresh sled; the process engine has no image to build.{ctx.tells(stopped)}"
        if isinstance(ctx.foreseen, Changes):  # a card showed it
            return await _rebuild(ctx, project, ctx.foreseen)
        changes, _ = await _foresee(ctx, project)
        before, after = stored(project).own, changes.own
        if after is None or after == before:
            return await _rebuild(ctx, project, changes)
        if ctx.agent:
            raise UserError(
                "Your source wants to add to its container, which a person has to see: `propose rebuild because …`."
            )
        shown = difference(before, after)  # what was shown is what is built, whatever the source says by then
        return _ask(
            ctx,
            project,
            changes,
            f"The source of {project.name} wants to change its container ({', '.join(after.files or before.files)}):\n"
            f"```\n{unfenced(shown)}\n```\nLayers are built as root, with your network.",
            "to rebuild with this",
        )


async def _foresee(ctx: CommandContext, project: Project) -> tuple[Changes, Plan]:
    """What a rebuild would change, and the stacks that there would be. Raises UserError."""
    known, stack = ctx.services.projects.recipes, ctx.get("stack")
    known.check_stack(stack, images=True)
    plan = await known.decide(project.path, project.wanted if stack is None else recipes.wish(stack))
    # One stamp for the whole exchange: what is built before a question is what its answer uses.
    fresh = time.strftime("%Y-%m-%dT%H:%M:%S") if ctx.get("fresh") is not None else ""
    return Changes(stack=stack, own=await known.offered(project.path), fresh=fresh), plan


def _ask(ctx: CommandContext, project: Project, changes: Changes, told: str, purpose: str) -> str:
    async def go_on(answer: CommandContext) -> str:
        return await _rebuild(answer, project, changes)

    type_this = ctx.services.confirmations.ask(ctx, go_on)
    return f"{told}\nReply `{type_this}` within 60 s {purpose}. Until then {project.name} stays as it is."


async def _rebuild(ctx: CommandContext, project: Project, changes: Changes) -> str:
    projects = ctx.services.projects
    ctx.release()
    try:
        async with ctx.notice() as notice:
            await notice.say(f"Rebuilding {project.name} …")
            by = ctx.by("rebuild")
            rebuilt = await projects.rebuild(project, ctx.message.conversation_id, changes, notice.show, by)
    except VersionMissing as error:
        accept = (*changes.accept, *error.keys)
        return _ask(ctx, project, replace(changes, accept=accept), str(error), "to rebuild with what is available")
    return _reply(rebuilt) + ctx.tells(rebuilt.stopped)


def _reply(rebuilt: Rebuilt) -> str:
    project, plan, told = rebuilt.project, rebuilt.recipe.plan, rebuilt.recipe.told
    if rebuilt.built:
        image = f"new: {', '.join(rebuilt.built)} built"
    elif rebuilt.changed:
        image = "new, already built"
    else:
        image = "unchanged"
    lines = [f"image: {image} (`{project.image}`)", *stack_lines(plan, told), *lacking(told), *plan.warnings]
    lines += rebuilt.recipe.own.notes
    lines += [f"kept: source, home, sessions, SSH port {project.ssh_port}, host key", *rebuilt.said]
    return "\n".join(
        [f"**{project.name}** runs in a fresh container: release {rebuilt.number}.", *(f"- {line}" for line in lines)]
    )
