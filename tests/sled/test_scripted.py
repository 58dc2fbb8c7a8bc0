from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sled.agents import available, create
from sled.agents.scripted import Scripted
from sled.protocol import Body, Finished, Run, Started, TextDelta, Tool, ToolDone
from tests.support.processes import alive, until


class Talk:
    """Turns with one agent."""

    def __init__(self, agent: Scripted) -> None:
        self.agent = agent
        self.events: list[Body] = []

    async def emit(self, body: Body) -> None:
        self.events.append(body)

    async def run(self, prompt: str, **how) -> Finished:
        self.events.clear()
        frame = Run(run="r", session="s", agent="scripted", prompt=prompt, **how)
        return await asyncio.wait_for(self.agent.run(frame, self.emit), 10)


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    made = Talk(Scripted(tmp_path))
    yield made
    await made.agent.close()


def test_it_is_there_without_any_package(tmp_path):
    assert "scripted" in available()
    assert isinstance(create("scripted", tmp_path), Scripted)
    with pytest.raises(KeyError):
        create("nobody", tmp_path)


async def test_it_echoes_the_batch_one_line_per_message(talk):
    end = await talk.run("fix it\nplease\n\nand that")
    assert end.text == "You said:\nfix it please\nand that"
    assert end.ending == "answered"


async def test_the_session_is_kept_or_new(talk):
    first = await talk.run("x")
    assert talk.events[0] == Started(agent_session=first.agent_session)
    assert (await talk.run("x", resume="old")).agent_session == "old"
    assert (await talk.run("x")).agent_session != first.agent_session


async def test_orders(talk, tmp_path):
    end = await talk.run(
        "Ana: @@say a\n@@stream 2\n@@write f.txt some text\n@@cost 0.5\n@@cost 0.25\n@@dance\n@@ask Which? | A | B"
    )
    assert end.text.splitlines() == [
        "a",
        "chunk 1",
        "chunk 2",
        "I do not know the order @@dance",
        "Questions cannot be asked yet: Which?",
    ]
    assert end.cost_usd == 0.75
    assert (tmp_path / "f.txt").read_text() == "some text\n"
    assert "".join(e.delta for e in talk.events if isinstance(e, TextDelta)) == end.text + "\n"


async def test_costs_and_answers_do_not_leak_into_the_next_turn(talk):
    await talk.run("@@cost 1\n@@say a")
    end = await talk.run("@@say b")
    assert (end.cost_usd, end.text) == (0.0, "b")


async def test_a_command_shows_itself_and_its_output(talk):
    end = await talk.run("@@run echo out; echo err >&2; exit 3")
    assert end.text == "out\nerr"
    tool = next(e for e in talk.events if isinstance(e, Tool))
    assert tool.detail.startswith("echo out")
    assert ToolDone(id=tool.id, failed=True) in talk.events


async def test_a_failure_keeps_what_was_said(talk):
    end = await talk.run("@@say a\n@@fail no luck")
    assert (end.ending, end.error, end.text) == ("failed", "no luck", "a")


@pytest.mark.parametrize("rest", ["sleep abc", "stream x", "write no/such/folder x"])
async def test_a_bad_order_is_an_ending_not_an_exception(talk, rest):
    end = await talk.run(f"@@{rest}")
    assert end.ending == "failed"
    assert end.error


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"permissions": "allow"}, "allowed"),
        ({"permissions": "auto", "isolated": True}, "allowed"),
        ({"permissions": "auto"}, "denied"),
        ({"permissions": "ask", "isolated": True}, "denied"),
    ],
)
async def test_permissions(talk, how, told):
    assert (await talk.run("@@permission Bash ls", **how)).text.startswith(f"Bash ls: {told}")


async def test_an_interrupt_ends_a_wait_and_a_command_with_its_children(talk, tmp_path):
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


async def test_an_interrupt_before_the_first_event_is_heard(talk):
    """The sled's Stop may follow its Run at once."""
    gate = asyncio.Event()

    async def slow(body: Body) -> None:
        await gate.wait()
        await talk.emit(body)

    frame = Run(run="r", session="s", agent="scripted", prompt="@@sleep 60")
    turn = asyncio.create_task(talk.agent.run(frame, slow))
    await asyncio.sleep(0)
    await talk.agent.interrupt()
    gate.set()
    await until(turn.done, 5)
    assert turn.result().ending == "interrupted"


async def test_steering_is_taken_during_a_run_only(talk):
    assert not await talk.agent.steer("x")
    turn = asyncio.create_task(talk.run("@@sleep 0.2\n@@say a"))
    await until(lambda: talk.events)
    assert await talk.agent.steer("@@say b")
    assert (await turn).text == "a\nb"
    assert (await talk.run("@@say c")).text == "c"
