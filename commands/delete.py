"""delete: delete a project, after asking."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Delete:
    """Asks first, then deletes the project. Its source, its home with the sessions, and its history stay, and
    `new project` with the same name picks them up again. `--purge` removes these too (never an adopted source), and
    asks you to type the name again."""

    usage = "delete <project> [--purge]"
    summary = "delete a project; its source stays"
    role = Role.OPERATOR
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = ctx.services.projects.get(ctx.arguments["project"])
        purge = ctx.get("purge") is not None

        async def act(answer: CommandContext) -> str:
            answer.release()
            stopped, removed, kept = await ctx.services.projects.delete(
                project, ctx.message.conversation_id, purge=purge
            )
            receipt = [f"**{project.name}** is deleted.", f"- removed: {', '.join(removed)}"]
            if kept:
                receipt.append(f"- kept: {', '.join(kept)}")
            if "history" in kept:
                receipt.append(f"\n`new project {project.name}` picks up what was kept.")
            return "\n".join(receipt) + answer.tells(stopped)

        word = project.name if purge else ""
        type_this = ctx.services.confirmations.ask(ctx, act, word=word)
        loss = f"source ({project.path}), home and history go too" if purge else "its source and sessions stay"
        if purge and project.adopted:
            loss = "home and history go too, the adopted source stays"
        return f"Delete {project.name}? Its processes end; {loss}. Reply `{type_this}` within 60 s."
