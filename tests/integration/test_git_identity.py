"""Whose name commits bear, by one command: for projects that run, that sleep, and that come later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess

CONFIG: dict[str, dict[str, Any]] = {
    "dispatcher": {"coalesce_window_ms": 50},
    "agent": {"kind": "scripted"},
    "git": {"user_name": "", "user_email": ""},
}
ANA, BEN = "Ana O'Neil <ana@example.org>", "Ben <ben@example.org>"


async def said(gateway: GatewayProcess, text: str, number: str) -> str:
    return "\n".join((await gateway.send_surely(text, number))["replies"])


async def author(gateway: GatewayProcess, number: str) -> str:
    """Who a commit in the active project is by."""
    told = await said(
        gateway, "@@run git commit -q --allow-empty -m x && git log -1 --format='%an <%ae>' > who\n@@say k", number
    )
    assert told.endswith("k"), told
    return (gateway.projects / "demo" / "who").read_text().strip()


@pytest.mark.slow
async def test_one_command_sets_it_everywhere(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, CONFIG) as gateway:
        await gateway.start()
        told = await said(gateway, "new project demo", "1")
        assert "commits have no author yet; type `git identity Ana Lovelace <ana@example.org>`" in told
        assert "no author yet. Type" in await said(gateway, "git identity", "2")
        for number, wrong in enumerate(("Ana", "<ana@example.org>", "Ana ana@", "a<b> a@b", "Ana a@b c@d e")):
            assert "Type a name and an address" in await said(gateway, f"git identity {wrong}", f"w{number}")
        assert f"`{ANA}` from now on." in await said(gateway, f"git identity {ANA}", "3")
        assert await author(gateway, "4") == ANA
        assert f"`{ANA}` (typed here)" in await said(gateway, "git identity", "5")

        await said(gateway, "down demo", "6")
        assert "demo will know when started again" in await said(gateway, f"git identity {BEN}", "7")
        await said(gateway, "new project second", "8")
        config = gateway.state / "second" / "home" / ".gitconfig"
        assert "Ben" in config.read_text()
        await said(gateway, "switch demo", "9")
        await said(gateway, "up demo", "10")
        assert await author(gateway, "11") == BEN
        await said(gateway, "@@run git config --global user.name Cat", "12")
        await said(gateway, "restart demo", "13")
        assert await author(gateway, "13b") == "Cat <ben@example.org>", "what people set themselves stays"

        await gateway.stop()
        await gateway.start()
        assert f"`{BEN}` (typed here)" in await said(gateway, "git identity", "14")
        assert "Commits have no author now" in await said(gateway, "git identity default", "15")
        assert "name" not in config.read_text()
        await said(gateway, "git status", "16")  # words for the agent
