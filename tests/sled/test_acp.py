"""Any agent that speaks the Agent Client Protocol: a real one in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from sled.agents import available, create
from sled.agents.acp_events import choose, rule
from sled.protocol import McpServer, Note, Question, Started, TextDelta, Tool, ToolDone, Withdrawn
from tests.support import acp_agent
from tests.support.order import Details
from tests.support.processes import alive, command_line, until
from tests.support.talk import Conversation
from tests.support.yard import make_yard

PROGRAM = Path(__file__).parent.parent / "support" / "acp_agent.py"
COMMAND = f"{sys.executable} {PROGRAM}"
ASK: Details = {"permissions": "ask", "isolated": True}


def agents() -> list[psutil.Process]:
    """The agents that this process started and that live."""
    return [child for child in psutil.Process().children() if alive(child.pid) and str(PROGRAM) in command_line(child)]


def conversation(workspace: Path, *options: str) -> Conversation:
    return Conversation(create(f"acp:{' '.join((COMMAND, *options))}", workspace), "acp")


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Conversation]:
    made = conversation(tmp_path)
    yield made
    await made.agent.close()
    assert agents() == []


def test_it_is_offered_and_wants_a_command(tmp_path: Path) -> None:
    assert "acp" in available()
    for name in ("acp", "acp:", "acp: ", "scripted:x"):
        with pytest.raises(KeyError):
            create(name, tmp_path)


async def test_a_turn_streams_uses_tools_and_is_accounted_for(talk: Conversation) -> None:
    end = await talk.run("@@say let me see\n@@tool read a.txt\n@@say all is well\n@@cost 0.5")
    assert talk.events[0] == Started(agent_session=end.agent_session)
    assert (end.ending, end.text) == ("answered", "all is well")
    assert "".join(e.delta for e in talk.of(TextDelta)) == "let me see \n\nall is well "
    assert [(tool.name, tool.detail) for tool in talk.of(Tool)] == [("read", "a.txt")]
    assert [done.failed for done in talk.of(ToolDone)] == [False]
    kinds = [type(event) for event in talk.events]
    assert kinds.index(TextDelta) < kinds.index(Tool) < kinds.index(ToolDone)
    assert (end.input_tokens, end.output_tokens, end.cache_read_tokens) == (10, 5, 3)
    assert (end.cost_usd, end.tools) == (0.5, {"read": 1})


async def test_a_warm_turn_uses_the_same_process_and_costs_its_own_share(talk: Conversation) -> None:
    first = await talk.run("@@cost 0.5")
    [process] = agents()
    second = await talk.run("@@recall\n@@cost 0.75", resume=first.agent_session)
    assert agents() == [process]
    assert second.text.startswith("<context> / Files that you put into .huskies/outbox/")
    assert (second.cost_usd, second.agent_session) == (0.25, first.agent_session)


async def test_facts_and_news_are_told(talk: Conversation) -> None:
    first = await talk.run("@@say x", context="Ana writes.", news="a.txt changed")
    second = await talk.run("@@recall", context="Ana writes.", news="b.txt changed", resume=first.agent_session)
    assert second.text.count("Ana writes.") == 1 and "a.txt changed" in second.text
    third = await talk.run("@@recall", context="Ana writes.", resume=first.agent_session)
    assert third.text.count("Ana writes.") == 1 and "b.txt changed" in third.text


@pytest.mark.parametrize("allow", [True, False])
async def test_a_person_allows_or_not_once(talk: Conversation, tmp_path: Path, allow: bool) -> None:
    run = talk.start(f"@@edit {tmp_path}/a.txt", **ASK)
    asked = await talk.asked()
    assert (asked.kind, asked.rule) == ("permission", "edit files")
    assert asked.tool.startswith("edit: Edit ")
    assert json.loads(asked.arguments)["rawInput"] == {"path": f"{tmp_path}/a.txt", "content": "new text"}
    assert isinstance(talk.events[1], Tool), "what it is about is told before the question"
    talk.decide(asked, allow)
    assert (await run).text == ("[yes]" if allow else "[no]")
    assert (tmp_path / "a.txt").exists() is allow
    assert talk.of(Withdrawn) == []


async def test_the_mode_may_allow_all(talk: Conversation) -> None:
    end = await talk.run("@@ask ls", permissions="auto", isolated=True)
    assert end.text == "[yes]" and talk.of(Question) == []


async def test_stop_cancels_and_leaves_a_warm_process(talk: Conversation) -> None:
    run = talk.start("@@say busy\n@@hang")
    await talk.seen(lambda event: isinstance(event, TextDelta))
    stopped = await talk.interrupted(run)
    assert stopped.text == "busy"
    [process] = agents()
    assert (await talk.run("@@say back", resume=stopped.agent_session)).text == "back"
    assert agents() == [process]


async def test_stop_while_it_asks(talk: Conversation) -> None:
    run = talk.start("@@ask ls", **ASK)
    asked = await talk.asked()
    await talk.interrupted(run)
    assert talk.of(Withdrawn) == [Withdrawn(question=asked.id)]
    assert asked.rule == "Run: ls"


async def test_stop_while_it_waits_to_be_ready(talk: Conversation) -> None:
    run = talk.start("@@say x", held=True)
    await talk.seen(lambda event: isinstance(event, Started))
    await talk.interrupted(run)
    assert talk.of(TextDelta) == []


async def test_a_dead_process_is_replaced_and_remembers(talk: Conversation) -> None:
    first = await talk.run("@@say one")
    crashed = await talk.run("@@say two\n@@crash", resume=first.agent_session)
    assert (crashed.ending, crashed.reason, crashed.error) == ("failed", "crashed", "out of luck")
    assert crashed.agent_session == first.agent_session
    again = await talk.run("@@recall", resume=crashed.agent_session)
    assert "@@say one" in again.text and "replayed" not in again.text
    assert "replayed" not in str(talk.events) and again.notes == []
    [process] = agents()
    process.kill()
    await until(lambda: not alive(process.pid))
    assert "@@say one" in (await talk.run("@@recall", resume=crashed.agent_session)).text


@pytest.mark.parametrize("option", ["", "--no-load"])
async def test_a_lost_dialogue_is_told(tmp_path: Path, option: str) -> None:
    talk = conversation(tmp_path, option)
    end = await talk.run("@@say x", resume="gone")
    await talk.agent.close()
    assert (end.ending, end.text) == ("answered", "x")
    assert end.agent_session not in ("", "gone")
    assert end.notes == [talk.of(Note)[0].text] == ["the earlier dialogue could not be found; starting a new one"]


async def test_the_model_is_chosen(talk: Conversation) -> None:
    assert (await talk.run("@@model", model="large")).text == "large"
    end = await talk.run("@@model", model="huge")
    assert end.text == "standard"
    assert "does not accept the model huge" in end.notes[0]


@pytest.mark.parametrize(
    ("prompt", "error"),
    [("@@stop refusal", "the model refused"), ("@@stop max_tokens", "maximum length"), ("@@fail", "Internal error")],
)
async def test_other_ends_are_failures(talk: Conversation, prompt: str, error: str) -> None:
    end = await talk.run(f"@@say so far\n{prompt}")
    assert (end.ending, end.text) == ("failed", "so far")
    assert error in end.error
    assert (await talk.run("@@say x", resume=end.agent_session)).text == "x"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("no-such-agent --acp", "`no-such-agent` is not installed in this project"),
        ("/etc/passwd", "`/etc/passwd` is not installed in this project (permission denied)"),
        ("'unfinished", "cannot be read"),
    ],
)
async def test_an_agent_that_is_not_there(tmp_path: Path, command: str, told: str) -> None:
    end = await Conversation(create(f"acp:{command}", tmp_path), "acp").run("x")
    assert (end.ending, end.reason) == ("failed", "no_agent")
    assert told in end.error


@pytest.mark.parametrize(("option", "told"), [("--login", "asks for a login"), ("--babble", "closed the connection")])
async def test_an_agent_that_does_not_start(tmp_path: Path, option: str, told: str) -> None:
    talk = conversation(tmp_path, option)
    end = await talk.run("x")
    await talk.agent.close()
    assert end.ending == "failed" and told in end.error
    assert agents() == []


async def test_a_deaf_agent_is_killed_with_its_runner() -> None:
    async with make_yard() as yard:
        yard.sled()
        await yard.arrival()
        name = f"acp:{yard.home}/agent"
        (yard.home / "agent").write_text(f"#!/bin/sh\nexec {COMMAND}\n")
        (yard.home / "agent").chmod(0o755)
        run = await yard.run("@@say go\n@@deaf", agent=name)
        await yard.gateway.said(run, "go")
        assert (await yard.stop(run)).reason == "stopped"
        allowed = await yard.run("@@ask ls", agent=name, permissions="ask")
        await yard.decide(allowed, await yard.asked(allowed), True)
        assert (await yard.gateway.finished(allowed)).text == "[yes]"


def test_rules_and_choices() -> None:
    assert rule({"kind": "execute", "rawInput": {"command": ["bash", "-lc", "ls -l"]}}) == "Run: bash -lc 'ls -l'"
    assert rule({"kind": "execute", "rawInput": {"command": "ls"}}) == "Run: ls"
    assert rule({"kind": "execute", "rawInput": {"command": "x" * 600}}) == ""
    assert rule({"kind": "execute", "title": "ls"}) == rule({"kind": "fetch"}) == rule({}) == ""
    assert rule({"kind": "delete"}) == "edit files"
    assert (choose(acp_agent.OPTIONS, True), choose(acp_agent.OPTIONS, False)) == ("yes", "no")
    assert (choose(acp_agent.OPTIONS[:1], True), choose(acp_agent.OPTIONS[:1], False)) == ("always", None)


# --- servers and skills that an operator chose -----------------------------------------------------------------------

CHOSEN = [McpServer(name="local", command=["program", "-y"], env={"LEVEL": "warn"}), McpServer(name="far")]


async def test_it_gets_the_servers_that_an_operator_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "wire-token")
    talk = conversation(tmp_path, "--http")
    try:
        end = await talk.run("@@servers", mcp=CHOSEN)
        local, far = map(json.loads, end.text.splitlines())
        env = [{"name": "LEVEL", "value": "warn"}]
        assert local == {"name": "local", "command": "program", "args": ["-y"], "env": env}
        header = {"name": "Authorization", "value": "Bearer wire-token"}
        assert far == {"name": "far", "type": "http", "url": "http://127.0.0.1:1/mcp/far", "headers": [header]}
        [process] = agents()
        assert "wire-token" not in command_line(process)
        assert end.notes == []
        again = await talk.run("@@servers", resume=end.agent_session, mcp=CHOSEN)
        assert agents() == [process] and again.text == end.text
        other = await talk.run("@@servers", resume=end.agent_session, mcp=CHOSEN[:1])
        assert len(other.text.splitlines()) == 1 and agents() != [process], "another one for other servers"
    finally:
        await talk.agent.close()


async def test_one_that_takes_no_http_goes_without_and_says_so_once(talk: Conversation) -> None:
    end = await talk.run("@@servers", mcp=CHOSEN)
    assert [json.loads(line)["name"] for line in end.text.splitlines()] == ["local"]
    assert end.notes == ["this agent takes no servers over HTTP, so it goes without far"]
    assert [note.text for note in talk.of(Note)] == end.notes
    end = await talk.run("@@servers", resume=end.agent_session, mcp=CHOSEN)
    assert end.notes == [] and talk.of(Note) == []


async def test_it_is_told_where_skills_are(tmp_path: Path, talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    skill = tmp_path / "chosen" / "skills" / "release-notes" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    skill.write_text("---\nname: release-notes\n---\n")
    monkeypatch.setenv("HUSKIES_SKILLS", str(tmp_path / "chosen"))
    first = await talk.run("hello")
    told = (await talk.run("@@recall", resume=first.agent_session)).text
    assert f"read its file {tmp_path}/chosen/skills/<name>/SKILL.md: release-notes." in told
