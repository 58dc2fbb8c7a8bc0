"""`docs/commands.md`, made from the table, so that it cannot lie.

python -m commands.page FILE            write it
python -m commands.page --check FILE    fail if it is not up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from commands.help import describe
from commands.table import ALIASES, COMMANDS
from gateway.config import Role
from gateway.hive.powers import words_of

_HEAD = """# Commands

Generated from the code by `make docs`. Commands are plain words, in upper or lower case; everything else goes to the
agent of the active project. A message is a command only if the whole of it fits; a leading `/` forces a command, and
`prompt <words>` sends words to the agent in any case. After a near miss, the bot says what you may have meant and does
nothing.
"""


_LEVELS = """## What agents may do

An agent types commands, too: `huskies <command>` in its project, or the tool `huskies`. A *free* one is carried out at
once; one to *ask* for, once a person allows it on a card, which shows the words and what they would change. The others
are for people, and cannot be granted. All of this is about the agent's own project; `grant` opens others, or spares the
card. A call never may more than the people at whose word the project works just then.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for command in COMMANDS:
        who = " Operators only." if command.role is Role.OPERATOR else ""
        parts.append(f"## {command.usage.split(' <')[0].split(' [')[0]}\n\n{describe(command)}{who}\n")
    parts.append(_levels())
    aliases = ", ".join(f"`{alias}` means `{words}`" for alias, words in ALIASES.items())
    parts.append(f"## Other names\n\n{aliases}.\n")
    return "\n".join(parts)


def _levels() -> str:
    rows: dict[str, list[str]] = {"free": [], "ask": [], "never": []}
    for command in COMMANDS:
        rows[command.level].append(f"`{words_of(command)}`")
    told = {"free": "free", "ask": "ask", "never": "for people"}
    lines = [f"| {told[level]} | {', '.join(words)} |" for level, words in rows.items()]
    return "\n".join([_LEVELS, "| level | commands |", "|---|---|", *lines, ""])


def main(arguments: list[str]) -> int:
    """Write or check the page; the exit code."""
    file = Path(arguments[-1])
    if "--check" not in arguments:
        file.write_text(page())
        return 0
    if file.is_file() and file.read_text() == page():
        return 0
    sys.stderr.write(f"{file} is not up to date; type: make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
