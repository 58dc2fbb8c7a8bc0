"""lead: which project's agent answers where no project is active."""

from __future__ import annotations

from gateway.chat.text import code
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store.projects import Project


class Lead:
    """Shows or, for operators, sets the lead: the project whose agent answers where no project is active, may look at
    all projects, have their agents work, and ask on a card for what changes them. It is told of what needs a decision,
    such as a crash. `lead off` ends that. `new project chief --lead` makes one. The project restarts, as only the lead
    can write to /shared, which all projects read. Its instructions are a file that you can edit."""

    usage = "lead [project] [off|none]"
    summary = "show or set whose agent answers where no project is active"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        leads, projects = ctx.services.leads, ctx.services.projects
        now = projects.registry.lead
        name, off = ctx.get("project"), ctx.get("off|none") is not None
        if name is None and not off:
            if now is None:
                return "There is no lead. `lead <project>` chooses one, `new project chief --lead` makes one."
            return f"{now.name} leads. Its instructions: {code(leads.file)}. `lead off` ends that."
        if ctx.role < Role.OPERATOR:
            return "Only an operator can choose the lead."
        if off:
            before = await leads.dismiss()
            if before is None:
                return "There is no lead."
            return f"{before.name} does not lead any more.{await _restarted(ctx, before)}"
        project = projects.get(ctx.arguments["project"])
        if project.leads:
            return f"{project.name} leads already."
        return await appoint(ctx, project)


async def appoint(ctx: CommandContext, project: Project) -> str:
    """Make a project the lead; what to tell."""
    leads = ctx.services.leads
    before = await leads.appoint(project, ctx.message.at_the_word_of)
    told = await _restarted(ctx, project)
    if before is not None and before.id != project.id:
        told += await _restarted(ctx, before)
    return (
        f"{project.name} leads: its agent answers where no project is active. Its instructions, for you to edit: "
        f"{code(leads.file)}.{told}"
    )


async def _restarted(ctx: CommandContext, project: Project) -> str:
    """Give it a container that may, or may not any more, write to what all share; what was stopped for that."""
    projects = ctx.services.projects
    if not projects.engine.isolated or project.desired != "up":
        return ""
    ctx.release()
    return ctx.tells(await projects.restart(project, ctx.message.conversation_id))
