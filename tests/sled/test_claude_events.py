"""What Claude's messages mean, and what Claude is told: no process is started here."""

from __future__ import annotations

from pathlib import Path

import pytest
from claude_agent_sdk.types import (
    AssistantMessage,
    ContentBlock,
    RateLimitEvent,
    RateLimitInfo,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from sled.agents.claude_client import cost_before
from sled.agents.claude_events import MAX_RETRY_NOTES, Reader, clip, tool_detail
from sled.agents.telling import Telling
from sled.protocol import MAX_TEXT, Note, Started, Tool, ToolDone, cut


def result(**fields: object) -> ResultMessage:
    basis = {"subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1}
    return ResultMessage(**{**basis, "session_id": "s1", "result": "done", **fields})  # type: ignore[arg-type]


def assistant(*blocks: TextBlock | ToolUseBlock, **fields: object) -> AssistantMessage:
    return AssistantMessage(content=list(blocks), model="m", **fields)  # type: ignore[arg-type]


@pytest.fixture
def reader() -> Reader:
    return Reader(Path("/w"), 1.0)


def test_started_is_told_once_by_the_first_message_that_knows(reader: Reader) -> None:
    init = SystemMessage(subtype="init", data={"session_id": "s1"})
    assert reader.read(UserMessage(content="hi")) == []
    assert reader.read(init) == [Started(agent_session="s1")]
    assert reader.read(init) == []


def test_a_result_tells_cost_and_tokens_of_this_run_only(reader: Reader) -> None:
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": None,
        "output_tokens": 4,
    }
    reader.read(result(total_cost_usd=1.25, usage=usage))
    finished = reader.finished()
    assert (finished.cost_usd, finished.input_tokens, finished.output_tokens) == (0.25, 1, 4)
    assert (finished.cache_write_tokens, finished.cache_read_tokens) == (2, 0)

    reader.read(result(total_cost_usd=0.5))  # after `/clear`
    assert reader.finished().cost_usd == 0.75


def test_subagents_speak_through_their_tools_only(reader: Reader) -> None:
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}
    assert reader.read(StreamEvent(uuid="u", session_id="", event=delta, parent_tool_use_id="t")) == []
    said = assistant(TextBlock(text="inner"), ToolUseBlock(id="t2", name="Grep", input={"pattern": "x"}))
    said.parent_tool_use_id = "t"
    assert reader.read(said) == [Tool(id="t2", name="Grep", detail="x")]
    assert reader.finished(stopped=True).text == ""


def test_what_was_said_is_kept_by_a_run_that_is_cut(reader: Reader) -> None:
    reader.read(assistant(TextBlock(text="so far")))
    reader.read(assistant(TextBlock(text="API Error: no"), error="server_error"))
    finished = reader.finished(crash="killed")
    assert (finished.ending, finished.reason, finished.text) == ("failed", "crashed", "so far")


def test_tool_results_end_tools(reader: Reader) -> None:
    blocks: list[ContentBlock] = [
        ToolResultBlock(tool_use_id="a", is_error=True),
        ToolResultBlock(tool_use_id="b"),
        TextBlock(text="x"),
    ]
    assert reader.read(UserMessage(content=blocks)) == [ToolDone(id="a", failed=True), ToolDone(id="b")]


def test_retries_are_noted_a_few_times(reader: Reader) -> None:
    retry = SystemMessage(subtype="api_retry", data={"attempt": 1, "error_status": 529, "retry_delay_ms": 1500})
    notes = [note for _ in range(10) for note in reader.read(retry)]
    assert len(notes) == MAX_RETRY_NOTES
    assert notes[0] == Note(text="The model's API failed (529), attempt 1; trying again in 1.5 s")


def test_a_refused_key_is_known_from_retry_and_result(reader: Reader) -> None:
    assert reader.read(SystemMessage(subtype="api_retry", data={"error_status": 401})) == []
    assert reader.key_refused
    other = Reader(Path("/w"), 0.0)
    other.read(result(is_error=True, api_error_status=401))
    assert other.finished().reason == "model_key"
    assert other.finished(stopped=True).reason == "stopped"


def test_a_call_that_may_not_be_made_is_no_matter_of_the_key(reader: Reader) -> None:
    reader.read(result(is_error=True, api_error_status=403, result="API Error: 403 today's budget is used up"))
    assert not reader.key_refused
    end = reader.finished()
    assert (end.ending, end.reason) == ("failed", "")
    assert "today's budget is used up" in end.error


