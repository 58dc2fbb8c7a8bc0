"""What agents ask: one card, one answer, one effect; sleds that the test plays, a real database."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import update

from gateway.asking import Permission, cards
from gateway.asking import questions as questions_module
from gateway.chat import Attachment, Capabilities, Fate, OutgoingFile
from gateway.config import Role
from gateway.errors import UserError
from gateway.store import questions as rows
from gateway.store import turns as turn_rows
from gateway.store.messages import StoredMessage
from gateway.store.tables import questions as table
from gateway.store.turns import open_turns
from gateway.testing import FakeTransport, patience
from sled.protocol import Decision, Finished, Option, Query, Question, Run, RunState, Withdrawn
from tests.conftest import FAST, World, close_world, make_world
from tests.support.wall_clock import WallClock

BASH = Question(id="q1", kind="permission", tool="Bash", arguments='{"command": "npm test"}', rule="Bash: npm test")
COLOUR = Query(text="Which colour?", options=[Option(label="Red"), Option(label="Blue", description="like the sea")])
ASK = Question(id="q2", kind="query", queries=[COLOUR])


@pytest_asyncio.fixture
async def asking(world: World) -> Asking:
    return await Asking.begin(world)


class Asking:
    """A run of Ana's that asks; Ben is a member, Olga an operator."""

    def __init__(self, world: World, project: int, run: Run) -> None:
        self.world = world
        self.project = project
        self.run = run

    @classmethod
    async def begin(cls, world: World) -> Asking:
        project = await world.project()
        await world.activate(project)
        await world.say("do it", "m1")
        _, run = await world.next_run()
        return cls(world, project, run)

    async def ask(self, question: Question) -> str:
        """The agent asks; the card, once people see it."""
        before = len(self.world.transport.texts)
        await self.world.sleds.say(self.project, self.run.run, question)
        return (await self.world.transport.until(lambda texts: len(texts) > before))[-1]

    async def says(self, text: str, external_id: str, sender: str = "fake:ana", presses: str = "") -> StoredMessage:
        """A message that came in; it goes nowhere but to the questions."""
        message = self.world.transport.message(text, external_id, sender=sender)
        if presses:
            message = replace(message, presses=presses)
        before = len(self.world.accepted)
        await self.world.inbox.accept("fake", [message], None)
        return self.world.accepted[before]

    async def take(self, text: str, external_id: str, sender: str = "fake:ana", role: Role = Role.MEMBER) -> str | None:
        return await self.world.answers.take(await self.says(text, external_id, sender), role)

    async def decision(self) -> Decision:
        return await asyncio.wait_for(self.world.sleds.decisions.get(), 5 * patience())

    async def reads(self, part: str) -> str:
        """The text of the conversation that contains `part`."""
        texts = await self.world.transport.until(lambda texts: any(part in text for text in texts))
        return next(text for text in texts if part in text)


async def test_a_card_shows_the_tool_and_the_whole_of_its_arguments(asking: Asking) -> None:
    card = await asking.ask(BASH)
    assert "May I use Bash?" in card
    assert "```sh\nnpm test\n```" in card
    assert "`allow`" in card
    assert "`allow session` (from now on: `Bash: npm test`)" in card
    assert "Ana or an operator" in card


async def test_what_is_allowed_is_told_to_the_sled_and_stands_in_the_card(asking: Asking) -> None:
    await asking.ask(BASH)
    assert await asking.take("yes", "m2") == ""
    assert await asking.decision() == Decision(run=asking.run.run, question="q1", allow=True)
    assert "Allowed by Ana" in await asking.reads("Allowed")
    assert not any("May I use" in text for text in asking.world.transport.texts)


async def test_a_denial_carries_its_reason(asking: Asking) -> None:
    await asking.ask(BASH)
    await asking.take("no, use pnpm", "m2")
    decision = await asking.decision()
    assert (decision.allow, decision.text) == (False, "use pnpm")
    assert "use pnpm" in await asking.reads("Denied by Ana")


