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

_HEAD = """# Commands

Generated from the code by `make docs`. Commands are plain words, in upper or lower case; everything else goes to the
agent of the active project. A message is a command only if the whole of it fits; a leading `/` forces a command, and
`prompt <words>` sends words to the agent in any case. After a near miss, the bot says what you may have meant and does
nothing.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for command in COMMANDS:
        who = " Operators only." if command.role is Role.OPERATOR else ""
        parts.append(f"## {command.usage.split(' <')[0].split(' [')[0]}\n\n{describe(command)}{who}\n")
    aliases = ", ".join(f"`{alias}` means `{words}`" for alias, words in ALIASES.items())
    parts.append(f"## Other names\n\n{aliases}.\n")
    return "\n".join(parts)


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
