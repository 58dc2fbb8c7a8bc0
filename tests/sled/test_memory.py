"""What a project's files tell its agents: no process is started here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sled.agents.memory import MAX_MEMORY, project_memory


def told(workspace: Path, *, trusted: bool = False) -> str:
    return project_memory(workspace, trusted=trusted)


def test_a_plain_file_is_told_as_text(tmp_path: Path) -> None:
    assert told(tmp_path) == ""
    (tmp_path / "CLAUDE.md").write_bytes(b"a\0b\xff\n")
    assert told(tmp_path) == "The project's CLAUDE.md says:\n\nab\ufffd"
    assert told(tmp_path, trusted=True) == ""
    (tmp_path / "CLAUDE.md").write_bytes(b"\xff" * MAX_MEMORY)
    assert len(told(tmp_path).encode()) < MAX_MEMORY + 200


@pytest.mark.parametrize("name", ["CLAUDE.md", "AGENTS.md"])
def test_neither_links_nor_pipes_are_read(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / name).symlink_to(secret)
    assert told(tmp_path) == ""
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    assert told(tmp_path) == told(tmp_path, trusted=True) == ""


def test_both_share_the_room_and_claude_md_comes_first(tmp_path: Path) -> None:
    claude, agents = tmp_path / "CLAUDE.md", tmp_path / "AGENTS.md"
    claude.write_text("Claude.")
    agents.write_text("Agents.")
    assert told(tmp_path) == "The project's CLAUDE.md says:\n\nClaude.\n\nThe project's AGENTS.md says:\n\nAgents."
    agents.write_text("y" * MAX_MEMORY)
    assert f"{'y' * (MAX_MEMORY - len('Claude.'))}\n[AGENTS.md continues" in told(tmp_path)
    claude.write_text("x" * (MAX_MEMORY + 1))
    text = told(tmp_path)
    assert f"{'x' * MAX_MEMORY}\n[CLAUDE.md continues; read the file for the rest.]" in text
    assert "yy" not in text and "The project's AGENTS.md says:\n\n\n[AGENTS.md continues" in text


def test_what_claude_md_says_already_is_not_said_again(tmp_path: Path) -> None:
    (tmp_path / "CLAUDE.md").write_text("First.\nThe same.\n")
    (tmp_path / "AGENTS.md").write_text("The same.\n")
    assert "AGENTS.md" not in told(tmp_path)
    (tmp_path / "CLAUDE.md").write_text("See @AGENTS.md\n")  # as plain text, it imports nothing
    assert "The same." in told(tmp_path)


@pytest.mark.parametrize(
    ("claude", "tells"),
    [
        (None, False),
        ("Nothing of it.", True),
        ("@AGENTS.md", False),
        ("see\n- @./AGENTS.md.", False),
        ("mail@AGENTS.md", True),
    ],
)
@pytest.mark.parametrize("place", ["CLAUDE.md", ".claude/CLAUDE.md"])
def test_a_trusted_project_s_agents_md_is_told_if_nobody_else_tells_it(
    tmp_path: Path, place: str, claude: str | None, tells: bool
) -> None:
    (tmp_path / ".claude").mkdir()
    (tmp_path / "AGENTS.md").write_text("Agents.")
    if claude is not None:
        (tmp_path / place).write_text(claude)
    assert told(tmp_path, trusted=True) == ("The project's AGENTS.md says:\n\nAgents." if tells else "")


def test_one_file_under_both_names_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("Agents.")
    (tmp_path / "CLAUDE.md").symlink_to("AGENTS.md")
    assert told(tmp_path).count("Agents.") == 1
    assert told(tmp_path, trusted=True) == ""
