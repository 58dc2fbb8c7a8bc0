"""new project: from one line to a place that answers, in chat and over SSH."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from commands.lead import appoint
from gateway.config import Role
from gateway.config.git_identity import EXAMPLE
from gateway.errors import UserError, VersionMissing
from gateway.hive.powers import Level
from gateway.intake import CommandContext, Services
from gateway.projects import Created, Request
from stacks.words import lacking, stack_lines


class NewProject:
    """Makes a project: its folder, its container, its agent. The conversation switches to it at once; what you write
    meanwhile waits until it is ready. `--stack` chooses the main toolchain; otherwise the files decide. If they ask for
    a version that is not available, you are asked what to do. `--git` clones a repository (https; the token for a
    private one goes into the configuration); `.../tree/<branch>` is that branch, `--submodules` fetches these, too.
    `--path` chooses the folder on the host; `--adopt` takes a folder with files as it is. If a deleted project of that
    name left its source and sessions, they are picked up again. `--lead` makes its agent the one that answers where no
    project is active; the conversation does not switch then. If a step fails, nothing is left and the name is
    free."""

    usage = (
        "new project <new-name> [--stack <stack>] [--git <url>] [--submodules] [--path <host-path>] [--adopt] [--lead]"
    )
    summary = "make a project and switch to it"
    role = Role.OPERATOR
    level: Level = "ask"
    beyond = True
    repeatable = True

    async def effect(self, ctx: CommandContext) -> str:
        """What it would make."""
        source = f" from {ctx.get('git')}" if ctx.get("git") is not None else ""
        inside = ", in a container of its own" if ctx.services.projects.engine.isolated else ""
        return f"a new project, {ctx.arguments['new-name']}{source}{inside}"

    async def run(self, ctx: CommandContext) -> str:
        projects = ctx.services.projects
        git, adopt = ctx.get("git"), ctx.get("adopt") is not None
        if git is not None and not projects.engine.isolated:
            raise UserError(
                "--git needs a container to clone in, and the process engine has none. "
                "Clone it yourself and type `new project <name> --path <folder> --adopt`."
            )
        if git is None and ctx.get("submodules") is not None:
            raise UserError("--submodules goes with --git, which names the repository to clone.")
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
            submodules=ctx.get("submodules") is not None,
            adopt=adopt,
            switches=not ctx.agent and ctx.get("lead") is None,
        )
        if ctx.get("lead") is not None and ctx.agent:
            raise UserError("Who leads is for people to say: `lead <project>`.")
        return await _make(ctx, request)


async def _make(ctx: CommandContext, request: Request) -> str:
    """Make it; or ask whether to continue without a version that is not available."""
    projects = ctx.services.projects
    try:
        async with ctx.notice() as notice:
            made = await projects.create(request, ctx.release, notice)
    except VersionMissing as error:
        accept = (*request.accept, *error.keys)

        async def go_on(answer: CommandContext) -> str:
            return await _make(answer, replace(request, accept=accept, asked_at=answer.message.received_at))

        type_this = ctx.services.confirmations.ask(ctx, go_on)
        return (
            f"{error}\nReply `{type_this}` within 60 s to make {request.name} with what is available. Or change the "
            f"file that asks for it, and type `new project {request.name}` again."
        )
    ctx.afterwards.append(partial(projects.begin, made.project))
    if ctx.agent:
        ctx.effect = f"made the project {made.project.name}"
    lines = _reply(ctx.services, made)
    if ctx.get("lead") is None:
        return "\n".join(lines)
    return "\n".join([*lines[:-1], await appoint(ctx, made.project)])


def _reply(services: Services, made: Created) -> list[str]:
    project, projects = made.project, services.projects
    plan, told = made.recipe.plan, made.recipe.told
    lines = [f"**{project.name}** is ready.", f"- source: `{project.path}`"]
    lines += [f"- {line}" for line in stack_lines(plan, told, built=projects.engine.isolated)]
    if (way := projects.access(project)) is not None:
        lines.append(f"- SSH: `{way.line}`")
        lines.append(f"- in editors: `Host {way.alias}`, once your SSH configuration has `{projects.include_line}`")
    else:
        lines.append("- engine: process, no isolation and no SSH; open the source in your editor")
    lines += [f"- {line}" for line in (*lacking(told), *plan.warnings, *made.offered.notes)]
    if made.offered.files and projects.engine.isolated:
        files = ", ".join(made.offered.files)
        lines.append(f"- not used yet: {files}. `rebuild {project.name}` shows what it would add, and asks")
    if made.taken_up:
        lines.append("- picked up again: its source, sessions and history")
    if not made.has_identity:
        lines.append(f"- git: commits have no author yet; type `{EXAMPLE}`")
    lines.append(f"- {services.agent_line()}")
    lines.append("")  # ends the list
    verify = f"`huskies status {project.name}` on the host, or `status {project.name}` here"
    lines.append(f"Verify with {verify}. What you write here now goes to its agent.")
    return lines
