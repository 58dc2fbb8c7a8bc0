"""rebuild: give a project a container of today's image."""

from __future__ import annotations

from gateway.access import Role
from gateway.command import CommandContext
from gateway.errors import UserError
from gateway.lifecycle import Rebuilt


class Rebuild:
    """Builds the project's image anew where something of it has changed, and gives the project a fresh container.
    Source, home, sessions, SSH port and host key stay; the reply says what changed. The project runs on while the image
    is built, and stays as it is if that fails. On the process engine there is no image: the sled is started anew."""

    usage = "rebuild [project] [--stack <stack>]"
    summary = "make what a project runs in anew"
    role = Role.OPERATOR
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.services.active_project(ctx)
        projects, here = ctx.services.projects, ctx.message.conversation_id
        stack = ctx.get("stack")
        if not projects.engine.isolated:
            if stack is not None:
                raise UserError("--stack changes a container's image; the process engine uses what this host has.")
            ctx.release()
            stopped = await projects.restart(project, here)
            return f"{project.name} runs a fresh sled; the process engine has no image to build.{stopped.told}"
        projects.check_stack(stack)
        ctx.release()
        async with ctx.services.notice(ctx) as notice:
            await notice.say(f"Rebuilding {project.name} …")
            rebuilt = await projects.rebuild(project, here, stack, notice.show)
        return _reply(rebuilt) + rebuilt.stopped.told


def _reply(rebuilt: Rebuilt) -> str:
    project = rebuilt.project
    if rebuilt.built:
        image = f"new: {', '.join(rebuilt.built)} built"
    elif rebuilt.changed:
        image = "new, built before"
    else:
        image = "as it was, nothing of it has changed"
    return "\n".join(
        [
            f"**{project.name}** runs in a fresh container.",
            f"- image: {image} (`{project.image}`)",
            f"- stack: {project.stack}",
            f"- kept: source, home, sessions, SSH port {project.ssh_port}, host key",
        ]
    )
