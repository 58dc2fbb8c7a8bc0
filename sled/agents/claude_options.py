"""How Claude is started for a run: permissions, settings and what it is told besides the prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claude_agent_sdk import ClaudeAgentOptions, HookMatcher
from claude_agent_sdk.types import McpHttpServerConfig, McpServerConfig, McpStdioServerConfig, SystemPromptPreset

from sled.agents import allows, session_environment
from sled.agents.chosen import address, skills, token
from sled.agents.claude_asking import hold, permission
from sled.agents.claude_tools import SERVER, server
from sled.agents.memory import project_memory
from sled.protocol import McpServer, Run, Warm
from sled.turn import Turn

#: Bytes of one line of the CLI: a large image is one line, and the SDK's default of 1 MiB kills the run.
_MAX_LINE = 2**25

#: The variable with what opens the relay, for the CLI's configuration: it keeps its own credentials out of that.
_TOKEN = "HUSKIES_RELAY"

#: These outlive the turn or begin turns by themselves, when no run could answer for them.
_UNATTENDED = ["CronCreate", "CronDelete", "CronList", "Monitor", "ScheduleWakeup", "Workflow"]


@dataclass(frozen=True)
class Setup:
    """What a connected client was started with; a run that wants another setup needs another client."""

    session: str
    model: str
    permissions: Literal["auto", "ask", "allow"]
    isolated: bool
    #: What it is told of the commands that it may use.
    door: str = ""
    mcp: tuple[McpServer, ...] = ()

    @classmethod
    def of(cls, run: Run | Warm) -> Setup:
        return cls(run.session, run.model, run.permissions, run.isolated, run.door, tuple(run.mcp))

    @property
    def allows(self) -> bool:
        """Whether tools that write or run are allowed."""
        return allows(self.permissions, self.isolated)

    @property
    def trusts_project(self) -> bool:
        """Whether the repository's own settings count; their hooks run before any permission is asked."""
        return self.isolated and self.permissions in ("auto", "allow")


def options(
    setup: Setup, workspace: Path, resume: str, turn: Callable[[], Turn | None], stderr: Callable[[str], None]
) -> ClaudeAgentOptions:
    """The SDK's options. `turn` returns the run under way; outside of a run nothing is allowed."""
    prompt = SystemPromptPreset(type="preset", preset="claude_code", snapshot=False)
    if memory := project_memory(workspace, trusted=setup.trusts_project):
        prompt["append"] = memory
    return ClaudeAgentOptions(
        cwd=workspace,
        model=setup.model or None,
        resume=resume or None,
        system_prompt=prompt,
        setting_sources=["project"] if setup.trusts_project else [],
        strict_mcp_config=not setup.trusts_project,
        mcp_servers={**{one.name: _chosen(one) for one in setup.mcp}, SERVER: server(workspace, turn, setup.door)},
        plugins=[{"type": "local", "path": str(folder)}] if (folder := skills()) else [],
        can_use_tool=permission(setup.allows, turn),
        hooks={"PreToolUse": [HookMatcher(hooks=[hold(turn)])]},
        disallowed_tools=_UNATTENDED,
        include_partial_messages=True,
        max_buffer_size=_MAX_LINE,
        env={
            "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
            **session_environment(setup.session),
            **({_TOKEN: token()} if any(not one.command for one in setup.mcp) else {}),
        },
        stderr=stderr,
    )


def _chosen(server: McpServer) -> McpServerConfig:
    """How the CLI gets at a server that an operator chose."""
    if server.command:
        program, *words = server.command
        return McpStdioServerConfig(type="stdio", command=program, args=words, env=server.env)
    # The CLI puts the variable in: its command line, which has all this, can be read by every user of the host.
    bearer = f"Bearer ${{{_TOKEN}}}"
    return McpHttpServerConfig(type="http", url=address(server.name), headers={"Authorization": bearer})
