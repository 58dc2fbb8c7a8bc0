from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sled.agents import available, create
from sled.agents.scripted import Scripted
from sled.protocol import Body, Question, Run, Started, TextDelta, Tool, ToolDone, Withdrawn
from sled.turn import TOO_LONG, Turn
from tests.support.order import Details
from tests.support.processes import alive, until
from tests.support.talk import Conversation


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Conversation]:
    made = Conversation(Scripted(tmp_path), "scripted")
    yield made
    await made.agent.close()


def test_it_is_there_without_any_package(tmp_path: Path) -> None:
    assert "scripted" in available()
    assert isinstance(create("scripted", tmp_path), Scripted)
    with pytest.raises(KeyError):
        create("nobody", tmp_path)


async def test_it_echoes_the_batch_one_line_per_message(talk: Conversation) -> None:
    end = await talk.run("fix it\nplease\n\nand that")
    assert end.text == "You said:\nfix it please\nand that"
    assert end.ending == "answered"


async def test_the_session_is_kept_or_new(talk: Conversation) -> None:
    first = await talk.run("x")
    assert talk.events[0] == Started(agent_session=first.agent_session)
    assert (await talk.run("x", resume="old")).agent_session == "old"
    assert (await talk.run("x")).agent_session != first.agent_session


async def test_orders(talk: Conversation, tmp_path: Path) -> None:
    end = await talk.run("Ana: @@say a\n@@stream 2\n@@write f.txt some text\n@@cost 0.5\n@@cost 0.25\n@@dance")
    assert end.text.splitlines() == [
        "a",
        "chunk 1",
        "chunk 2",
        "I don't know the order @@dance",
    ]
    assert end.cost_usd == 0.75
    assert (tmp_path / "f.txt").read_text() == "some text\n"
    assert "".join(e.delta for e in talk.events if isinstance(e, TextDelta)) == end.text + "\n"


async def test_changes_wait_until_the_turn_is_ready(talk: Conversation, tmp_path: Path) -> None:
    turn = talk.start("@@say a\n@@write f.txt x", held=True)
    await talk.seen(lambda event: isinstance(event, TextDelta))
    done, _ = await asyncio.wait({turn}, timeout=0.1)
    assert not done and not (tmp_path / "f.txt").exists()
    talk.turn.let_change()
    assert (await turn).text == "a"
    assert (tmp_path / "f.txt").exists()


async def test_it_tells_what_it_was_told(talk: Conversation) -> None:
    end = await talk.run("@@context", context="Ana writes.", news="a.txt changed")
    assert end.text == "Ana writes.\na.txt changed"


