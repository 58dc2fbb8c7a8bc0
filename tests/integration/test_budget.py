"""The day's budget with the real CLI: its call waits for an operator's answer, and the turn with it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from tests.support.claude_api import ClaudeApi, script
from tests.support.house import House, house, make_settings

pytestmark = [pytest.mark.claude, pytest.mark.timeout(90)]
#: Enough to begin a turn, and less than the first call of these costs.
BUDGET = 0.01
TWO_CALLS = script(
    {"tools": [{"name": "Read", "input": {"file_path": "nothing"}}], "usage": {"output_tokens": 10_000}},
    {"text": "a second answer"},
)


@contextlib.asynccontextmanager
async def home(tmp_path: Path) -> AsyncIterator[tuple[House, ClaudeApi]]:
    async with ClaudeApi() as api:
        agent = {"kind": "claude", "api_key": "sk-ant-budget", "api_base_url": api.base_url}
        settings = make_settings(tmp_path, agent={**agent, "budget_usd_per_project_day": BUDGET})
        async with house(tmp_path, engine=ProcessEngine(host_environment()), settings=settings) as made:
            await made.ask("new project demo", contains="is ready", within_s=60)
            yield made, api


async def test_a_call_after_the_budget_goes_out_when_an_operator_allows_more(tmp_path: Path) -> None:
    async with home(tmp_path) as (made, api):
        await made.say(f"hello {TWO_CALLS}")
        await made.transport.until(lambda texts: any("of 0.01 USD used today" in text for text in texts), 30)
        assert len(api.main) == 1
        await made.say("+5")
        await made.transport.until(lambda texts: "a second answer" in texts, 30)
        spent, most = made.app.admission.left(made.app.projects.get("demo").id)
        assert most == 5.01
        assert 0.25 < spent < 5.0, "as it was metered"


async def test_a_call_that_an_operator_says_no_to_ends_the_turn_and_says_why(tmp_path: Path) -> None:
    async with home(tmp_path) as (made, api):
        await made.say(f"hello {TWO_CALLS}")
        await made.transport.until(lambda texts: any("USD used today" in text for text in texts), 30)
        await made.say("no")
        texts = await made.transport.until(lambda texts: any("The run failed" in text for text in texts), 30)
        assert any("today's budget is used up, and an operator said no to more" in text for text in texts)
        assert not any("model key was refused" in text for text in texts)
        assert len(api.main) == 1
