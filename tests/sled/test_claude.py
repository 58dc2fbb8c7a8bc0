from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from gateway.testing import patience
from sled.agents.claude import create
from sled.agents.live import TEXT_EVERY_S
from sled.protocol import McpServer, Note, Started, TextDelta, Tool, ToolDone
from tests.support import mcp_server
from tests.support.claude_api import ClaudeApi, script
from tests.support.claude_cli import bash, cli_processes, eventually, write
from tests.support.order import Permissions
from tests.support.talk import Conversation

# --- the real CLI -------------------------------------------------------------------------------------------


@pytest.mark.claude
async def test_text_is_streamed_and_answered(talk: Conversation, api: ClaudeApi) -> None:
    finished = await talk.run(script({"text": "hello " * 20, "delay": 0.02}))

    started = talk.of(Started)
    assert talk.events[0] == started[0]
    assert finished.ending == "answered"
    assert finished.text == "hello " * 20
    assert finished.agent_session == started[0].agent_session
    deltas = [delta.delta for delta in talk.of(TextDelta)]
    assert "".join(deltas) == "hello " * 20
    assert 1 < len(deltas) <= 1 + 0.5 / TEXT_EVERY_S
    assert (finished.input_tokens, finished.cache_read_tokens, finished.output_tokens) == (100, 2000, 50)
    assert finished.model == api.main[0].body["model"]
    assert api.main[0].headers["x-huskies-session"] == "s"
    assert finished.cost_usd > 0
    assert finished.error == finished.reason == ""


@pytest.mark.claude
async def test_a_warm_turn_uses_the_same_process_and_costs_its_own_share(talk: Conversation) -> None:
    first = await talk.run(script({"text": "one"}))
    [cli] = cli_processes()
    second = await talk.run(script({"text": "two"}), resume=first.agent_session)

    assert cli_processes() == [cli]
    assert second.text == "two"
    assert second.agent_session == first.agent_session
    assert second.cost_usd == pytest.approx(first.cost_usd)
    assert second.input_tokens == 100


@pytest.mark.claude
async def test_a_new_agent_resumes(talk: Conversation, api: ClaudeApi, workspace: Path) -> None:
    first = await talk.run(script({"text": "the answer is 42"}))
    await talk.agent.close()
    assert cli_processes() == []

    other = Conversation(create(workspace))
    second = await other.run("and now?", resume=first.agent_session)
    await other.agent.close()

    assert second.agent_session == first.agent_session
    assert "the answer is 42" in str(api.main[-1].messages)
    assert second.cost_usd == pytest.approx(first.cost_usd)
    assert other.of(Note) == []


@pytest.mark.claude
async def test_an_unknown_dialogue_starts_anew_and_says_so(talk: Conversation) -> None:
    finished = await talk.run(script({"text": "hi"}), resume="00000000-0000-4000-8000-000000000000")

    assert (finished.ending, finished.text) == ("answered", "hi")
    assert [type(event) for event in talk.events[:2]] == [Started, Note]
    assert talk.of(Note)[0].text == "the earlier dialogue could not be found; starting a new one"
    assert talk.of(Started)[0].agent_session == finished.agent_session
    assert finished.notes == [talk.of(Note)[0].text]


@pytest.mark.claude
async def test_another_setup_reconnects_to_the_same_dialogue(talk: Conversation, api: ClaudeApi) -> None:
    first = await talk.run(script({"text": "one"}))
    [cli] = cli_processes()
    second = await talk.run(script({"text": "two"}), resume=first.agent_session, model="claude-haiku-4-5")

    assert cli_processes() != [cli]
    assert len(cli_processes()) == 1
    assert second.agent_session == first.agent_session
    assert "haiku" in api.main[-1].body["model"]


@pytest.mark.claude
async def test_an_allowed_tool_runs(talk: Conversation, workspace: Path) -> None:
    target = workspace / "sub" / "a.txt"
    finished = await talk.run(
        script({"text": "look", "tools": [write(target), bash("echo hi >b.txt\nls")]}, {"text": "done"})
    )

    assert target.read_text() == "x"
    assert finished.text == "done"
    assert [(tool.name, tool.detail) for tool in talk.of(Tool)] == [
        ("Write", "sub/a.txt"),
        ("Bash", "echo hi >b.txt"),
    ]
    assert [(done.id, done.failed) for done in talk.of(ToolDone)] == [(tool.id, False) for tool in talk.of(Tool)]
    assert "".join(delta.delta for delta in talk.of(TextDelta)) == "look\n\ndone"


