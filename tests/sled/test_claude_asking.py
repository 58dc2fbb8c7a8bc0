"""Claude asks people: the real CLI, a stub of its model, and answers as the gateway gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sled.agents.claude_asking import EXPIRED, rule
from sled.protocol import Question, ToolDone, Withdrawn
from sled.turn import TOO_LONG
from tests.support.claude_api import ClaudeApi, script
from tests.support.claude_cli import bash, cli_processes, write
from tests.support.order import Details
from tests.support.talk import Conversation

ASK: Details = {"permissions": "ask", "isolated": True}


def ask_user(*questions: dict[str, object]) -> dict[str, object]:
    return {"name": "AskUserQuestion", "input": {"questions": list(questions)}}


def question(text: str, *labels: str, several: bool = False) -> dict[str, object]:
    options = [{"label": label, "description": f"about {label}"} for label in labels]
    return {"question": text, "header": "Head", "multiSelect": several, "options": options}


def results(api: ClaudeApi) -> str:
    """What the model was told of its tools last."""
    return str(api.main[-1].messages[-1]["content"])


@pytest.mark.claude
@pytest.mark.parametrize(
    ("how", "asks"),
    [
        ({"permissions": "ask", "isolated": True}, True),
        ({"permissions": "auto", "isolated": False}, True),
        ({"permissions": "auto", "isolated": True}, False),
        ({"permissions": "allow", "isolated": False}, False),
    ],
)
async def test_the_mode_decides_who_allows(talk: Conversation, workspace: Path, how: Details, asks: bool) -> None:
    run = talk.start(script({"tools": [write(workspace / "a.txt")]}, {"text": "done"}), **how)
    if asks:
        asked = await talk.asked()
        assert (asked.kind, asked.tool, asked.rule) == ("permission", "Write", "edit files")
        assert str(workspace / "a.txt") in asked.arguments and '"content": "x"' in asked.arguments
        assert not (workspace / "a.txt").exists()
        talk.decide(asked, True)

    assert (await run).text == "done"
    assert bool(talk.of(Question)) is asks
    assert (workspace / "a.txt").read_text() == "x"
    assert talk.of(Withdrawn) == []


@pytest.mark.claude
async def test_a_denial_reaches_the_model_with_its_reason(talk: Conversation, api: ClaudeApi, workspace: Path) -> None:
    run = talk.start(script({"tools": [bash("touch a.txt")]}, {"text": "done"}), **ASK)
    asked = await talk.asked()
    assert asked.rule == "Bash: touch a.txt"
    talk.decide(asked, False, "not on a Friday")
    talk.decide(asked, True)

    assert (await run).text == "done"
    assert not (workspace / "a.txt").exists()
    assert [done.failed for done in talk.of(ToolDone)] == [True]
    assert "Bash was not allowed: not on a Friday. Do not try" in results(api)


@pytest.mark.claude
async def test_what_cannot_be_shown_in_full_is_denied_and_nobody_is_asked(
    talk: Conversation, api: ClaudeApi, workspace: Path
) -> None:
    long = {"name": "Write", "input": {"file_path": str(workspace / "a.txt"), "content": "x" * 2**20}}
    await talk.run(script({"tools": [long]}, {"text": "done"}), **ASK)

    assert talk.of(Question) == []
    assert TOO_LONG in results(api)
    assert not (workspace / "a.txt").exists()


@pytest.mark.claude
async def test_two_tools_at_once_each_have_their_own_question(
    talk: Conversation, api: ClaudeApi, workspace: Path
) -> None:
    tools = [write(workspace / "a.txt"), write(workspace / "b.txt")]
    run = talk.start(script({"tools": tools}, {"text": "done"}), **ASK)
    decided = 0
    while decided < 2:
        asked = await talk.asked(decided + 1)
        talk.decide(asked, "a.txt" in asked.arguments, "no")
        decided += 1

    assert (await run).text == "done"
    assert len({asked.id for asked in talk.of(Question)}) == 2
    assert (workspace / "a.txt").exists() and not (workspace / "b.txt").exists()
    assert sorted(done.failed for done in talk.of(ToolDone)) == [False, True]


@pytest.mark.claude
async def test_stop_while_asking_leaves_a_warm_client(talk: Conversation, workspace: Path) -> None:
    run = talk.start(script({"tools": [bash("touch a.txt")]}, {"text": "never"}), **ASK)
    asked = await talk.asked()
    stopped = await talk.interrupted(run)
    assert talk.of(Withdrawn) == [Withdrawn(question=asked.id)]
    talk.decide(asked, True)

    [cli] = cli_processes()
    going_on: Details = {**ASK, "resume": stopped.agent_session}
    again = talk.start(script({"tools": [bash("touch b.txt")]}, {"text": "done"}), **going_on)
    talk.decide(await talk.asked(), True)
    assert (await again).text == "done"
    assert cli_processes() == [cli]
    assert (workspace / "b.txt").exists() and not (workspace / "a.txt").exists()


@pytest.mark.claude
@pytest.mark.parametrize("how", [ASK, {"permissions": "allow"}])
async def test_claudes_own_questions_are_answered(talk: Conversation, api: ClaudeApi, how: Details) -> None:
    asks = ask_user(
        question("Which colour?", "red", "blue"),
        question("Which sizes?", "small", "large, very", "huge", several=True),
        question("Which name?", "Ana", "Bo"),
    )
    run = talk.start(script({"tools": [asks]}, {"text": "done"}), **how)
    asked = await talk.asked()
    colour, sizes, name = asked.queries
    assert (asked.kind, colour.text, colour.header, colour.several) == ("query", "Which colour?", "Head", False)
    assert (colour.options[0].label, colour.options[0].description) == ("red", "about red")
    assert sizes.several and not name.several
    talk.decide(asked, True, "", ["blue"], ["small", "huge"], ["Cleo, if she likes"])

    assert (await run).text == "done"
    told = results(api)
    assert '"Which colour?"="blue", "Which sizes?"="small, huge", "Which name?"="Cleo, if she likes"' in told
    assert [done.failed for done in talk.of(ToolDone)] == [False]


@pytest.mark.claude
async def test_a_question_that_nobody_answers_expires(talk: Conversation, api: ClaudeApi) -> None:
    run = talk.start(script({"tools": [ask_user(question("Which?", "a", "b"))]}, {"text": "done"}))
    talk.decide(await talk.asked(), False)

    assert (await run).text == "done"
    assert EXPIRED in results(api)


@pytest.mark.claude
@pytest.mark.parametrize(
    ("given", "answer", "told"),
    [
        ({"question": "Which?", "options": ["a", "b"], "several": True}, ["a", "b"], "a, b"),
        ({"question": "Why?"}, ["because"], "because"),
        ({"question": "Why?"}, None, "[expired]"),
    ],
)
async def test_the_tool_that_asks(
    talk: Conversation, api: ClaudeApi, given: dict[str, object], answer: list[str] | None, told: str
) -> None:
    tool = {"name": "mcp__huskies__ask_operator", "input": given}
    run = talk.start(script({"tools": [tool]}, {"text": "done"}), **ASK)
    asked = await talk.asked()
    assert asked.kind == "query"
    assert [option.label for option in asked.queries[0].options] == given.get("options", [])
    assert asked.queries[0].several is given.get("several", False)
    talk.decide(asked, answer is not None, "", answer or [])

    assert (await run).text == "done"
    assert told in results(api)
    assert len(talk.of(Question)) == 1
    assert "mcp__huskies__ask_operator" in {tool["name"] for tool in api.main[0].body["tools"]}


@pytest.mark.claude
async def test_stop_while_the_tool_asks(talk: Conversation) -> None:
    tool = {"name": "mcp__huskies__ask_operator", "input": {"question": "Why?"}}
    run = talk.start(script({"tools": [tool]}, {"text": "never"}), **ASK)
    asked = await talk.asked()
    stopped = await talk.interrupted(run)
    assert talk.of(Withdrawn) == [Withdrawn(question=asked.id)]

    [cli] = cli_processes()
    going_on: Details = {**ASK, "resume": stopped.agent_session}
    again = await talk.run(script({"text": "still here"}), **going_on)
    assert again.text == "still here"
    assert cli_processes() == [cli]


@pytest.mark.claude
async def test_a_file_is_put_into_the_outbox(talk: Conversation, api: ClaudeApi, workspace: Path) -> None:
    (workspace / "plot.png").write_bytes(b"picture")
    tools = [
        {"name": "mcp__huskies__send_file", "input": {"path": "plot.png", "caption": "As you wished"}},
        {"name": "mcp__huskies__send_file", "input": {"path": "/etc/passwd"}},
        {"name": "mcp__huskies__send_file", "input": {"path": "nothing.txt"}},
    ]
    await talk.run(script({"tools": tools}, {"text": "done"}), **ASK)

    outbox = workspace / ".huskies" / "outbox"
    assert (outbox / "plot.png").read_bytes() == b"picture"
    assert (outbox / ".plot.png.caption").read_text() == "As you wished"
    assert sorted(path.name for path in outbox.iterdir()) == [".gitignore", ".plot.png.caption", "plot.png"]
    assert "only files in the workspace" in results(api) and "No such file" in results(api)


@pytest.mark.parametrize(
    ("tool", "given", "wide"),
    [
        ("Bash", {"command": "make test"}, "Bash: make test"),
        ("Bash", {"command": "x" * 600}, ""),
        ("Write", {"file_path": "a"}, "edit files"),
        ("NotebookEdit", {"notebook_path": "a"}, "edit files"),
        ("WebFetch", {"url": "https://Docs.Example.org:8443/a?b"}, "WebFetch: docs.example.org"),
        ("WebFetch", {"url": "https://good.example@evil.example/"}, ""),
        ("WebFetch", {"url": "https://evil.example\\@good.example/"}, ""),
        ("WebFetch", {}, ""),
        ("WebSearch", {"query": "x"}, "WebSearch"),
        ("mcp__x__y", {}, "mcp__x__y"),
        ("y" * 501, {}, ""),
    ],
)
def test_rules(tool: str, given: dict[str, object], wide: str) -> None:
    assert rule(tool, given) == wide