async def test_only_the_requester_or_an_operator_may_answer(asking: Asking) -> None:
    await asking.ask(BASH)
    assert await asking.take("yes", "m2", "fake:ben") is None  # a prompt like any other
    with pytest.raises(UserError, match="Only Ana or an operator"):
        await asking.world.answers.allow(await asking.says("allow", "m3", "fake:ben"), Role.MEMBER, None, session=False)
    assert asking.world.sleds.decisions.empty()
    operator = await asking.says("allow", "m4", "fake:ben")
    await asking.world.answers.allow(operator, Role.OPERATOR, None, session=False)
    assert (await asking.decision()).allow


async def test_the_second_answer_and_a_late_one_have_no_effect(asking: Asking) -> None:
    await asking.ask(BASH)
    ask = asking.world.answers
    yes, no = await asking.says("allow", "m2"), await asking.says("deny", "m3")
    told = await asyncio.gather(
        ask.allow(yes, Role.MEMBER, None, session=False),
        ask.deny(no, Role.MEMBER, None, ""),
        return_exceptions=True,
    )
    assert told[0] == ""
    assert isinstance(told[1], UserError) or "already" in str(told[1])
    assert (await asking.decision()).allow
    with pytest.raises(UserError, match="No question of that kind is open"):
        await ask.deny(no, Role.MEMBER, None, "")
    assert asking.world.sleds.decisions.empty()


async def test_allowed_for_the_session_asks_no_more_until_it_is_revoked(asking: Asking) -> None:
    world = asking.world
    await asking.ask(BASH)
    await world.answers.allow(await asking.says("allow session", "m2"), Role.MEMBER, None, session=True)
    assert (await asking.decision()).allow
    cards = len(world.transport.texts)
    await world.sleds.say(asking.project, asking.run.run, _again("q7"))
    assert (await asking.decision()).question == "q7"
    assert len(world.transport.texts) == cards
    (rule,) = await world.store.read(lambda c: rows.rules_of(c, asking.project))
    assert (rule.rule, rule.allowed_by) == ("Bash: npm test", "fake:ana")
    await world.store.write(lambda c: rows.drop_rules(c, [rule.id]))
    assert "May I use Bash?" in await asking.ask(_again("q8"))


def _again(name: str) -> Question:
    return Question(id=name, kind="permission", tool="Bash", arguments=BASH.arguments, rule=BASH.rule)


async def test_a_rule_is_of_one_session(world: World) -> None:
    here = await Asking.begin(world)
    await here.ask(BASH)
    await world.answers.allow(await here.says("allow session", "m2"), Role.MEMBER, None, session=True)
    await here.decision()
    await world.sleds.finish(here.project, here.run)
    await world.activate(here.project, room="other")
    await world.say("do it here", "m3", room="other")
    _, run = await world.next_run()
    assert "May I use Bash?" in await Asking(world, here.project, run).ask(_again("q9"))


@pytest_asyncio.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Asking]:
    world = await make_world(tmp_path, question_s=0.05)
    yield await Asking.begin(world)
    await close_world(world)


async def test_nobody_answers_in_time_denies(impatient: Asking) -> None:
    await impatient.world.sleds.say(impatient.project, impatient.run.run, BASH)
    decision = await impatient.decision()
    assert not decision.allow
    assert "nobody answered" in decision.text
    assert "Nobody answered in time: denied" in await impatient.reads("Nobody answered")
    first = impatient.world.accepted[0]
    (asked,) = await impatient.world.store.read(lambda c: rows.unanswered(c, first.conversation_id, 5))
    assert asked.outcome == "expired"


async def test_a_question_is_answered_by_number_label_or_words(asking: Asking) -> None:
    for number, (said, meant) in enumerate([("2", "Blue"), ("red", "Red"), ("neither, green", "neither, green")]):
        await asking.ask(Question(id=f"a{number}", kind="query", queries=[COLOUR]))
        assert await asking.take(said, f"n{number}") == ""
        decision = await asking.decision()
        assert (decision.allow, decision.answers) == (True, [[meant]])
    with pytest.raises(UserError, match="There are 2 options"):
        await asking.ask(Question(id="a9", kind="query", queries=[COLOUR]))
        await asking.take("7", "n9")


