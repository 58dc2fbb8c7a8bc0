"""new project: from one line to a place that answers, in chat and over SSH."""

from __future__ import annotations

from functools import partial

from gateway.access import Role
from gateway.command import CommandContext
from gateway.errors import UserError
from gateway.projects import Created, Request
from gateway.services import Services
from stacks.catalog import FALLBACK, catalog


class NewProject:
    """Makes a project: its folder, its container, its agent. The conversation is switched to it at once; what you write
    meanwhile waits until it is ready. `--stack` chooses the toolchain, else the files decide. `--git` clones a
    repository (https; a token for a private one stands in the configuration). `--path` chooses the folder on the host,
    `--adopt` takes one that has files as it is. Where a deleted project of that name left its source and sessions, they
    are taken up again. If a step fails, nothing is left and the name is free."""

    usage = "new project <new-name> [--stack <stack>] [--git <url>] [--path <host-path>] [--adopt]"
    summary = "make a project and switch to it"
    role = Role.OPERATOR
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        projects = ctx.services.projects
        git, adopt = ctx.get("git"), ctx.get("adopt") is not None
        if git is not None and not projects.engine.isolated:
            raise UserError(
                "--git needs a container to clone in, and the process engine has none. "
                "Clone it yourself and type `new project <name> --path <folder> --adopt`."
            )
        if git is not None and adopt:
            raise UserError("--git clones into an empty folder, and --adopt takes one that has files: leave one out.")
        request = Request(
            name=ctx.arguments["new-name"],
            by=ctx.message.sender,
            conversation_id=ctx.message.conversation_id,
            asked_at=ctx.message.received_at,
            stack=ctx.get("stack"),
            path=ctx.get("path"),
            git=git,
            adopt=adopt,
        )
        async with ctx.services.notice(ctx) as notice:
            made = await projects.create(request, ctx.release, notice)
        ctx.afterwards.append(partial(projects.begin, made.project))
        return "\n".join(_reply(ctx.services, made))


def _reply(services: Services, made: Created) -> list[str]:
    project, projects = made.project, services.projects
    lines = [f"**{project.name}** is ready.", f"- source: `{project.path}`", f"- stack: {_stack(made)}"]
    if (way := projects.access(project)) is not None:
        lines.append(f"- SSH: `{way.line}`")
        lines.append(f"- in editors: `Host {way.alias}`, once your SSH configuration has `{projects.include_line}`")
    else:
        lines.append("- engine: process, no isolation and no SSH; open the source in your editor")
    if made.taken_up:
        lines.append("- taken up again: its source, sessions and history")
    if not made.has_identity:
        lines.append("- git: commits have no name yet; set git.user_name and git.user_email in the configuration")
    lines.append(f"- {services.agent_line()}")
    lines.append("")  # ends the list
    verify = f"`huskies status {project.name}` on the host, or `status {project.name}` here"
    lines.append(f"Verify with {verify}. What you write here now goes to its agent.")
    return lines


def _stack(made: Created) -> str:
    name = made.project.stack
    stack = next((found for found in catalog() if found.name == name), None)
    version = f" {stack.version}" if stack is not None and stack.version else ""
    because = made.because
    read = because if because == "asked for" else f"read from {because}" if because else "no marker found"
    bare = made.project.image and stack is not None and not stack.has_image and name != FALLBACK
    note = ". There is no image for it yet: this is the base, without its toolchain" if bare else ""
    return f"{name}{version} ({read}){note}"
