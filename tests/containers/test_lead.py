"""What a person who knows no command gets from one room, with a lead: `docs/lead.md`, byte for byte.

HUSKIES_WRITE_LEAD=1 python -m pytest tests/containers/test_lead.py      writes the page anew
"""

from __future__ import annotations

import asyncio
import getpass
import os
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import patience
from tests.support import databases
from tests.support.claude_api import ClaudeApi
from tests.support.containers import ContainerGateway, as_here
from tests.support.git_server import GitServer

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "lead.md"
WISH = "please make a project from {url} and have the tests run each morning"
WORK = "Run your tests each weekday at 8:30, and say only what fails. Make a schedule for that."
#: What people read in the room, oldest first.
READ = (
    "SELECT text FROM outbox JOIN conversations ON conversations.id = conversation_id "
    "WHERE transport = 'cli' AND kind = 'reply' AND text != '' ORDER BY outbox.id"
)
HEAD = """\
# From one room, without a command

A person who knows no command writes to the lead (`new project chief --lead` made it). The lead knows the commands; what
changes something is asked first. This is what the person reads, in a chat that shows plain text; Claude runs in both
containers, and what it says here is scripted. The page is made by a test.

"""


def call(command: str, text: str = "") -> dict[str, Any]:
    return {"text": text, "tools": [{"name": "mcp__huskies__huskies", "input": {"command": command}}]}


async def test_a_wish_becomes_a_project_and_a_schedule(engine: None, tmp_path: Path) -> None:
    async with ClaudeApi(require_key="k") as api, GitServer(tmp_path / "git", token="t") as git:
        url = await git.repository("web", {"Makefile": "test:\n\ttrue\n"})
        api.plays["make a project from"] = [
            call(f"new project web --git {url}", "I will make a project `web` from that repository."),
            call(f"ask web {WORK}"),
            {"text": "`web` is there, and its tests run each weekday at 8:30. What fails, you read here."},
        ]
        api.plays[WORK] = [
            call("every weekdays 8:30 run the tests with `make test`; if all pass, call quiet --quiet"),
            {"text": "Done: each weekday at 8:30, and I only write if something fails."},
        ]
        settings: dict[str, dict[str, Any]] = {
            "agent": {"kind": "claude", "api_key": "k", "api_base_url": api.base_url},
            "people": {f"cli:{getpass.getuser()}": {"name": "Ana", "tz": "Europe/Berlin"}},
            "git": {"user_name": "T", "user_email": "t@e.org", "tokens": {git.host: "t"}},
            "build": as_here(tmp_path / "authorities"),
        }
        with ContainerGateway(tmp_path, settings) as gateway:
            gateway.environment["SSL_CERT_FILE"] = str(git.ca_file)
            await gateway.start()
            assert "chief leads:" in await gateway.said("new project chief --lead", "p")
            wish = WISH.format(url=url)
            asking = asyncio.create_task(gateway.send_surely(wish, "m1"))
            await gateway.card(60)
            await gateway.said("allow", "m2")
            await asyncio.wait_for(asking, 200 * patience())
            read = databases.rows(gateway.state, READ)
            assert await gateway.logs_in("web", "cat Makefile") == "test:\n\ttrue\n"
            assert "weekdays 8:30" in await gateway.said("schedules web", "s")
        said = [("You", wish)]
        leads = next(number for number, (text,) in enumerate(read) if "chief leads:" in text)
        for (text,) in read[leads + 1 :]:
            said += [("huskies", text), *([("You", "allow")] if "The gateway asks" in text else [])]
        page = HEAD + "\n".join(f"**{who}**\n\n{_quoted(text)}\n" for who, text in said if text.strip())
        page = page.replace(git.host, "git.example.org")
        page = re.sub(r"\w{3} \d{4}-\d\d-\d\d 08:30", "Mon 2026-12-07 08:30", page)
        if os.environ.get("HUSKIES_WRITE_LEAD"):
            PAGE.write_text(page)
        assert page == PAGE.read_text()


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
