"""audit: who did what."""

from __future__ import annotations

import time

from gateway import clock
from gateway.chat.text import code, inline
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store.audit import Entry, newest

#: Rows that one reply shows, and characters of each.
_ROWS, _TEXT = 30, 160
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


class Audit:
    """The newest rows of the audit, at most 30: commands with their outcome, what agents asked and what they were
    answered, and which secrets were set; of one project, if you name it. `--since 2h` (or `30m`, `7d`) leaves out what
    is older. `huskies audit export` has everything, and `huskies audit verify` finds what was changed afterwards."""

    usage = "audit [project] [--since <age>]"
    summary = "who did what: commands, questions, answers"
    role = Role.OPERATOR
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        project, age = ctx.get("project") or "", ctx.get("since")
        since = 0.0 if age is None else clock.now() - _seconds(age)
        found = await ctx.services.store.read(lambda c: newest(c, _ROWS + 1, project=project, since=since))
        if not found:
            return "The audit has nothing of that."
        lines = [_line(entry) for entry in found[-_ROWS:]]
        if len(found) > _ROWS:
            lines.insert(0, "- … `huskies audit export` has what came before")
        return "\n".join(["**Audit**", *lines])


def _seconds(age: str) -> float:
    if not age[:-1].isdecimal() or age[-1:] not in _UNITS:
        raise UserError("--since takes an age: `30m`, `2h` or `7d`.")
    return int(age[:-1]) * _UNITS[age[-1]]


def _line(entry: Entry) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    words = code(inline(entry.text)[:_TEXT])
    told = {
        "command": f"typed {words}",
        "done": f"{words}: {entry.detail.get('fate', '')}",
        "question": f"asked {words}, for {entry.word or 'the gateway'}",
        "answer": f"answered: {inline(entry.text)}",
        "secret": inline(entry.text),
    }[entry.kind]
    where = f" ({entry.project})" if entry.project else ""
    return f"- {at} {inline(entry.actor)}{where} {told}"