async def test_a_file_to_send_is_put_into_the_outbox(talk: Conversation, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert (await talk.run("@@send a.txt")).ending == "answered"
    assert (tmp_path / ".huskies" / "outbox" / "a.txt").read_text() == "x"
    (tmp_path / "link").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", "../x", "link", ".", "no/such"):
        assert (await talk.run(f"@@send {path}")).ending == "failed"
    assert sorted(path.name for path in (tmp_path / ".huskies" / "outbox").iterdir()) == [".gitignore", "a.txt"]


async def test_costs_and_answers_do_not_leak_into_the_next_turn(talk: Conversation) -> None:
    await talk.run("@@cost 1\n@@say a")
    end = await talk.run("@@say b")
    assert (end.cost_usd, end.text) == (0.0, "b")


async def test_a_command_shows_itself_and_its_output(talk: Conversation) -> None:
    end = await talk.run("@@run echo out; echo err >&2; exit 3")
    assert end.text == "out\nerr"
    tool = next(e for e in talk.events if isinstance(e, Tool))
    assert tool.detail.startswith("echo out")
    assert ToolDone(id=tool.id, failed=True) in talk.events


async def test_a_failure_keeps_what_was_said(talk: Conversation) -> None:
    end = await talk.run("@@say a\n@@fail no luck")
    assert (end.ending, end.error, end.text) == ("failed", "no luck", "a")


@pytest.mark.parametrize("rest", ["sleep abc", "stream x", "write no/such/folder x"])
async def test_a_bad_order_is_an_ending_not_an_exception(talk: Conversation, rest: str) -> None:
    end = await talk.run(f"@@{rest}")
    assert end.ending == "failed"
    assert end.error


@pytest.mark.parametrize(
    ("how", "asks"),
    [
        ({"permissions": "allow"}, False),
        ({"permissions": "auto", "isolated": True}, False),
        ({"permissions": "auto"}, True),
        ({"permissions": "ask", "isolated": True}, True),
    ],
)
async def test_permissions(talk: Conversation, how: Details, asks: bool) -> None:
    turn = talk.start("@@permission Bash ls", **how)
    if asks:
        asked = await talk.asked()
        assert (asked.kind, asked.tool, asked.rule) == ("permission", "Bash", "Bash ls")
        assert '"ls"' in asked.arguments
        talk.decide(asked, True)
    assert (await turn).text == "Bash ls: allowed"
    assert bool(talk.of(Question)) is asks


async def test_a_denial_counts_once_and_only_for_its_own_question(talk: Conversation) -> None:
    turn = talk.start("@@permission Bash ls\n@@permission Bash rm", permissions="ask")
    first = await talk.asked()
    talk.decide(Question(id="nobody's", kind="permission"), True)
    talk.decide(first, False, "too early")
    talk.decide(first, True)
    talk.decide(await talk.asked(2), True)
    assert (await turn).text == "Bash ls: denied: too early\nBash rm: allowed"


async def test_what_cannot_be_shown_is_not_asked(talk: Conversation) -> None:
    end = await talk.run("@@permission Bash a" + "\x01" * 200_000 + "b", permissions="ask")
    assert end.text.endswith(f": denied: {TOO_LONG}")
    assert talk.of(Question) == []


@pytest.mark.parametrize(
    ("order", "answers", "said"),
    [
        ("Which? | A | B", (["B"],), "Which? -> B"),
        ("Which? [several] | A | B", (["A", "B"],), "Which? -> A, B"),
        ("Why?", (["because"],), "Why? -> because"),
        ("Why?", (), "Why? -> [expired]"),
    ],
)
async def test_questions(talk: Conversation, order: str, answers: tuple[list[str], ...], said: str) -> None:
    turn = talk.start(f"@@ask {order}")
    asked = await talk.asked()
    assert asked.queries[0].several is ("several" in order)
    assert [option.label for option in asked.queries[0].options] == (["A", "B"] if "|" in order else [])
    talk.decide(asked, bool(answers), "", *answers)
    assert (await turn).text == said


async def test_an_interrupt_withdraws_a_question(talk: Conversation) -> None:
    turn = talk.start("@@ask Why?")
    asked = await talk.asked()
    await talk.interrupted(turn)
    assert talk.of(Withdrawn) == [Withdrawn(question=asked.id)]


async def test_who_still_asks_when_the_run_is_over_is_denied_in_silence(talk: Conversation) -> None:
    await talk.run("@@say x")
    question = Question(id="q", kind="permission")
    assert not (await talk.turn.ask(question)).allow

    turn = Turn(Run(run="r", session="s", agent="scripted", prompt=""), talk.emit)
    asking = asyncio.create_task(turn.ask(question))
    assert await talk.asked() == question
    turn.close()
    assert not (await asking).allow
    assert talk.of(Withdrawn) == []


async def test_an_interrupt_ends_a_wait_and_a_command_with_its_children(talk: Conversation, tmp_path: Path) -> None:
    for order in ("@@sleep 60", "@@run echo $$ > pid; sleep 300 & sleep 300"):
        turn = asyncio.create_task(talk.run(f"@@say a\n{order}"))
        await until(lambda: any(isinstance(e, TextDelta) for e in talk.events))
        if "pid" in order:
            await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        await talk.agent.interrupt()
        end = await turn
        assert (end.ending, end.reason, end.text) == ("interrupted", "stopped", "a")
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not alive(pid))
    await talk.agent.interrupt()
    assert (await talk.run("@@say b")).text == "b"


async def test_an_interrupt_before_the_first_event_is_heard(talk: Conversation) -> None:
    """The sled's Stop may follow its Run at once."""
    gate = asyncio.Event()

    async def slow(body: Body) -> None:
        await gate.wait()
        await talk.emit(body)

    frame = Run(run="r", session="s", agent="scripted", prompt="@@sleep 60")
    turn = asyncio.create_task(talk.agent.run(Turn(frame, slow)))
    await asyncio.sleep(0)
    await talk.agent.interrupt()
    gate.set()
    await until(turn.done, 5)
    assert turn.result().ending == "interrupted"


async def test_steering_is_taken_during_a_run_only(talk: Conversation) -> None:
    assert not await talk.agent.steer("x")
    turn = asyncio.create_task(talk.run("@@sleep 0.2\n@@say a"))
    await until(lambda: talk.events)
    assert await talk.agent.steer("@@say b")
    assert (await turn).text == "a\nb"
    assert (await talk.run("@@say c")).text == "c"
