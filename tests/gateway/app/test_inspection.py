"""One platform's check that fails by itself hides nothing of the others', and gives no secret away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import get_args

import pytest

from gateway.app import host, inspection, platforms
from gateway.chat.finding import Finding, broken, ok
from gateway.config import Settings
from gateway.config.sections import TransportsSection

Check = Callable[[Settings], Awaitable[list[Finding]]]
SETTINGS = Settings(
    transports={
        "slack": {"bot_token": "xoxb-canary", "app_token": "xapp-canary"},
        "matrix": {"homeserver": "https://matrix.example.org", "user_id": "@bot:example.org"},
    }
)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Check]:
    """What is called in place of each platform's check."""
    made: dict[str, Check] = {}

    def instead(name: str, settings: Settings) -> Awaitable[list[Finding]]:
        return made[name](settings)

    rows = {name: replace(row, check=partial(instead, name)) for name, row in platforms.PLATFORMS.items()}
    monkeypatch.setattr(inspection, "PLATFORMS", rows)
    return made


async def well(_: Settings) -> list[Finding]:
    return [ok("slack.bot_token")]


async def test_a_bug_in_one_check_is_told_and_the_other_one_stands(
    checks: dict[str, Check], caplog: pytest.LogCaptureFixture
) -> None:
    async def buggy(_: Settings) -> list[Finding]:
        raise KeyError("xoxb-canary")

    checks |= {"slack": well, "matrix": buggy}
    told = await inspection.inspect(SETTINGS, None)
    assert ok("slack.bot_token") in told
    (failed,) = [finding for finding in told if finding.broken]
    assert (failed.name, "KeyError" in failed.text, "canary" in failed.text) == ("matrix", True, False)
    assert "KeyError in test_inspection.py" in caplog.text
    assert "canary" not in caplog.text


async def test_a_package_that_is_missing_is_named(checks: dict[str, Check]) -> None:
    async def bare(_: Settings) -> list[Finding]:
        raise ModuleNotFoundError("No module named 'nio'", name="nio")

    checks |= {"slack": well, "matrix": bare}
    (told,) = [finding for finding in await inspection.inspect(SETTINGS, None) if finding.broken]
    assert "the package nio is missing; type: pip install 'huskies[matrix]'" in told.text


async def test_a_check_that_never_ends_is_ended(checks: dict[str, Check], monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(_: Settings) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(inspection, "PLATFORM_S", 0.1)
    checks |= {"slack": well, "matrix": endless}
    (told,) = [finding for finding in await inspection.inspect(SETTINGS, None) if finding.broken]
    assert "did not answer within 0.1 s" in told.text


async def test_whatever_a_platform_says_is_one_line_with_no_secret_in_it(checks: dict[str, Check]) -> None:
    async def talkative(_: Settings) -> list[Finding]:
        return [broken("slack.bot_token", "no such token:\nxoxb-canary\n")]

    checks |= {"slack": talkative, "matrix": talkative}
    found = [finding for finding in await inspection.inspect(SETTINGS, None) if finding.name != host.NAME]
    assert [finding.text for finding in found] == ["no such token: [secret]"] * 2


def test_each_platform_that_can_be_configured_has_its_row_and_its_guide() -> None:
    sections = {name for name, field in TransportsSection.model_fields.items() if not field.is_required()} - {"console"}
    assert set(platforms.PLATFORMS) == sections
    for name, platform in platforms.PLATFORMS.items():
        guide = platform.guide()
        keys = {step.key for step in guide.steps if step.key}
        section = get_args(TransportsSection.model_fields[name].annotation)[0]
        assert guide.name == name
        assert keys | set(guide.stand_ins) <= set(section.model_fields)