async def test_several_questions_are_asked_one_after_the_other(asking: Asking) -> None:
    sizes = Query(text="Which sizes?", options=[Option(label=s) for s in ("S", "M", "L")], several=True)
    card = await asking.ask(Question(id="q3", kind="query", queries=[COLOUR, sizes]))
    assert "(1 of 2) Which colour?" in card
    await asking.take("1", "n1")
    assert "Which sizes?" in await asking.reads("(2 of 2)")
    assert asking.world.sleds.decisions.empty()
    await asking.take("1 and 3", "n2")
    assert (await asking.decision()).answers == [["Red"], ["S", "L"]]


async def test_with_several_open_the_number_decides(asking: Asking) -> None:
    await asking.ask(BASH)
    second = Question(id="q4", kind="permission", tool="Write", arguments='{"file_path": "a", "content": "b"}')
    assert "`allow 2`" in await asking.ask(second)
    with pytest.raises(UserError, match=r"Several are open.*\n1\. Bash `npm test`\n2\. Write `a`"):
        await asking.take("yes", "m2")
    await asking.take("no 2 not there", "m3")
    decision = await asking.decision()
    assert (decision.question, decision.allow, decision.text) == ("q4", False, "not there")
    await asking.take("yes", "m4")
    assert (await asking.decision()).question == "q1"


async def test_a_button_is_an_answer_of_whoever_may_give_it(asking: Asking) -> None:
    world = asking.world
    await asking.ask(BASH)
    (asked,) = world.questions.open_in(world.accepted[0].conversation_id)
    assert asked.card_id is not None
    assert await world.outbox.drain(5)
    stands_at = await world.outbox.stands_at(asked.card_id)
    with pytest.raises(UserError, match="Only Ana"):
        await world.answers.pressed(await asking.says("allow", "p1", "fake:ben", stands_at), Role.MEMBER)
    assert await world.answers.pressed(await asking.says("🎉", "p2", presses=stands_at), Role.MEMBER) == ""
    assert await world.answers.pressed(await asking.says("allow", "p3", presses="elsewhere"), Role.MEMBER) == ""
    assert world.sleds.decisions.empty()
    await world.answers.pressed(await asking.says("allow", "p4", presses=stands_at), Role.MEMBER)
    assert (await asking.decision()).allow
    assert await world.answers.pressed(await asking.says("deny", "p5", presses=stands_at), Role.MEMBER) == ""
    assert world.sleds.decisions.empty()


async def test_the_end_of_a_run_closes_its_card(asking: Asking) -> None:
    await asking.ask(BASH)
    await asking.world.sleds.say(asking.project, asking.run.run, Finished(ending="interrupted", reason="crashed"))
    assert "the agent is no longer waiting" in await asking.reads("Closed")
    assert await asking.take("yes", "m2") is None
    assert asking.world.sleds.decisions.empty()


async def test_a_question_that_is_withdrawn_is_closed(asking: Asking) -> None:
    await asking.ask(BASH)
    await asking.world.sleds.say(asking.project, asking.run.run, Withdrawn(question="q1"))
    await asking.reads("Closed")
    assert asking.world.questions.open_in(asking.world.accepted[0].conversation_id) == []


async def test_a_question_survives_a_restart_with_at_least_a_minute_left(tmp_path: Path) -> None:
    world = await make_world(tmp_path, question_s=1.0)
    asking = await Asking.begin(world)
    await asking.ask(BASH)
    await close_world(world)

    again = await make_world(tmp_path, question_s=1.0, transport=world.transport)
    before = time.time()
    await again.questions.recover(lambda _: None)
    await again.dispatcher.recover()
    (asked,) = again.questions.open_in(world.accepted[0].conversation_id)
    assert asked.deadline >= before + questions_module.AFTER_RESTART_S
    # The sled says it again, as it does of everything that it is not sure of; there is one card all the same.
    again.sleds.connect(asking.project, runs=[RunState(run=asking.run.run, last=1, finished=False)])
    await again.sleds.say(asking.project, asking.run.run, BASH)
    later = Asking(again, asking.project, asking.run)
    await later.take("yes", "m2")
    assert (await later.decision()).allow
    assert sum("Bash" in text for text in again.transport.texts) == 1
    await close_world(again)


