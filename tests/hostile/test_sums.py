"""A sled whose frames are each allowed, and too many; and one that ignores that its run has to end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import select

from gateway.asking import cards
from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from gateway.events import Events, SledIgnores
from gateway.intake import carrying_out
from gateway.store import Connection, dialogues, tables
from gateway.store.tables import sessions
from gateway.testing import patience
from gateway.turns import allowance, dispatcher, runs
from sled.protocol import Body, File, Finished, Note, Question, Started, TextDelta, Tool, ToolDone, Withdrawn
from tests.conftest import World
from tests.gateway.asking.test_questions import Asking
from tests.support.house import house
from tests.support.processes import until


@pytest_asyncio.fixture
async def asking(world: World) -> AsyncIterator[Asking]:
    yield await Asking.begin(world)


@pytest.mark.parametrize(
    ("frame", "most", "told"),
    [
        (lambda n: Tool(id=f"t{n}", name="x"), allowance.MOST_TOOLS, "more than 500 tool calls at once"),
        (lambda n: Started(agent_session=f"d{n}"), 20, "more than 20 dialogues"),
        (lambda n: Note(text=f"n{n}"), 2000, "more than 2,000 notes"),
        (lambda n: TextDelta(delta="x" * 2**20), 47, "more than 50,000,000 characters"),
    ],
    ids=["tools", "dialogues", "notes", "text"],
)
async def test_a_run_that_sends_too_much_is_ended_and_said_so(
    asking: Asking, frame: object, most: int, told: str
) -> None:
    world, run = asking.world, asking.run.run
    assert callable(frame)
    for number in range(most):
        await world.sleds.say(asking.project, run, frame(number))
    assert world.sleds.stops.empty()
    for number in range(most, most + 20):  # and what it sends after that is nothing to anybody
        await world.sleds.say(asking.project, run, frame(number))
    assert (await asyncio.wait_for(world.sleds.stops.get(), 5 * patience())).run == run
    assert world.sleds.stops.empty()
    await world.sleds.say(asking.project, run, Finished(ending="interrupted", reason="stopped"))
    assert f"Ended: the run sent {told}. `retry` runs it again." in await asking.reads("Ended:")


async def test_questions_and_their_withdrawals_are_counted(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(allowance.MOST, Question, (3, "questions"))
    for number in range(8):
        question = Question(id=f"q{number}", kind="permission", tool="Bash", arguments="{}")
        await asking.world.sleds.say(asking.project, asking.run.run, question)
        await asking.world.sleds.say(asking.project, asking.run.run, Withdrawn(question=question.id))
    assert await asyncio.wait_for(asking.world.sleds.stops.get(), 5 * patience())
    await asking.world.outbox.drain(10)
    assert sum("Bash" in text for text in asking.world.transport.texts) == 3


def test_what_people_get_as_messages_has_one_sum() -> None:
    sent = allowance.Allowance()
    question, file = Question(id="q", kind="permission", tool="Bash", arguments="{}"), File(id="f", name="a")
    assert all(sent.take(body) for body in [question] * 80 + [file] * 70)
    assert not sent.take(file)
    assert sent.exceeded == "more than 150 questions and files"


async def test_a_turn_of_the_usual_kind_is_far_below(asking: Asking) -> None:
    frames: list[Body] = [Started(agent_session="a")]
    for number in range(1000):
        frames += [Tool(id=f"t{number}", name="Read"), TextDelta(delta="x" * 100), ToolDone(id=f"t{number}")]
    for frame in frames:
        await asking.world.sleds.say(asking.project, asking.run.run, frame)
    assert asking.world.sleds.stops.empty()


async def test_a_sled_that_ignores_the_end_of_its_run_is_told_of(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "OBEY_S", 0.1)
    told: asyncio.Queue[object] = asyncio.Queue()
    asking.world.admission.events = Events(told.put_nowait)
    monkeypatch.setitem(allowance.MOST, Note, (1, "notes"))
    for number in range(2):
        await asking.world.sleds.say(asking.project, asking.run.run, Note(text=f"n{number}"))
    assert await asyncio.wait_for(told.get(), 10 * patience()) == SledIgnores(asking.project)


async def test_a_sled_that_ignores_a_persons_stop_is_told_of(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "OBEY_S", 0.1)
    monkeypatch.setattr(dispatcher, "STOP_WITHIN_S", 0.05)
    told: asyncio.Queue[object] = asyncio.Queue()
    asking.world.admission.events = Events(told.put_nowait)
    stopped = await asking.world.dispatcher.stop("Stopped.", project_id=asking.project, conversations=())
    assert "A run has not ended yet" in stopped.told
    assert await asyncio.wait_for(told.get(), 10 * patience()) == SledIgnores(asking.project)


async def test_it_is_replaced_with_all_that_it_runs(tmp_path: Path) -> None:
    async with house(tmp_path, engine=ProcessEngine(host_environment())) as made:
        await made.ask("new project demo", contains="is ready", within_s=60)
        project = made.app.projects.get("demo")
        await made.say("@@run touch began; sleep 300")
        await until(lambda: (project.path / "began").exists(), 20)
        made.app.admission.events.tell(SledIgnores(project.id))
        told = await made.transport.until(lambda texts: any("was interrupted" in text for text in texts), 30)
        assert any("`retry` runs it again" in text for text in told)
        await made.say("hello")
        await made.transport.until(lambda texts: "You said:\nhello" in texts, 30)


@pytest.mark.parametrize("arguments", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "[" * 5000 + "]" * 5000 + "}"])
def test_arguments_that_are_nested_without_end_are_shown_as_they_are(arguments: str) -> None:
    question = Question(id="q", kind="permission", tool="Bash", arguments=arguments)
    assert arguments in cards.arguments(question)
    assert cards.summary(question) == "Bash"
    assert arguments in cards.attachment(question)


@pytest.mark.parametrize(("lines", "compared"), [(200, True), (201, False)])
def test_only_so_much_is_compared_where_others_wait(lines: int, compared: bool) -> None:
    """The difference is made on the thread that stores everybody's messages."""
    old, new = ("\n".join([side, *map(str, range(lines - 1))]) for side in ("old", "new"))
    given = json.dumps({"file_path": "x", "old_string": old, "new_string": new})
    shown = cards.arguments(Question(id="q", kind="permission", tool="Edit", arguments=given))
    assert ("-7\n" not in shown) is compared


async def test_a_reply_that_a_sled_made_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members may ask for `logs` and `diff` as often as they like, and each message costs money on some platforms."""
    monkeypatch.setattr(carrying_out, "MAX_REPLY", 100)
    async with house(tmp_path) as made:
        told = await made.ask("help", contains="more characters are not shown")
        assert len(told) < 300


async def test_dialogues_over_many_runs_take_so_much_room_and_not_more(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogues, "MOST", 5)
    store = asking.world.store
    (session,) = await store.read(lambda c: list(c.scalars(select(sessions.c.id))))

    def begin(number: int) -> Callable[[Connection], None]:
        return lambda c: dialogues.note(c, session, agent="a", agent_session=f"d{number}", title=f"t{number}")

    for number in range(12):
        await store.write(begin(number))
        await store.write(begin(7 if number > 7 else number))  # the one that people come back to
    kept = await store.read(lambda c: list(c.scalars(select(tables.dialogues.c.title))))
    assert sorted(kept) == ["t10", "t11", "t7", "t8", "t9"]
