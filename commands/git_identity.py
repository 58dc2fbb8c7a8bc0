"""git identity: whose name commits bear."""

from __future__ import annotations

from gateway.chat.text import code
from gateway.config import Role, git_identity
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class GitIdentity:
    """Shows or, for operators, sets whose name commits bear, in all projects: a name and an address, as git writes
    them. `git identity default` takes it back: then the configuration's counts, else the one of the host's user. What
    somebody sets with git inside a project stays there until this is typed again."""

    usage = "git identity [who...]"
    summary = "show or set whose name commits bear"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        projects, who = ctx.services.projects, ctx.get("who")
        if who is None:
            found = await projects.git_identity.find()
            if not found:
                return f"Commits have no author yet. Type `{git_identity.EXAMPLE}`."
            return f"Commits are by {code(str(found))} ({found.where})."
        if ctx.role < Role.OPERATOR:
            raise UserError("Only an operator can set whose name commits bear.")
        identity = None if who.strip().lower() == "default" else git_identity.read(who)
        left = await projects.identify(identity)
        found = await projects.git_identity.find()
        told = f"Commits are by {code(str(found))} from now on." if found else "Commits have no author now."
        return told + (f" {', '.join(left)} will know when started again." if left else "")