async def test_a_decision_is_said_again_to_a_sled_that_comes_back(asking: Asking) -> None:
    await asking.ask(BASH)
    asking.world.sleds.disconnect(asking.project)
    await asking.take("yes", "m2")
    assert asking.world.sleds.decisions.empty()
    asking.world.sleds.connect(asking.project, runs=[RunState(run=asking.run.run, last=1, finished=False)])
    assert (await asking.decision()).allow


async def test_a_decision_of_before_a_restart_is_said_after_it(tmp_path: Path) -> None:
    world = await make_world(tmp_path)
    asking = await Asking.begin(world)
    await asking.ask(BASH)
    world.sleds.disconnect(asking.project)
    await asking.take("no", "m2")
    await close_world(world)
    again = await make_world(tmp_path)
    await again.questions.recover(lambda _: None)
    await again.dispatcher.recover()
    again.sleds.connect(asking.project, runs=[RunState(run=asking.run.run, last=1, finished=False)])
    decision = await asyncio.wait_for(again.sleds.decisions.get(), 5 * patience())
    assert (decision.question, decision.allow) == ("q1", False)
    await close_world(again)


LONG = Question(
    id="q5", kind="permission", tool="Write", arguments=json.dumps({"file_path": "a", "content": "é\u202e" * 10_000})
)


async def test_what_is_too_long_for_a_card_is_a_file_above_it(asking: Asking) -> None:
    card = await asking.ask(LONG)
    while "May I" not in card:
        card = asking.world.transport.texts[-1]
        await asyncio.sleep(0)
    assert "Write `a`" in card
    assert "in the file above" in card
    texts = asking.world.transport.texts
    assert texts.index("[Write.txt]") == len(texts) - 2
    sent = asking.world.transport.files["Write.txt"].decode()
    assert sent.startswith("--- file_path ---\na\n\n--- content ---\né⟨U+202E⟩é")
    await asking.take("yes", "m2")
    assert (await asking.decision()).allow


async def test_what_no_disk_holds_is_denied_unseen(
    asking: Asking, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, data: bytes) -> OutgoingFile:
        raise OSError(28, "No space left on device")

    keeping(asking, monkeypatch, full)
    await asking.world.sleds.say(asking.project, asking.run.run, LONG)
    decision = await asking.decision()
    assert not decision.allow
    assert "smaller parts" in decision.text
    assert "No space left" in caplog.text
    assert not any("May I" in text for text in asking.world.transport.texts)


def keeping(asking: Asking, monkeypatch: pytest.MonkeyPatch, keep: Callable[[str, bytes], OutgoingFile]) -> None:
    """Files of arguments are made by `keep`."""
    monkeypatch.setattr(asking.world.questions, "posting", replace(asking.world.questions.posting, keep=keep))