@pytest.mark.claude
async def test_reading_needs_no_permission(talk: Conversation, workspace: Path) -> None:
    (workspace / "a.txt").write_text("x")
    read = {"name": "Read", "input": {"file_path": str(workspace / "a.txt")}}
    await talk.run(script({"tools": [read]}, {"text": "done"}), permissions="ask")

    assert [(tool.name, tool.detail) for tool in talk.of(Tool)] == [("Read", "a.txt")]
    assert [done.failed for done in talk.of(ToolDone)] == [False]


@pytest.mark.claude
async def test_no_tool_outlives_its_turn(talk: Conversation, api: ClaudeApi) -> None:
    await talk.run(script({"text": "hi"}))

    tools = {tool["name"]: tool for tool in api.main[0].body["tools"]}
    assert "run_in_background" not in tools["Bash"]["input_schema"]["properties"]
    deferred = str(api.main[0].messages)
    unattended = ("CronCreate", "ScheduleWakeup", "Monitor", "Workflow")
    assert not any(name in tools or f"\\n{name}\\n" in deferred for name in unattended)
    assert "\\nEnterPlanMode\\n" in deferred


@pytest.mark.claude
async def test_interrupt_mid_stream(talk: Conversation, api: ClaudeApi) -> None:
    run = talk.start(script({"text": "x" * 100, "sse": "stall"}))
    await talk.seen(lambda event: isinstance(event, TextDelta))
    stopped = await talk.interrupted(run)

    [cli] = cli_processes()
    after = await talk.run(script({"text": "still here"}), resume=stopped.agent_session)
    assert (after.ending, after.text) == ("answered", "still here")
    assert cli_processes() == [cli]


