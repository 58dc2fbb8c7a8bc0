"""help: what you can type, read from the table."""

from __future__ import annotations

from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level, words_of
from gateway.intake import Command, CommandContext

_INTRODUCTION = (
    "Plain text goes to the agent of the active project; `prompt <words>` sends words that look like a command. "
    "Commands:"
)


class Help:
    """On its own: every command that you may use. With a command: what that one does."""

    usage = "help [command...]"
    summary = "what you can type here"
    role = Role.MEMBER
    level: Level = "free"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        mine = _of(ctx)
        wanted = ctx.get("command")
        if wanted is None:
            if ctx.agent:
                return ctx.services.powers.told(ctx.services.projects.get(ctx.agent).id)
            lines = [f"- `{command.usage}` - {command.summary}" for command in mine]
            return "\n".join([_INTRODUCTION, "", *lines])
        for command in mine:
            if f"{command.usage} ".startswith(f"{' '.join(wanted.lower().split())} "):
                return describe(command)
        raise UserError(f"There is no command {wanted}. Type `help` to see them all.")


def _of(ctx: CommandContext) -> list[Command]:
    """The commands that whoever asks may use."""
    if not ctx.agent:
        mine = [command for command in ctx.services.commands if command.role <= ctx.role]
        return [command for command in mine if not getattr(command, "agents_only", False)]
    own = ctx.services.projects.get(ctx.agent)
    usable = {words_of(command) for command, _ in ctx.services.powers.usable(own.id)}
    return [command for command in ctx.services.commands if words_of(command) in usable]


def describe(command: Command) -> str:
    """The long help of a command: its usage and its docstring."""
    words = " ".join((type(command).__doc__ or "").split())
    return f"`{command.usage}`\n\n{words}"