async def test_what_a_rule_allows_makes_no_file(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    keep = asking.world.questions.posting.keep

    def noted(name: str, data: bytes) -> OutgoingFile:
        made.append(name)
        return keep(name, data)

    keeping(asking, monkeypatch, noted)
    ruled = msgspec.structs.replace(LONG, rule="Write")
    await asking.ask(ruled)
    await asking.world.answers.allow(await asking.says("allow session", "m2"), Role.MEMBER, None, session=True)
    assert (await asking.decision()).allow
    await asking.world.sleds.say(asking.project, asking.run.run, msgspec.structs.replace(ruled, id="q6"))
    assert (await asking.decision()).allow
    assert made == ["Write.txt"]


async def test_a_question_of_the_gateways_own_is_nothing_to_the_sled(asking: Asking) -> None:
    (turn,) = await asking.world.store.read(open_turns)
    permission = asking.world.questions.permission(turn, tool="git push", arguments="{}", rule="git push to x")
    waits = asyncio.create_task(permission)
    await asking.reads("may the agent use git push?")
    await asking.take("yes", "m2")
    assert (await waits).allowed
    assert asking.world.sleds.decisions.empty()


async def test_a_question_with_a_name_outlives_the_gateway_and_has_one_outcome(tmp_path: Path) -> None:
    world = await make_world(tmp_path)
    asking = await Asking.begin(world)
    (turn,) = await world.store.read(open_turns)
    call: dict[str, Any] = {"tool": "huskies", "arguments": "{}", "rule": "", "name": "1/r1/c1", "operators_only": True}
    waits = asyncio.create_task(world.questions.permission(turn, **call))
    await asking.reads("The gateway asks")
    await close_world(world)
    waits.cancel()
    again = await make_world(tmp_path)
    await again.questions.recover(lambda _: None)
    await again.dispatcher.recover()
    (asked,) = again.questions.open_in(world.accepted[0].conversation_id)
    assert again.questions.who(asked) == "An operator"
    waits = asyncio.create_task(again.questions.permission(turn, **call))
    later = Asking(again, asking.project, asking.run)
    assert await later.take("no, not today", "m3", "fake:ana", Role.OPERATOR) == ""
    no = Permission(allowed=False, why="not today", by="fake:ana", shown="{}")
    assert await asyncio.wait_for(waits, 5 * patience()) == no
    assert await again.questions.permission(turn, **call) == no, "asked again"
    assert len([text for text in again.transport.texts if "The gateway asks" in text]) <= 1
    await close_world(again)


async def test_a_question_of_the_gateways_own_ends_with_the_gateway(tmp_path: Path) -> None:
    world = await make_world(tmp_path)
    asking = await Asking.begin(world)
    (turn,) = await world.store.read(open_turns)
    permission = world.questions.permission(turn, tool="git push", arguments="{}", rule="git push to x")
    waits = asyncio.create_task(permission)
    await asking.reads("may the agent use git push?")
    await close_world(world)
    again = await make_world(tmp_path)
    await again.questions.recover(lambda _: None)
    await again.dispatcher.recover()
    assert again.questions.open_in(world.accepted[0].conversation_id) == []
    again.sleds.connect(asking.project, runs=[RunState(run=asking.run.run, last=1, finished=False)])
    await again.sleds.say(asking.project, asking.run.run, BASH)
    await again.transport.until(lambda texts: any("May I use Bash?" in text for text in texts))
    assert again.sleds.decisions.empty()
    await close_world(again)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)


async def test_what_is_too_long_to_be_read_is_denied_unseen(tmp_path: Path) -> None:
    plain = Capabilities(max_text=2000, edits=True, edit_interval_s=0.0, idempotent=True, marks=False)
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=plain))
    asking = await Asking.begin(world)
    await world.sleds.say(asking.project, asking.run.run, LONG)
    decision = await asking.decision()
    assert not decision.allow
    assert "smaller parts" in decision.text
    assert not any("May I" in text for text in world.transport.texts)
    await close_world(world)


async def test_where_nothing_can_be_edited_the_outcome_is_the_reply(tmp_path: Path) -> None:
    plain = Capabilities(max_text=2000, edits=False, edit_interval_s=0.0, idempotent=True, marks=False)
    world = await make_world(tmp_path, transport=FakeTransport(serving=True, capabilities=plain))
    asking = await Asking.begin(world)
    await asking.ask(BASH)
    assert await asking.take("yes", "m2") == ""
    assert "Allowed by Ana" in await asking.reads("Allowed by Ana")
    assert (await asking.decision()).allow
    await close_world(world)


