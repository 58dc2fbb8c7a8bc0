"""permissions: what a project's agents may do without asking."""

from __future__ import annotations

from gateway.chat.text import code
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import questions

_MEANING = {
    "auto": "in a container every tool is allowed; without one, the agent asks before each tool that writes or runs",
    "ask": "the agent asks before each tool that writes or runs",
    "allow": "every tool is allowed",
}


class Permissions:
    """Shows or, for operators, sets what the agents of the active project may do. `auto`: every tool in a container,
    the same as `ask` without one. `ask`: the agent asks in the conversation before each tool that writes or runs.
    `allow`: everything. Also lists what was allowed for sessions; `revoke` takes that back."""

    usage = "permissions [auto|ask|allow]"
    summary = "show or set what the agents may do"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project = await ctx.active_project()
        mode = ctx.get("auto|ask|allow")
        if mode is None:
            rules = await ctx.services.store.read(lambda c: questions.rules_of(c, project.id))
            lines = [f"{project.name}: {project.permissions} - {_MEANING[project.permissions]}."]
            if rules:
                lines.append("Allowed for a session (`revoke 1` takes back the first, `revoke` all of them):")
            lines += [
                f"{number}. {code(rule.rule)} ({'asked by the gateway; ' if rule.own else ''}"
                f"by {rule.allowed_by.partition(':')[2]}, in {rule.conversation.room})"
                for number, rule in enumerate(rules, 1)
            ]
            return "\n".join(lines)
        if ctx.role < Role.OPERATOR:
            raise UserError("Only an operator can set permissions.")
        await ctx.services.projects.set_permissions(project, mode)
        return f"{project.name}: {mode} from the next run on - {_MEANING[mode]}."
