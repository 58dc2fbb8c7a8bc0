"""What a test may say of a run besides its prompt, as `Run` has it."""

from __future__ import annotations

from typing import Literal, TypedDict

from sled.protocol import Attached, McpServer

Permissions = Literal["auto", "ask", "allow"]


class Details(TypedDict, total=False):
    """What an agent is told."""

    session: str
    resume: str
    permissions: Permissions
    isolated: bool
    model: str
    context: str
    news: str
    files: list[Attached]
    mcp: list[McpServer]


class Order(Details, total=False):
    """And what a sled is told besides."""

    agent: str
    warm_s: float
