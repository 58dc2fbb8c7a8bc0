"""new project: from one line to a running project."""

from __future__ import annotations

from functools import partial

from gateway.access import Role
from gateway.command import CommandContext
from gateway.errors import UserError
from gateway.projects import Request


class NewProject:
    """Makes a project: its folder, its sled, its agent. The conversation is switched to it at once; what you write
    meanwhile waits until it is ready. `--path` chooses the folder on the host, `--adopt` takes one that has files
    as it is. Where a deleted project of that name left its source and sessions, they are taken up again. If a step
    fails, nothing is left and the name is free."""

    usage = "new project <new-name> [--stack <stack>] [--git <url>] [--path <host-path>] [--adopt]"
    summary = "make a project and switch to it"
    role = Role.OPERATOR
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        projects = ctx.services.projects
        if ctx.get("git") is not None:
            raise UserError(
                "--git needs a container to clone in, and the process engine has none. "
                "Clone it yourself and type `new project <name> --path <folder> --adopt`."
            )
        request = Request(
            name=ctx.arguments["new-name"],
            by=ctx.message.sender,
            conversation_id=ctx.message.conversation_id,
            asked_at=ctx.message.received_at,
            stack=ctx.get("stack"),
            path=ctx.get("path"),
            adopt=ctx.get("adopt") is not None,
        )
        made = await projects.create(request, ctx.release, ctx.services.teller(ctx))
        project = made.project
        ctx.afterwards.append(partial(projects.begin, project))
        because = made.stack_because
        read = because if because == "asked for" else f"read from {because}" if because else "no marker found"
        lines = [
            f"**{project.name}** is ready.",
            f"- source: `{project.path}`",
            f"- stack: {project.stack} ({read})",
        ]
        if not projects.engine.isolated:
            lines.append("- engine: process, no isolation and no SSH; open the source in your editor")
        if made.taken_up:
            lines.append("- taken up again: its source, sessions and history")
        lines.append(f"- {ctx.services.agent_line()}")
        lines.append("")  # ends the list
        lines.append(f"Verify with `status {project.name}`. What you write here now goes to its agent.")
        return "\n".join(lines)
