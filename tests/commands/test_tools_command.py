"""`tools` where nothing was chosen, and where each kind was: what is secret is never in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from commands.tools import Tools
from gateway.config.settings import validated
from gateway.intake import CommandContext


async def told(state_dir: Path, servers: dict[str, dict[str, Any]], *, isolated: bool = True) -> str:
    settings = validated({"gateway": {"state_dir": str(state_dir)}, "agent": {"mcp": servers}}, "it")

    async def active() -> SimpleNamespace:
        return SimpleNamespace(name="demo")

    projects = SimpleNamespace(engine=SimpleNamespace(isolated=isolated))
    services = SimpleNamespace(settings=settings, projects=projects)
    return await Tools().run(cast(CommandContext, SimpleNamespace(services=services, active_project=active)))


async def test_where_nothing_was_chosen_it_says_how(tmp_path: Path) -> None:
    text = await told(tmp_path, {"theirs": {"url": "https://mcp.example.org/", "projects": ["shop"]}})
    assert "`[agent.mcp.tracker]`, and below it `url = " in text and "theirs" not in text
    assert f"No skills: an operator writes each as `{tmp_path}/.skills/<name>/SKILL.md`." in text


async def test_each_says_where_it_runs(tmp_path: Path) -> None:
    skill = tmp_path / ".skills" / "notes" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    skill.write_text("---\ndescription: Writes *notes*\n---\n")
    servers: dict[str, dict[str, Any]] = {
        "tracker": {"url": "https://mcp.example.org/mcp/t-path?team=1", "token": "t-canary"},
        "browser": {"command": ["npx", "-y", "a b"]},
    }
    assert await told(tmp_path, servers) == (
        "**Tools of demo**\n"
        "- `browser`: in the container, `npx -y 'a b'`\n"
        "- `tracker`: by the gateway, `mcp.example.org`\n"
        "- skill `notes`: Writes \\*notes\\*, read in the container"
    )
    assert "on this host" in await told(tmp_path, servers, isolated=False)