async def test_waiting_for_a_person_is_no_silence_and_not_on_the_clock(tmp_path: Path) -> None:
    limits = type(FAST)(window_s=0.01, window_max_s=0.1, silence_s=0.3, turn_s=0.6)
    world = await make_world(tmp_path, limits)
    asking = await Asking.begin(world)
    await asking.ask(BASH)
    await asyncio.sleep(1.0)  # longer than either limit: nothing may happen
    assert world.sleds.stops.empty()
    await asking.take("yes", "m2")
    stop = await asyncio.wait_for(world.sleds.stops.get(), 5 * patience())  # but now the model is silent
    assert stop.run == asking.run.run
    (turn,) = await world.store.read(turn_rows.open_turns)
    assert turn.waited_s >= 0.9
    await close_world(world)


async def test_a_deadline_that_passed_while_the_gateway_was_away_still_gives_people_time(tmp_path: Path) -> None:
    world = await make_world(tmp_path, question_s=30)
    asking = await Asking.begin(world)
    await asking.ask(ASK)
    await world.store.write(lambda c: c.execute(update(table).values(deadline=time.time() - 500)))
    await close_world(world)
    again = await make_world(tmp_path)
    await again.questions.recover(lambda _: None)
    (asked,) = again.questions.open_in(world.accepted[0].conversation_id)
    assert asked.deadline > time.time() + 50
    await close_world(again)


# --- sequences -------------------------------------------------------------------------------------------------------


async def test_a_message_that_answered_is_settled_together_with_the_question(asking: Asking) -> None:
    """Else a crash, or a full disk, in between would make a prompt, or the next answer, of it."""
    sizes = Query(text="Which sizes?", options=[Option(label=s) for s in ("S", "M", "L")])
    await asking.ask(Question(id="q3", kind="query", queries=[COLOUR, sizes]))
    await asking.take("1", "n1")
    assert await asking.world.fate("n1") is Fate.ANSWERED
    await asking.take("2", "n2")
    assert await asking.world.fate("n2") is Fate.ANSWERED
    assert (await asking.decision()).answers == [["Red"], ["M"]]


async def test_a_message_with_a_file_is_no_answer(asking: Asking) -> None:
    await asking.ask(ASK)
    photo = replace(await asking.says("like this", "m2"), files=(Attachment("p.png", "image/png", 3, "r"),))
    assert await asking.world.answers.take(photo, Role.MEMBER) is None
    assert asking.world.sleds.decisions.empty()