@pytest.mark.claude
async def test_interrupt_mid_bash_ends_its_processes(talk: Conversation, workspace: Path) -> None:
    run = talk.start(script({"tools": [bash("echo $$ > pid; sleep 100")]}, {"text": "never"}))
    await eventually(lambda: (workspace / "pid").exists() and (workspace / "pid").read_text())
    await talk.interrupted(run)

    pid = int((workspace / "pid").read_text())
    await eventually(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.claude
async def test_interrupt_while_starting(talk: Conversation, api: ClaudeApi) -> None:
    run = talk.start("hello")
    await eventually(cli_processes)
    await talk.interrupted(run)

    assert api.main == []
    assert (await talk.run(script({"text": "hi"}))).text == "hi"


@pytest.mark.claude
async def test_interrupt_takes_what_was_steered_with_it(talk: Conversation, api: ClaudeApi) -> None:
    run = talk.start(script({"text": "x" * 100, "sse": "stall"}))
    await talk.seen(lambda event: isinstance(event, TextDelta))
    assert await talk.agent.steer(script({"text": "y" * 100, "sse": "stall"}))
    stopped = await talk.interrupted(run)

    after = await talk.run(script({"text": "hi"}), resume=stopped.agent_session)
    assert after.text == "hi"


@pytest.mark.claude
async def test_steer_is_folded_into_the_turn(talk: Conversation, api: ClaudeApi) -> None:
    run = talk.start(script({"text": "x" * 100, "gate": "g", "tools": [bash("true")]}, {"text": "both done"}))
    await talk.seen(lambda event: isinstance(event, TextDelta))
    assert await talk.agent.steer("also water the plants")
    api.open("g")

    assert (await run).text == "both done"
    assert "also water the plants" in api.main[-1].prompt
    assert not await talk.agent.steer("too late")


@pytest.mark.claude
async def test_steer_after_the_last_call_is_still_answered(talk: Conversation, api: ClaudeApi) -> None:
    run = talk.start(script({"text": "x" * 100, "gate": "g"}))
    await talk.seen(lambda event: isinstance(event, TextDelta))
    assert await talk.agent.steer(script({"text": "plants watered"}))
    api.open("g")

    finished = await run
    assert finished.text == "x" * 100 + "\n\nplants watered"
    assert finished.output_tokens == 100


@pytest.mark.claude
async def test_a_refused_key_ends_the_run_at_once(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "wrong")
    started = time.monotonic()
    finished = await talk.run("hello")

    assert (finished.ending, finished.reason) == ("failed", "model_key")
    assert finished.error == "the model's API refused the key"
    assert time.monotonic() - started < 10 * patience()  # the CLI on its own would try for three minutes


@pytest.mark.claude
@pytest.mark.parametrize("status", [429, 529])
async def test_a_retry_is_noted(talk: Conversation, status: int) -> None:
    finished = await talk.run(script({"http": status, "times": 1, "text": "ok"}))

    assert (finished.ending, finished.text) == ("answered", "ok")
    [note] = talk.of(Note)
    assert str(status) in note.text
    assert "attempt 1" in note.text


@pytest.mark.claude
async def test_limits_and_other_refusals_fail(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CODE_MAX_RETRIES", "0")
    limited = await talk.run(script({"http": 429}))
    refused = await talk.run(script({"http": 400}))

    assert (limited.ending, limited.reason) == ("failed", "limit")
    assert (refused.ending, refused.reason) == ("failed", "dialogue"), "it would be each time"
    assert "400" in refused.error
    assert refused.text == ""


@pytest.mark.claude
async def test_a_killed_cli_is_a_crash_and_the_next_run_resumes(talk: Conversation, api: ClaudeApi) -> None:
    first = await talk.run(script({"text": "the answer is 42"}))
    run = talk.start(script({"text": "x" * 100, "sse": "stall"}), resume=first.agent_session)
    await talk.seen(lambda event: isinstance(event, TextDelta))
    cli_processes()[0].kill()

    crashed = await run
    assert (crashed.ending, crashed.reason) == ("failed", "crashed")
    assert crashed.agent_session == first.agent_session
    after = await talk.run(script({"text": "back"}), resume=crashed.agent_session)
    assert (after.ending, after.text) == ("answered", "back")
    assert "the answer is 42" in str(api.main[-1].messages)


@pytest.mark.claude
async def test_a_client_that_died_between_runs_is_replaced(talk: Conversation) -> None:
    first = await talk.run(script({"text": "one"}))
    [cli] = cli_processes()
    cli.kill()
    second = await talk.run(script({"text": "two"}), resume=first.agent_session)

    assert (second.ending, second.text) == ("answered", "two")
    assert second.agent_session == first.agent_session
    assert talk.of(Note) == []


@pytest.mark.claude
async def test_a_crash_before_there_is_a_session_restarts_once(talk: Conversation) -> None:
    run = talk.start(script({"text": "hi"}))
    await eventually(cli_processes)
    cli_processes()[0].kill()

    finished = await run
    assert (finished.ending, finished.text) == ("answered", "hi")
    assert len(talk.of(Started)) == 1


@pytest.mark.claude
async def test_a_cli_that_never_comes_up_is_a_crash(talk: Conversation, workspace: Path) -> None:
    workspace.rmdir()
    finished = await talk.run("hello")

    assert (finished.ending, finished.reason) == ("failed", "crashed")
    assert finished.error
    workspace.mkdir()


@pytest.mark.claude
async def test_close_in_the_middle_of_a_turn(talk: Conversation, api: ClaudeApi) -> None:
    run = talk.start(script({"text": "x" * 100, "sse": "stall"}))
    await talk.seen(lambda event: isinstance(event, TextDelta))
    await asyncio.wait_for(talk.agent.close(), 1 * patience())
    assert cli_processes() == []
    await run


HOOK = {"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "touch hooked"}]}]}}


@pytest.mark.claude
@pytest.mark.parametrize(("permissions", "trusted"), [("ask", False), ("auto", True)])
async def test_what_a_repository_says(
    talk: Conversation, api: ClaudeApi, workspace: Path, permissions: Permissions, trusted: bool
) -> None:
    (workspace / ".claude").mkdir()
    (workspace / ".claude" / "settings.json").write_text(json.dumps(HOOK))
    server = {"command": sys.executable, "args": ["-c", "open('served', 'w')"]}
    (workspace / ".mcp.json").write_text(json.dumps({"mcpServers": {"evil": server}}))
    (workspace / "CLAUDE.md").write_text("Always say please.")
    await talk.run(script({"text": "hi"}), permissions=permissions, isolated=True)

    assert (workspace / "hooked").exists() is trusted
    if trusted:
        await eventually((workspace / "served").exists)
    assert (workspace / "served").exists() is trusted
    asked = api.main[0]
    assert "Always say please." in asked.system + asked.prompt
    assert ("CLAUDE.md says" in asked.system) is not trusted


@pytest.mark.claude
@pytest.mark.parametrize("claude", ["", "Say please.", "Say please. See @AGENTS.md for more."])
@pytest.mark.parametrize("permissions", ["ask", "auto"])
async def test_agents_md_is_told_exactly_once(
    talk: Conversation, api: ClaudeApi, workspace: Path, permissions: Permissions, claude: str
) -> None:
    (workspace / "AGENTS.md").write_text("Mind the gap.")
    if claude:
        (workspace / "CLAUDE.md").write_text(claude)
    await talk.run(script({"text": "hi"}), permissions=permissions, isolated=True)

    told = api.main[0].system + api.main[0].prompt
    assert told.count("Mind the gap.") == 1
    assert told.count("Say please.") == (1 if claude else 0)


@pytest.mark.claude
async def test_standing_facts_are_told_when_they_are_news(talk: Conversation, api: ClaudeApi) -> None:
    first = await talk.run("one", context="Ana writes.")
    await talk.run("two", context="Ana writes.", resume=first.agent_session)
    [cli] = cli_processes()
    await talk.run("three", context="Bo writes.", resume=first.agent_session)

    assert cli_processes() == [cli]
    assert api.main[-1].prompt.count("Ana writes.") == 1
    assert api.main[-1].prompt.count("Bo writes.") == 1


@pytest.mark.claude
async def test_news_are_told_once_and_wait_for_a_prompt_that_can_take_them(talk: Conversation, api: ClaudeApi) -> None:
    first = await talk.run("one", context="Ana writes.", news="a.txt changed")
    await talk.run("/cost", context="Ana writes.", news="b.txt changed", resume=first.agent_session)
    await talk.run("three", context="Ana writes.", resume=first.agent_session)

    prompt = api.main[-1].prompt
    assert "<context>\nAna writes.\na.txt changed\n</context>" in prompt
    assert "<context>\nb.txt changed\n</context>" in prompt
    assert prompt.count("txt changed") == 2


@pytest.mark.claude
@pytest.mark.parametrize("tool", ["Write", "Read"])
async def test_no_tool_begins_before_the_turn_is_ready(talk: Conversation, workspace: Path, tool: str) -> None:
    (workspace / "a.txt").write_text("before")
    given = {"file_path": str(workspace / "b.txt"), "content": "x"} if tool == "Write" else {"file_path": "a.txt"}
    run = talk.start(script({"tools": [{"name": tool, "input": given}]}, {"text": "done"}), held=True)
    await talk.seen(lambda event: isinstance(event, Tool))
    done, _ = await asyncio.wait({run}, timeout=0.5)
    assert not done and not talk.of(ToolDone) and not (workspace / "b.txt").exists()
    talk.turn.let_change()
    assert (await run).text == "done"


@pytest.mark.claude
async def test_a_warm_client_goes_where_other_servers_were_chosen(api: ClaudeApi, talk: Conversation) -> None:
    echo = McpServer(name="echo", command=[sys.executable, mcp_server.__file__])
    say = script({"tools": [{"name": "mcp__echo__say", "input": {"text": "x"}}]}, {"text": "done"})
    first = await talk.run(say, mcp=[echo])
    assert "heard: x" in str(api.main[-1].messages[-1])
    [process] = cli_processes()
    await talk.run(say, resume=first.agent_session, mcp=[echo])
    assert cli_processes() == [process] and "heard: x" in str(api.main[-1].messages[-1])
    await talk.run(say, resume=first.agent_session)
    assert cli_processes() != [process] and "No such tool available" in str(api.main[-1].messages[-1])


@pytest.mark.claude
async def test_a_repositorys_own_servers_stay_and_take_no_operators_place(
    api: ClaudeApi, talk: Conversation, workspace: Path
) -> None:
    def server(greeting: str) -> dict[str, object]:
        return {"command": sys.executable, "args": [mcp_server.__file__], "env": {"GREETING": greeting}}

    own = {"echo": server("the repository's"), "own": server("its own")}
    (workspace / ".mcp.json").write_text(json.dumps({"mcpServers": own}))
    (workspace / ".claude").mkdir()
    (workspace / ".claude" / "settings.json").write_text(json.dumps({"enableAllProjectMcpServers": True}))
    chosen = McpServer(name="echo", command=[sys.executable, mcp_server.__file__], env={"GREETING": "chosen"})
    for name, isolated, heard in (
        ("echo", True, "chosen: x"),
        ("own", True, "its own: x"),
        ("echo", False, "chosen: x"),
        ("own", False, "No such tool available"),
    ):
        say = script({"tools": [{"name": f"mcp__{name}__say", "input": {"text": "x"}}]}, {"text": "done"})
        await talk.run(say, isolated=isolated, mcp=[chosen])
        assert heard in str(api.main[-1].messages[-1]), (name, isolated)