def test_only_a_rejected_limit_is_a_limit(reader: Reader) -> None:
    failed = result(is_error=True, result="You've hit your limit\nmore")
    reader.read(RateLimitEvent(rate_limit_info=RateLimitInfo(status="allowed_warning"), uuid="u", session_id=""))
    reader.read(failed)
    assert reader.finished().reason == ""
    rejected = RateLimitEvent(
        rate_limit_info=RateLimitInfo(status="rejected", resets_at=1_900_000_000), uuid="u", session_id=""
    )
    assert [*reader.read(rejected), *reader.read(rejected)] == [Note(text="The provider's usage limit is reached")]
    reader.read(failed)
    assert (reader.finished().reason, reader.finished().error) == ("limit", "You've hit your limit")
    assert reader.finished().resets_at == 1_900_000_000
    reader.read(result())
    assert reader.finished().resets_at == 0


def test_the_account_of_a_run(reader: Reader) -> None:
    reader.read(SystemMessage(subtype="init", data={"session_id": "s1", "model": "claude-x"}))
    assert reader.finished().model == "claude-x"
    reader.read(assistant(*(ToolUseBlock(id=str(n), name="Read", input={}) for n in range(2))))
    assert reader.finished().model == "m"
    inner = assistant(ToolUseBlock(id="i", name="Grep", input={}), parent_tool_use_id="t")
    inner.model = "small"
    reader.read(inner)
    made_up = assistant(TextBlock(text="no"))
    made_up.model = "<synthetic>"
    reader.read(made_up)
    assert (reader.finished().model, reader.finished().tools) == ("m", {"Read": 2, "Grep": 1})


@pytest.mark.parametrize(
    ("name", "given", "detail"),
    [
        ("Bash", {"command": "\nmake test \\\n  -j2"}, "make test \\"),
        ("Bash", {"command": "x" * 500}, "x" * 199 + "…"),
        ("Bash", {"command": None}, ""),
        ("Read", {"file_path": "/w/src/a.py"}, "src/a.py"),
        ("Edit", {"file_path": "/etc/hosts"}, "/etc/hosts"),
        ("Write", {"file_path": "a.py"}, "a.py"),
        ("Glob", {"pattern": "**/*.py"}, "**/*.py"),
        ("Agent", {"description": "look around", "prompt": "long"}, "look around"),
        ("mcp__x__y", {"secret": "x"}, ""),
    ],
)
def test_tool_detail(name: str, given: dict[str, object], detail: str) -> None:
    assert tool_detail(name, given, Path("/w")) == detail


def test_a_turn_that_the_cli_began_by_itself_costs_but_answers_nobody(reader: Reader) -> None:
    reader.read(result(result="noticed", total_cost_usd=1.5, origin={"kind": "task-notification"}))
    reader.read(result(total_cost_usd=2.0, user_message_uuids=["u1"]))
    assert (reader.finished().text, reader.finished().cost_usd) == ("done", 1.0)


def test_text_always_fits_a_frame() -> None:
    long = cut("ä" * MAX_TEXT)
    assert len(long.encode()) <= MAX_TEXT
    assert long.endswith("too long to send.]")
    assert cut("half \ud83d") == "half ?"
    assert clip("abc", 2) == "a…"


# --- what is told besides -----------------------------------------------------------------------------------


def test_a_command_of_the_cli_stands_alone_and_the_rest_waits() -> None:
    telling = Telling()
    assert telling.parts("hi", "", "") == ["hi"]
    assert telling.parts("/compact", "Ana writes.", "a.txt changed") == ["/compact"]
    assert telling.parts("hi", "Ana writes.", "b.txt changed") == [
        "<context>\nAna writes.\na.txt changed\nb.txt changed\n</context>",
        "hi",
    ]
    assert telling.parts("more", "Ana writes.", "") == ["more"]
    assert telling.parts("more", "Bo writes.", "") == ["<context>\nBo writes.\n</context>", "more"]


def test_costs_go_on_from_the_last_state_in_the_transcript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    transcript = tmp_path / "projects" / "-workspace" / "s1.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text(
        '{"type":"cost-state","totalCostUSD":0.1}\n'
        '{"type":"cost-state","totalCostUSD":0.2}\n'
        '{"type":"user","message":"\\"cost-state\\""}\n'
        '{"type":"user","message":{"type": "cost-state"}, "x":"cost-state"}\n'
        '{"type":"cost-state","totalCost'
    )
    assert cost_before("s1") == 0.2
    assert cost_before("s2") == cost_before("*") == cost_before("../s1") == cost_before("") == 0.0
