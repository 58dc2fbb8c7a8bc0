"""stacks: the available toolchains."""

from __future__ import annotations

from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext


class Stacks:
    """Lists the stacks and the files that each is recognised by."""

    usage = "stacks"
    summary = "the available stacks"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        lines = []
        for stack in ctx.services.projects.recipes.stacks():
            markers = f" ({', '.join(stack.markers)})" if stack.markers else ""
            lines.append(f"- **{stack.name}**: {stack.summary}{markers}")
        if not ctx.services.projects.engine.isolated:
            lines.append("The process engine installs none of them: agents use what this host has.")
        return "\n".join(lines)