async def test_a_press_while_another_question_closes_counts(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    world = asking.world
    await asking.ask(BASH)
    await asking.ask(Question(id="q4", kind="permission", tool="Write", arguments='{"file_path": "a"}'))
    assert await world.outbox.drain(5)
    first, second = world.questions.open_in(world.accepted[0].conversation_id)
    assert second.card_id is not None
    presses, stands_at = await world.outbox.stands_at(second.card_id), world.outbox.stands_at

    async def meanwhile(row_id: int) -> str:
        if row_id == first.card_id:
            await world.sleds.say(asking.project, asking.run.run, Withdrawn(question="q1"))
        return await stands_at(row_id)

    monkeypatch.setattr(world.outbox, "stands_at", meanwhile)
    await world.answers.pressed(await asking.says("allow", "p1", presses=presses), Role.MEMBER)
    assert (await asking.decision()).question == "q4"


async def test_a_press_means_the_option_of_that_place_not_of_that_name(asking: Asking) -> None:
    world = asking.world
    numbers = Query(text="How many?", options=[Option(label=label) for label in ("3", "5", "10")])
    await asking.ask(Question(id="q3", kind="query", queries=[numbers]))
    assert await world.outbox.drain(5)
    (asked,) = world.questions.open_in(world.accepted[0].conversation_id)
    assert asked.card_id is not None
    presses = await world.outbox.stands_at(asked.card_id)
    await world.answers.pressed(await asking.says("3", "p1", presses=presses), Role.MEMBER)
    assert (await asking.decision()).answers == [["10"]]


@pytest.mark.parametrize("queries", [[], [COLOUR, Query(text="?", options=[Option(label="x" * 2000)] * 10)]])
async def test_a_question_that_cannot_be_shown_as_a_whole_is_not_asked(asking: Asking, queries: list[Query]) -> None:
    await asking.world.sleds.say(asking.project, asking.run.run, Question(id="q3", kind="query", queries=queries))
    assert not (await asking.decision()).allow
    assert asking.world.questions.open_in(asking.world.accepted[0].conversation_id) == []


def test_a_change_that_takes_long_to_compare_is_shown_without() -> None:
    """Cards are made on the thread that writes the database."""
    old, new = (
        "\n".join(line for n in range(8000) for line in (f"{side}{n}", str(n * step % 97)))
        for side, step in (("o", 1), ("n", 7))
    )
    body = Question(
        id="q", kind="permission", tool="Edit", arguments=json.dumps({"old_string": old, "new_string": new})
    )
    began = time.monotonic()
    shown = cards.arguments(body)
    assert time.monotonic() - began < 2 * patience()
    assert "-o0\n" in shown
    assert "+n0\n" in shown


async def test_a_turn_that_is_over_asks_nothing(asking: Asking) -> None:
    """Its question was on its way when something else ended it."""
    world = asking.world
    (turn,) = await world.store.read(turn_rows.open_turns)
    await world.sleds.finish(asking.project, asking.run)
    await world.questions.asked(turn, BASH)
    assert world.questions.open_in(turn.key.conversation_id) == []


async def test_the_end_of_a_turn_closes_a_question_that_is_only_in_the_database_yet(asking: Asking) -> None:
    world = asking.world
    (turn,) = await world.store.read(turn_rows.open_turns)
    on_its_way = asyncio.create_task(world.questions.asked(turn, BASH))
    await asyncio.gather(on_its_way, *world.dispatcher.interrupt_all(asking.project))
    await asking.reads("Closed")
    assert world.questions.open_in(turn.key.conversation_id) == []
    assert await world.store.read(rows.all_open) == []


async def test_what_people_took_before_a_restart_is_not_on_the_clock(tmp_path: Path) -> None:
    limits = replace(FAST, turn_s=1.0)
    world = await make_world(tmp_path, limits)
    asking = await Asking.begin(world)
    await asking.ask(BASH)
    await asyncio.sleep(1.2)  # longer than a turn may take
    await close_world(world)
    again = await make_world(tmp_path, limits, transport=world.transport)
    await again.questions.recover(lambda _: None)
    await again.dispatcher.recover()
    again.sleds.connect(asking.project, runs=[RunState(run=asking.run.run, last=1, finished=False)])
    await Asking(again, asking.project, asking.run).take("yes", "m2")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(again.sleds.stops.get(), 0.4)
    await close_world(again)


async def test_nothing_in_a_card_reads_as_something_else(asking: Asking) -> None:
    """What is allowed for a session is read as it is compared, and a tool's name stays on its line."""
    rule = "Bash: echo [npm test](; rm *a _b_)"
    odd = Question(id="q9", kind="permission", tool="Read?**\n\n✅ Allowed by Olga.", arguments="{}", rule=rule)
    card = await asking.ask(odd)
    assert f"(from now on: `{rule}`)" in card
    assert "\n✅" not in card


async def test_in_a_group_whoever_is_asked_need_not_mention_the_bot_to_answer(asking: Asking) -> None:
    world = asking.world
    await asking.ask(BASH)
    before = len(world.accepted)
    group = [
        replace(world.transport.message(text, f"g{number}", sender=sender), direct=False)
        for number, (text, sender) in enumerate(
            [
                ("allow", "fake:ben"),
                ("let us have lunch", "fake:ana"),
                ("no idea, Ben", "fake:ana"),
                ("Yes!", "fake:ana"),
            ]
        )
    ]
    await world.inbox.accept("fake", group, None)
    assert [message.text for message in world.accepted[before:]] == ["Yes!"]


async def test_a_denials_reason_outlives_a_restart(tmp_path: Path) -> None:
    world = await make_world(tmp_path)
    asking = await Asking.begin(world)
    await asking.ask(BASH)
    world.sleds.disconnect(asking.project)
    await asking.take("no, use pnpm", "m2")
    await close_world(world)
    again = await make_world(tmp_path)
    await again.questions.recover(lambda _: None)
    await again.dispatcher.recover()
    again.sleds.connect(asking.project, runs=[RunState(run=asking.run.run, last=1, finished=False)])
    assert (await asyncio.wait_for(again.sleds.decisions.get(), 5 * patience())).text == "use pnpm"
    await close_world(again)


async def test_a_turn_cannot_flood_a_conversation_with_questions(asking: Asking) -> None:
    for number in range(questions_module.MAX_OPEN + 1):
        await asking.world.sleds.say(asking.project, asking.run.run, _again(f"q{number}"))
    decision = await asking.decision()
    assert (decision.question, decision.allow) == (f"q{questions_module.MAX_OPEN}", False)
    assert "one after another" in decision.text


async def test_a_number_in_a_denial_is_part_of_its_reason_while_one_is_open(asking: Asking) -> None:
    await asking.ask(BASH)
    await asking.take("no 3 tests fail", "m2")
    assert (await asking.decision()).text == "3 tests fail"


# --- words that are less than agreed ones ----------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["yep", "Sure!", "go ahead, please", "👍", "👍🏽", "👍👍", "OK.", "Yes please!"])
async def test_a_thumb_allows_once_what_is_asked_alone(asking: Asking, said: str) -> None:
    await asking.ask(BASH)
    assert await asking.take(said, "m2") == ""
    assert (await asking.decision()).allow
    assert await asking.world.store.read(lambda c: rows.rules_of(c, asking.project)) == []


@pytest.mark.parametrize("said", ["Nope!", "no thanks", "Deny."])
async def test_a_no_in_other_words_denies(asking: Asking, said: str) -> None:
    await asking.ask(BASH)
    await asking.take(said, "m2")
    assert not (await asking.decision()).allow


async def test_a_thumb_is_too_little_where_several_things_are_asked(asking: Asking) -> None:
    await asking.ask(BASH)
    await asking.ask(msgspec.structs.replace(BASH, id="q9"))
    with pytest.raises(UserError, match="`allow 1` or `deny 1`"):
        await asking.take("👍", "m2")
    assert asking.world.sleds.decisions.empty()


async def test_a_thumb_is_too_little_for_a_push(asking: Asking) -> None:
    (turn,) = await asking.world.store.read(open_turns)
    ask = asking.world.questions.permission(turn, tool="git push", arguments="{}", rule="git push to x")
    pushing = asyncio.create_task(ask)
    await asking.reads("may the agent use git push?")
    with pytest.raises(UserError, match="too little"):
        await asking.take("sure", "m2")
    assert not pushing.done()
    await asking.take("yes", "m3")
    assert (await asyncio.wait_for(pushing, 5 * patience())).allowed


async def test_a_thumb_where_nothing_is_asked_is_for_the_agent(asking: Asking) -> None:
    for number, said in enumerate(("yep", "👍", "sure")):
        assert await asking.take(said, f"m{number + 2}") is None


async def test_a_card_rings_and_comes_once_more_at_half_its_time(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, wall_clock: WallClock
) -> None:
    monkeypatch.setattr(questions_module, "REMIND_FROM_S", 1.0)
    card = await asking.ask(BASH)
    assert [text for text, _ in asking.world.transport.rang] == [card]
    wall_clock.step(asking.world.questions.timeout_s / 2 + 1)
    reminder = await asking.reads("That is still asked: `allow 1` or `deny 1`, within")
    assert asking.world.transport.rang[-1] == (reminder, ()), "they are alone with the bot"
    await asking.take("yes", "m2")
    assert (await asking.decision()).allow


async def test_a_question_for_a_minute_is_asked_once(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions_module, "REMIND_FROM_S", 10**6)
    await asking.ask(BASH)
    (waiting,) = asking.world.questions._open.values()
    assert waiting.reminder is None
