"""The real Claude CLI on a stub of its model, for the tests that are marked `claude`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sled.agents.claude import create
from tests.support.claude_api import ClaudeApi
from tests.support.claude_cli import cli_processes, private_environment
from tests.support.talk import Conversation


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClaudeApi]:
    async with ClaudeApi(require_key="wire-token") as api:
        private_environment(tmp_path, monkeypatch, api.base_url, "wire-token")
        yield api
    assert cli_processes() == []


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
async def talk(api: ClaudeApi, workspace: Path) -> AsyncIterator[Conversation]:
    conversation = Conversation(create(workspace))
    yield conversation
    await conversation.agent.close()
