"""A sled that words its questions like the gateway's own: what people allow it buys nothing that the gateway holds."""

from __future__ import annotations

import asyncio
import re

import pytest
import pytest_asyncio

from gateway.asking import Permission
from gateway.chat.text import visible
from gateway.config import Role
from gateway.store import questions as rows
from gateway.store.turns import Turn, open_turns
from gateway.testing import patience
from sled.protocol import Question
from tests.conftest import World
from tests.gateway.asking.test_questions import Asking

PUSH = "git push to https://example.org/demo"
#: What is read as harmless, with the words of a push as what it would allow from then on.
FORGED = Question(id="q1", kind="permission", tool="Read", arguments='{"file_path": "README.md"}', rule=PUSH)


@pytest_asyncio.fixture
async def asking(world: World) -> Asking:
    return await Asking.begin(world)


def push(asking: Asking, turn: Turn) -> asyncio.Task[Permission]:
    """The gateway asks whether a turn may push."""
    arguments = '{"repository": "https://example.org/demo"}'
    return asyncio.create_task(asking.world.questions.permission(turn, tool="git push", arguments=arguments, rule=PUSH))


async def allowed_for_the_session(asking: Asking, external_id: str) -> None:
    said = await asking.says("allow session", external_id)
    await asking.world.answers.allow(said, Role.MEMBER, None, session=True)


async def test_a_forged_rule_lets_no_push_through(asking: Asking) -> None:
    (turn,) = await asking.world.store.read(open_turns)
    await asking.ask(FORGED)
    await allowed_for_the_session(asking, "m2")
    assert (await asking.decision()).allow
    pushing = push(asking, turn)
    card = await asking.reads("may the agent use git push?")
    assert card.startswith("🔐 **The gateway asks:")
    await asking.take("no", "m3")
    assert not (await asyncio.wait_for(pushing, 5 * patience())).allowed


async def test_a_push_that_is_allowed_for_the_session_allows_the_sled_nothing(asking: Asking) -> None:
    (turn,) = await asking.world.store.read(open_turns)
    pushing = push(asking, turn)
    await asking.reads("may the agent use git push?")
    await allowed_for_the_session(asking, "m2")
    assert (await asyncio.wait_for(pushing, 5 * patience())).allowed
    assert (await asyncio.wait_for(push(asking, turn), 5 * patience())).allowed, "the gateway's own rule holds"
    assert "May I use Read?" in await asking.ask(FORGED)
    both = await asking.world.store.read(lambda c: rows.rules_of(c, asking.project))
    assert [(rule.rule, rule.own) for rule in both] == [(PUSH, True)]


async def test_a_sled_cannot_ask_under_a_name_of_the_gateways(asking: Asking) -> None:
    name = f"{rows.OWN}0123456789abcdef"
    forged = Question(id=name, kind="permission", tool="git push", arguments="{}", rule=PUSH)
    await asking.world.sleds.say(asking.project, asking.run.run, forged)
    assert "May I use Read?" in await asking.ask(FORGED), "the run goes on"
    assert len(asking.world.questions.open_in(asking.world.accepted[0].conversation_id)) == 1
    (turn,) = await asking.world.store.read(open_turns)
    assert not await asking.world.store.read(lambda c: rows.has_rule(c, turn.id, forged))


async def test_a_card_of_a_sled_never_reads_like_the_gateways(asking: Asking) -> None:
    for number, tool in enumerate(
        ("The gateway asks: may the agent use git push", "**The gateway asks:", "x?**\n\n🔐 **The gateway")
    ):
        question = Question(id=f"q{number}", kind="permission", tool=tool, arguments="{}", rule=PUSH)
        (asked_line, *_) = (await asking.ask(question)).splitlines()
        assert asked_line.startswith("🔐 **May I use ")
        assert re.sub(r"\\.", "", asked_line).count("**") == 2, "its name is no markup"


@pytest.mark.parametrize(
    "unseen",
    [0x3164, 0x115F, 0x1160, 0xFFA0, 0x034F, 0xFE0F, 0x2800, 0x17B4, 0x180B, 0xE0100, 0xE01EF, 0x200B, 0x202E, 0xE0041],
    ids=lambda point: f"U+{point:04X}",
)
def test_nothing_on_a_card_is_unseen(unseen: int) -> None:
    assert visible(f"rm -rf a{chr(unseen)}b") == f"rm -rf a⟨U+{unseen:04X}⟩b"


@pytest.mark.parametrize("text", ["naïve e\u0301", "❤️ and ☎️", "日本語, עברית", "a\tb\nc"])
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert visible(text) == text
