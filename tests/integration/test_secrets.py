"""`huskies secrets` as people use it: with the gateway running, where it holds at once, and without."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from gateway.testing import patience
from tests.support.claude_api import ClaudeApi
from tests.support.huskies import Huskies

OLD, GOOD, OWN = "sk-ant-canary-old", "sk-ant-canary-good", "sk-ant-canary-own"


def config(api: ClaudeApi, **agent: str) -> dict[str, dict[str, Any]]:
    return {"agent": {"kind": "auto", "api_base_url": api.base_url, **agent}}


def nowhere(huskies: Huskies, *canaries: str) -> None:
    """The log, and every file of the state directory but the one for secrets, know nothing of them."""
    files = [path for path in huskies.state.rglob("*") if path.is_file() and path.name != "secrets.json"]
    for file in (huskies.log, *files):
        held = file.read_bytes() if file.exists() else b""
        assert not [canary for canary in canaries if canary.encode() in held], file


@pytest.mark.slow
@pytest.mark.claude
async def test_a_new_key_holds_at_once_and_ends_the_refusal(tmp_path: Path) -> None:
    async with ClaudeApi(require_key=GOOD) as api:
        with Huskies(tmp_path, config(api, api_key=OLD)) as huskies:
            huskies.environment["HUSKIES_GATEWAY__LOG_LEVEL"] = "debug"
            await huskies.start()
            await huskies.send("new project demo", "p")
            waiting = [asyncio.create_task(huskies.send("hello", "m1"))]
            assert "huskies secrets set all api_key" in await huskies.card()
            doctor = (await huskies("doctor")).out
            assert "BROKEN agent: the model key was refused: type `huskies secrets set all api_key`" in doctor
            asked = len(api.requests)
            waiting.append(asyncio.create_task(huskies.send("hello again", "m2")))
            told = ""
            async with asyncio.timeout(30 * patience()):
                for number in itertools.count():
                    if "waiting: “hello again”" in told:
                        break
                    (told,) = (await huskies.send("status", f"s{number}"))["replies"]
            assert len(api.requests) == asked, "a key that is known to be refused is not tried for a minute"

            done = await huskies("secrets", "set", "all", "api_key", stdin=GOOD.encode() + b"\n")
            assert (done.code, done.out) == (0, "api_key of all is set; it is used from the next call on.\n")
            answers = await asyncio.wait_for(asyncio.gather(*waiting), 30 * patience())
            assert [answer["replies"] for answer in answers] == [["stub ok"], ["stub ok"]]
            assert "ok     agent: claude" in (await huskies("doctor")).out
            assert (await huskies.send("hello", "m3"))["replies"] == ["stub ok"]

            api.require_key = OWN
            await huskies("secrets", "set", "demo", "oauth_token", stdin=OWN.encode())
            assert (await huskies.send("hello", "m4"))["replies"] == ["stub ok"]
            assert api.requests[-1].headers["authorization"] == f"Bearer {OWN}"
            assert "oauth-2025-04-20" in api.requests[-1].headers["anthropic-beta"]
            listed = (await huskies("secrets", "list")).out
            assert listed == "all: api_key\ndemo: oauth_token\n"
            assert (await huskies("secrets", "list", "demo")).out == "demo: oauth_token\n"
            assert (await huskies("secrets", "delete", "demo", "oauth_token")).out == "oauth_token of demo is gone.\n"
            assert (await huskies("secrets", "list")).out == "all: api_key\n"
            nowhere(huskies, OLD, GOOD, OWN)


@pytest.mark.slow
@pytest.mark.claude
async def test_without_a_gateway_it_holds_from_the_next_start_on(tmp_path: Path) -> None:
    async with ClaudeApi(require_key=GOOD) as api:
        with Huskies(tmp_path, config(api)) as huskies:
            assert "type: huskies secrets set all api_key" in (await huskies("secrets", "list")).out
            assert "ok     agent: scripted" in (await huskies("doctor")).out
            done = await huskies("secrets", "set", "-", "api_key", stdin=GOOD.encode() + b"\r\n")
            assert (done.code, "from the next start on" in done.out) == (0, True)
            assert "ok     agent: claude" in (await huskies("doctor")).out
            assert (huskies.state / ".gateway" / "secrets.json").stat().st_mode & 0o777 == 0o600
            await huskies.start()
            assert "Claude answers" in (await huskies.send("version", "v"))["replies"][0]
            await huskies.send("new project demo", "p")
            assert (await huskies.send("hello", "m"))["replies"] == ["stub ok"]
            await huskies("secrets", "delete", "all", "api_key")
            assert "You said" in (await huskies.send("hello", "m2"))["replies"][0]
            nowhere(huskies, GOOD)


@pytest.mark.slow
async def test_what_cannot_be_is_refused_in_one_line_that_never_repeats_it(tmp_path: Path) -> None:
    with Huskies(tmp_path) as huskies:
        for value in (b"", b"\n", b"sk ant\n", b"sk\nant", b"\xff\xfe", b"x" * 100_000):
            done = await huskies("secrets", "set", "all", "api_key", stdin=value)
            assert "nothing came" in done.complaint or "that is not a key" in done.complaint
            assert "ant" not in done.complaint
        for project in ("../x", "Demo", ""):
            assert "huskies projects" in (await huskies("secrets", "set", project, "api_key", stdin=b"k")).complaint
        assert "the keys are" in (await huskies("secrets", "set", "all", "password", stdin=b"k")).complaint
        assert "secrets list" in (await huskies("secrets", "delete", "demo", "api_key")).complaint
        assert not (huskies.state / ".gateway" / "secrets.json").exists()
        await huskies.start()
        assert "there is no project typo" in (await huskies("secrets", "set", "typo", "api_key", stdin=b"k")).complaint
        await huskies.stop()
        (huskies.state / ".gateway" / "secrets.json").write_text("{}")
        (huskies.state / ".gateway" / "secrets.json").chmod(0o644)
        assert "chmod 600" in (await huskies("secrets", "list")).complaint
        assert "chmod 600" in (await huskies("run", "--pipe", stdin=b"")).complaint
