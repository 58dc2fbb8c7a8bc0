"""What an operator chose for agents: servers of tools, which runs name, and skills, which this process finds.

The variable `SKILLS` names a folder that the agent cannot write to in a container: in its `skills`, each skill is a
folder with a `SKILL.md`.
"""

from __future__ import annotations

import os
from pathlib import Path

#: The variable, and the folder in it that has the skills.
SKILLS, _FOLDER = "HUSKIES_SKILLS", "skills"
#: The variable that the relay's address is in, and those one of which has the project's token, which opens it.
RELAY, _TOKENS = "ANTHROPIC_BASE_URL", ("ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")


def address(server: str) -> str:
    """Where the relay has a server."""
    return f"{os.environ[RELAY]}/mcp/{server}"


def token() -> str:
    """What opens the relay."""
    return next(os.environ[name] for name in _TOKENS if name in os.environ)


def skills() -> Path | None:
    """The folder that has `skills` in it; None where there are none."""
    named = os.environ.get(SKILLS)
    return Path(named) if named and Path(named, _FOLDER).is_dir() else None


def told_of_skills() -> str:
    """What to tell an agent that does not find skills by itself; empty where there are none."""
    where = skills()
    names = sorted(file.parent.name for file in (where / _FOLDER).glob("*/SKILL.md")) if where else []
    if not names:
        return ""
    return (
        f"Before work that one of these skills is about, read its file {where}/{_FOLDER}/<name>/SKILL.md: "
        f"{', '.join(names)}."
    )
