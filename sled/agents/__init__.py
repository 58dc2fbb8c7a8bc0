"""Agents: what answers a prompt. A runner hosts one agent for one session, turn after turn.

An agent is chosen by name from `AGENTS`; its module is imported only by the runner that hosts it. `acp:<command>` is
any program that speaks the Agent Client Protocol.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Protocol

from sled.protocol import Finished, Warm
from sled.turn import Turn

SESSION_HEADER = "x-huskies-session"
#: name -> (module with a `create` function, package that must be installed for it)
AGENTS = {
    "scripted": ("sled.agents.scripted", ""),
    "claude": ("sled.agents.claude", "claude_agent_sdk"),
    "acp": ("sled.agents.acp", "acp"),
}


class Agent(Protocol):
    """One dialogue. Calls to one agent never overlap, except `interrupt` and `steer` during `run`."""

    @property
    def pids(self) -> Collection[int]:
        """The processes that are the agent itself; what they started goes with them."""

    async def prepare(self, warm: Warm) -> None:
        """A run is likely soon: begin to start what it needs, and return. It may begin before that has started."""

    async def run(self, turn: Turn) -> Finished:
        """Answer `turn.run.prompt`: emit `Started` first, then what happens, and return how it ended.

        What goes wrong in the agent or its model is an ending (`failed`), not an exception.
        """

    async def interrupt(self) -> None:
        """Ask the run to end now; `run` then returns with ending `interrupted`, reason `stopped`."""

    async def steer(self, text: str) -> bool:
        """Hand `text` into the run that is under way; False when this agent cannot."""

    async def close(self) -> None:
        """Let go of everything; the agent is not used again."""


def allows(permissions: Literal["auto", "ask", "allow"], isolated: bool) -> bool:
    """Whether tools that write or run are allowed without asking."""
    return permissions == "allow" or (permissions == "auto" and isolated)


def session_environment(session: str) -> dict[str, str]:
    """Makes each call to the model's API tell the gateway, in a header, which session it belongs to."""
    return {"ANTHROPIC_CUSTOM_HEADERS": f"{SESSION_HEADER}: {session}"}


def available() -> list[str]:
    """The agents that can run here."""
    return [name for name, (_, needs) in AGENTS.items() if not needs or importlib.util.find_spec(needs)]


def takes_long_to_load(name: str) -> bool:
    """Whether an agent's package is worth loading before anybody writes; False for a name that is unknown."""
    return bool(AGENTS.get(name.partition(":")[0], ("", ""))[1])


def load(kind: str) -> Any:
    """An agent's module: takes seconds where its SDK is large. Raises KeyError (unknown), ImportError (no SDK)."""
    return importlib.import_module(AGENTS[kind][0])


def create(name: str, workspace: Path) -> Agent:
    """A fresh agent working in `workspace`. Raises KeyError (unknown name), ImportError (its SDK is missing)."""
    kind, _, command = name.partition(":")
    if bool(command.strip()) is not (kind == "acp"):
        raise KeyError(name)
    made = load(kind)
    agent: Agent = made.create(workspace, command) if command else made.create(workspace)
    return agent
