"""An agent that tries everything at the door: what it may is what its level says, and each refusal is in the audit."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from commands.table import COMMANDS
from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from gateway.hive.door import AT_ONCE, PER_RUN
from gateway.hive.powers import words_of
from gateway.store import audit
from gateway.store.audit import Entry
from gateway.testing import patience
from sled.protocol import MAX_COMMAND, BadFrame, Command, Told, decode_from_sled, encode
from tests.support.house import House, house, make_settings

pytestmark = [pytest.mark.timeout(120)]

#: What an agent would type to get at something, for each command that is for people.
TRIED = {
    "switch": "switch api",
    "stop": "stop",
    "allow": "allow",
    "deny": "deny",
    "questions": "questions",
    "undo": "undo api",
    "reset": "reset",
    "sessions": "sessions 1",
    "page": "page",
    "sessions web": "sessions web",
    "sessions web end": "sessions web end",
    "compact": "compact",
    "permissions": "permissions allow",
    "revoke": "revoke 1",
    "agent": "agent scripted",
    "audit": "audit",
    "grant": "grant shop lead",
    "revoke grant": "revoke grant 1",
    "delete": "delete api --purge",
    "confirm": "confirm {code} api",
    "ambient": "ambient on",
    "lead": "lead shop",
    "git identity": "git identity Mallory <m@example.org>",
}
ASKED = {
    "new project": "new project third",
    "model": "model opus",
    "up": "up shop",
    "down": "down shop",
    "restart": "restart shop",
    "rebuild": "rebuild shop",
    "limits": "limits shop memory=8g",
    "rollback": "rollback shop",
    "propose": "propose limits memory=8g because I want it",
}


@pytest_asyncio.fixture
async def yard(tmp_path: Path) -> AsyncIterator[House]:
    """Two projects; the room is about shop, and nobody answers cards for long."""
    settings = make_settings(tmp_path, agent={"permission_timeout_s": 0.3})
    async with house(tmp_path, engine=ProcessEngine(host_environment()), settings=settings) as made:
        for name in ("api", "shop"):
            await made.ask(f"new project {name}", contains="is ready", within_s=30)
        yield made


async def refusals(made: House) -> Counter[str]:
    found: list[Entry] = await made.app.store.read(lambda c: audit.newest(c, 500))
    return Counter(e.text for e in found if e.actor == "agent:shop" and e.detail.get("fate") == "refused")


async def test_every_command_of_the_table(yard: House) -> None:
    assert set(TRIED) == {words_of(command) for command in COMMANDS if command.level == "never"}
    assert set(ASKED) == {words_of(command) for command in COMMANDS if command.level == "ask"}
    code = re.search(r"confirm (\w{4}) api", await yard.ask("delete api --purge", contains="confirm"))
    assert code is not None, "which the agent reads in its room"
    before = [(p.name, p.desired, p.permissions, p.model, p.agent) for p in yard.app.projects.all()]
    typed = [text.format(code=code[1]) for text in (*TRIED.values(), *ASKED.values())]
    looks = ("status", "diff", "logs", "ssh", "usage", "schedules", "up", "releases")
    abroad = [f"{text} api" for text in looks]
    orders = "\n".join(f"@@huskies {text}" for text in (*typed, *abroad))
    await yard.say(orders)
    await asyncio.wait_for(yard.app.fates.all_settled(), 60 * patience())
    assert [(p.name, p.desired, p.permissions, p.model, p.agent) for p in yard.app.projects.all()] == before
    assert yard.app.powers.granted() == []
    assert await refusals(yard) == Counter([*typed, *abroad])


async def test_frames_that_no_sled_of_ours_makes(yard: House) -> None:
    """Whoever has the project's token can send what they like: they are that project, and nobody else."""
    app = yard.app
    shop, api = app.projects.get("shop").id, app.projects.get("api").id
    sent: list[Told] = []

    async def hears(project_id: int, frame: object) -> bool:
        assert project_id == shop and isinstance(frame, Told)
        sent.append(frame)
        return True

    app.door._send = hears
    await yard.say("switch api")
    await yard.say("@@run while [ ! -e go ]; do sleep 0.05; done")
    async with asyncio.timeout(20 * patience()):
        while not (others := app.dispatcher.running_in(api)):
            await asyncio.sleep(0.02)
    for run in (others[0].run, "r0-0", "", "x" * 80):
        await app.door.on_command(shop, Command(call=f"c{run[:4]}", run=run, text="status"))
    for run, call in (("a/b", "c"), ("a", "b/c"), ("../1", "c")):
        await app.door.on_command(shop, Command(call=call, run=run, text="status"))
    async with asyncio.timeout(20 * patience()):
        while len(sent) < 4:
            await asyncio.sleep(0.02)
    assert {told.outcome for told in sent} == {"refused"}
    assert await refusals(yard) == Counter({"status": 4})
    (app.projects.get("api").path / "go").touch()
    for odd in (Command(call="", run="r", text="x"), Command(call="c", run="r", text="x" * (MAX_COMMAND + 1))):
        with pytest.raises(BadFrame):
            decode_from_sled(encode(odd))


async def test_a_thousand_calls(yard: House) -> None:
    app, shop = yard.app, yard.app.projects.get("shop").id
    told: list[Told] = []

    async def hears(project_id: int, frame: object) -> bool:
        if isinstance(frame, Told):
            told.append(frame)
        return True

    await yard.say("@@run while [ ! -e go ]; do sleep 0.05; done")
    async with asyncio.timeout(20 * patience()):
        while not (running := app.dispatcher.running_in(shop)):
            await asyncio.sleep(0.02)
    app.door._send, send = hears, app.door._send
    for n in range(1000):
        await app.door.on_command(shop, Command(call=f"c{n}", run=running[0].run, text="version"))
    async with asyncio.timeout(30 * patience()):
        while len(told) < 1000:
            await asyncio.sleep(0.02)
    done = sum(one.outcome == "done" for one in told)
    assert AT_ONCE <= done <= PER_RUN
    assert len({one.call for one in told}) == 1000, "each is answered once"
    assert sum((await refusals(yard)).values()) == 1, "what follows has no row of its own, and the row says so"
    app.door._send = send
    (app.projects.get("shop").path / "go").touch()
