"""revoke: take back what was allowed for a session."""

from __future__ import annotations

from gateway.chat.text import code
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import questions


class Revoke:
    """Takes back what was allowed "for this session" in the active project: the one with that number in `permissions`,
    or all. `revoke #12` means one by the number that it has everywhere. From then on the agent asks again."""

    usage = "revoke [rule]"
    summary = "take back what was allowed for a session"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        rules = await ctx.services.store.read(lambda c: questions.rules_of(c, project.id))
        if not rules:
            return f"Nothing to revoke: nothing is allowed for a session of {project.name}."
        chosen = ctx.get("rule")
        if chosen is not None and chosen.startswith("#"):
            rules = [rule for rule in rules if rule.id == int(chosen.removeprefix("#"))]
            if not rules:
                raise UserError(
                    f"Nothing is allowed in {project.name} by that number any more; `permissions` lists what is."
                )
        elif chosen is not None:
            if not 1 <= int(chosen) <= len(rules):
                raise UserError(f"Choose a number from 1 to {len(rules)}; `permissions` lists them.")
            rules = [rules[int(chosen) - 1]]
        await ctx.services.store.write(lambda c: questions.drop_rules(c, [rule.id for rule in rules]))
        return "\n".join(f"No longer allowed without asking: {code(rule.rule)}" for rule in rules)
