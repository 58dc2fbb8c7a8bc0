"""What a gateway writes into its audit, and what its operator makes of it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.huskies import Huskies


async def test_the_story_of_a_morning(tmp_path: Path) -> None:
    config = {"agent": {"kind": "scripted", "permissions": "ask"}}
    with Huskies(tmp_path, config) as huskies:
        await huskies.start()
        assert "is ready" in (await huskies("send", "new project demo")).out
        assert (await huskies("send", "hello")).out == "You said:\nhello\n"
        assert (await huskies("send", "delete nothing")).code == 1
        assert (await huskies("secrets", "set", "demo", "api_key", stdin=b"sk-ant-a-secret\n")).code == 0
        told = (await huskies("send", "audit")).out
        assert "typed `new project demo`" in told and "`new project demo`: answered" in told
        assert "(demo) api_key was set" in told
        assert "sk-ant-a-secret" not in told
        assert "hello" not in told, "a prompt is no command; it is in the inbox"
        assert "takes an age" in (await huskies("send", "audit --since soon")).out
        verified = await huskies("audit", "verify")
        assert verified.code == 0 and "each as it was written" in verified.out
        exported = [json.loads(line) for line in (await huskies("audit", "export")).out.splitlines()]
        assert [row["id"] for row in exported] == list(range(1, len(exported) + 1))
        assert {row["kind"] for row in exported} == {"command", "done", "secret"}
        assert exported[0]["actor"].startswith("cli:") and exported[0]["detail"]["role"] == "operator"
        assert (await huskies("audit", "export", "--since", "2999-01-01")).out == ""
        assert "takes a date" in (await huskies("audit", "export", "--since", "x")).complaint
        assert await huskies.stop() == 0
        assert (await huskies("audit", "verify")).code == 0, "without a gateway, too"
        assert (await huskies("secrets", "set", "all", "oauth_token", stdin=b"sk-ant-oat01-another\n")).code == 0
        assert (await huskies("secrets", "delete", "demo", "api_key")).code == 0
        assert (await huskies("secrets", "delete", "demo", "api_key")).code != 0
        rows = [json.loads(line) for line in (await huskies("audit", "export")).out.splitlines()]
        secrets = [(row["project"], row["text"]) for row in rows if row["kind"] == "secret"]
        assert secrets == [("demo", "api_key was set"), ("", "oauth_token was set"), ("demo", "api_key was removed")]
        assert (await huskies("audit", "verify")).code == 0
