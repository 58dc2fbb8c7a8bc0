"""Agents that act: what they ask for at the door, on real sleds, with people in the room."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine
from gateway.store import audit
from gateway.store.audit import Entry
from gateway.testing import patience
from tests.support import acp_agent
from tests.support.gateway_process import GatewayProcess
from tests.support.house import House, house

pytestmark = [pytest.mark.timeout(120)]

ANA, BEN = "fake:ana", "fake:ben"
FAST: dict[str, dict[str, Any]] = {"dispatcher": {"coalesce_window_ms": 50}, "agent": {"kind": "scripted"}}


@pytest_asyncio.fixture
async def yard(tmp_path: Path) -> AsyncIterator[House]:
    """Two projects; the room is about shop."""
    async with house(tmp_path, engine=ProcessEngine(host_environment())) as made:
        for name in ("api", "shop"):
            await made.ask(f"new project {name}", contains="is ready", within_s=30)
        yield made


async def rows(made: House) -> list[Entry]:
    found: list[Entry] = await made.app.store.read(lambda c: audit.newest(c, 100))
    return [entry for entry in found if entry.actor == "agent:shop"]


async def test_an_agent_uses_a_command_about_its_own_project(yard: House) -> None:
    answer = await yard.ask("@@huskies status", contains="done:")
    assert answer.startswith("done: **shop**: ready")
    shell = await yard.ask("@@run huskies status; echo code $?", contains="code")
    assert shell.startswith("**shop**: ready") and shell.endswith("code 0")
    told = [(e.kind, e.text, e.word, e.project) for e in await rows(yard)]
    assert told == [("done", "status", ANA, "shop")] * 2


async def test_what_is_no_command_is_told_and_in_the_audit(yard: House) -> None:
    told = await yard.ask("@@run huskies dance with me; echo code $?", contains="code")
    assert told == "There is no command “dance with me”. `help` lists yours.\ncode 1"
    assert [(e.kind, e.detail["fate"]) for e in await rows(yard)] == [("done", "refused")]


async def test_another_project_needs_a_grant(yard: House) -> None:
    refused = await yard.ask("@@huskies status api", contains="refused:")
    assert refused == (
        "refused: You may not use `status` about api. An operator can allow it: `grant shop status to api`."
    )
    assert await yard.ask("grant shop status to api", contains="may now") == (
        "shop's agent may now use `status` for api."
    )
    assert (await yard.ask("@@huskies status api", contains="done:")).startswith("done: **api**: ready")
    grants = await yard.ask("grants", contains="Grants")
    assert "1. shop: `status` for api (by fake:ana," in grants
    assert await yard.ask("revoke grant 1", contains="Grant 1") == "Grant 1 is taken back."
    assert (await yard.ask("@@huskies status api", contains="refused:")) == refused


async def test_what_agents_ask_for_is_asked_on_a_card_and_a_no_is_the_calls_result(yard: House) -> None:
    await yard.say("@@huskies model opus")
    card = (await yard.transport.until(lambda texts: "may shop's agent do this" in texts[-1]))[-1]
    assert "```\nmodel opus\n```" in card and "That is: the model of shop, now" in card
    assert "Ana or an operator can answer" in card
    assert await yard.ask("no, we stay on the small one", contains="refused:") == (
        "refused: This was not allowed: we stay on the small one"
    )
    await yard.say("@@huskies model opus")
    await yard.transport.until(lambda texts: "may shop's agent do this" in texts[-1])
    assert await yard.ask("allow", contains="done:") == "done: shop: opus from the next run on."
    assert "🐾 shop's agent: `model opus`" in yard.transport.texts
    told = [(e.kind, e.text.partition(" ")[0]) for e in await rows(yard)]
    assert told == [("question", "huskies"), ("done", "model")] * 2


async def test_a_member_gains_nothing_by_having_an_agent_do_it(yard: House) -> None:
    await yard.ask("grant shop restart", contains="may now")
    await yard.say("@@huskies restart", sender=BEN)
    card = (await yard.transport.until(lambda texts: "may shop's agent do this" in texts[-1]))[-1]
    assert "_An operator can answer" in card
    assert "Only an operator can answer that." in await yard.ask("allow", sender=BEN, contains="Only")
    assert "not allowed" in await yard.ask("deny", contains="refused:")


async def test_nobody_grants_an_agent_what_raises_its_power(yard: House) -> None:
    never = [command for command in yard.app.services.commands if command.level == "never"]
    assert {"grant", "revoke grant", "confirm", "allow", "permissions", "delete"} <= {
        command.usage.partition(" <")[0].partition(" [")[0] for command in never
    }
    assert "it cannot be granted" in await yard.ask("grant shop grant", contains="granted")
    for typed in ("grant shop lead", "permissions allow", "allow", "confirm abcd", "delete api"):
        assert "is for people" in await yard.ask(f"@@huskies {typed}", contains="refused:")


async def test_no_run_no_call_unless_that_is_granted(yard: House) -> None:
    """What an agent leaves running is at nobody's word."""
    await yard.ask("grant shop background", contains="may now")
    later = "(while ! huskies status > told 2>&1; do sleep 0.1; done; mv told done) & disown"
    await yard.ask(f"@@run bash -c '{later}' >/dev/null 2>&1; echo begun", contains="begun")
    source = yard.app.projects.get("shop").path
    async with asyncio.timeout(20 * patience()):
        while not (source / "done").exists():
            await asyncio.sleep(0.05)
    assert (source / "done").read_text().startswith("**shop**")


async def test_calls_are_bounded_and_a_refusal_without_a_row_is_in_the_audit_once(
    yard: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.hive.door.PER_RUN", 5)
    order = "for n in $(seq 9); do huskies version >/dev/null 2>&1; echo $?; done"
    await yard.say(f"@@run {order}")
    await yard.transport.until(lambda texts: texts[-1] == "\n".join("000001111"), 30)
    found = [e for e in await rows(yard) if e.kind == "done" and e.detail["fate"] == "refused"]
    assert [e.detail["told"].partition(".")[0] for e in found] == ["This run has made 5 calls; it cannot make any more"]


async def test_an_agent_of_the_agent_client_protocol_has_the_tool(yard: House) -> None:
    assert "Put it into a script" in await yard.ask(f"agent acp:{'/deep' * 20}/agent", contains="longer than 80")
    program = "sh agent"
    (yard.tmp_path / "projects" / "shop" / "agent").write_text(f"exec {sys.executable} {Path(acp_agent.__file__)}\n")
    asked = await yard.ask(f"agent acp:{program}", contains="confirm")
    code = re.search(r"confirm \w{4}", asked)
    assert code is not None
    await yard.ask(code[0], contains="acp")
    await yard.say("@@tools\n@@call status\n@@call grant shop lead")
    await yard.transport.until(lambda texts: any("failed: `grant`" in text for text in texts if text[0] != "⏳"), 30)
    told = "".join(text for text in yard.transport.texts if text[0] != "⏳")  # too long for one message
    assert "huskies: Carry out a command of huskies" in told and "- status [project]: " in told
    assert "well: **shop**: ready" in told
    assert "failed: `grant` is for people" in told


# --- killed --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("point", ["inbox.committed", "command.settled", "outbox.sent"])
async def test_killed_at_a_point_a_call_is_answered_and_done_once(tmp_path: Path, point: str) -> None:
    with GatewayProcess(tmp_path, FAST) as gateway:
        await gateway.start()
        await gateway.send("new project demo", "p")
        await gateway.send("grant demo model", "g")
        ready = "while [ ! -e go ]; do sleep 0.05; done; huskies model opus; echo code $?"
        order = f"@@run touch at; {ready}"
        asking = asyncio.create_task(gateway.send_surely(order, "m"))
        source = gateway.projects / "demo"
        async with asyncio.timeout(30 * patience()):
            while not (source / "at").exists():
                await asyncio.sleep(0.02)
        asking.cancel()  # or it would be what reaches the point
        await gateway.stop()
        (source / "go").touch()  # the call is made while no gateway is there
        gateway.spawn(kill_at=point)
        await gateway.died()
        await gateway.start()
        replies = (await asyncio.wait_for(gateway.send_surely(order, "m"), 60 * patience()))["replies"]
        assert replies[-1] == "demo: opus from the next run on.\ncode 0"
        book = (await gateway.send("audit demo", "a"))["replies"][0]
        assert book.count("`model opus`: answered") == 1


@pytest.mark.slow
async def test_killed_in_the_middle_of_what_is_never_repeated_the_agent_is_told(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, FAST) as gateway:
        await gateway.start()
        await gateway.send("new project demo", "p")
        await gateway.stop()
        gateway.spawn(kill_at="command.begun")
        order = "@@run while [ ! -e go ]; do sleep 0.05; done; huskies remind 2h tea 2>&1; echo code $?"
        asking = asyncio.create_task(gateway.send_surely(order, "m"))
        (gateway.projects / "demo" / "go").touch()
        await gateway.died()
        await gateway.start()
        told = (await asyncio.wait_for(asking, 60 * patience()))["replies"][-1]
        assert "The gateway restarted during “remind 2h tea”." in told and told.endswith("code 2")
        assert "has no schedules" in (await gateway.send("schedules", "s"))["replies"][0]


@pytest.mark.slow
async def test_killed_while_a_card_is_open_the_call_waits_for_the_same_card(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, FAST) as gateway:
        await gateway.start()
        await gateway.send("new project demo", "p")
        asking = asyncio.create_task(gateway.send_surely("@@huskies model opus", "m"))
        assert "may demo's agent do this" in await gateway.card()
        gateway.kill()
        await gateway.start(kill_at="question.settled")
        allowing = asyncio.create_task(gateway.send_surely("allow", "a"))
        await gateway.died()
        await gateway.start()
        await allowing
        replies = (await asyncio.wait_for(asking, 60 * patience()))["replies"]
        assert replies[-1] == "done: demo: opus from the next run on."
        assert sum("may demo's agent do this" in told for told in replies) <= 1


async def test_what_is_asked_in_one_room_is_answered_from_another(yard: House) -> None:
    await yard.say("@@huskies model opus")
    await yard.transport.until(lambda texts: "may shop's agent do this" in texts[-1])
    listed = await yard.ask("open", contains="Open", room="kitchen")
    number = re.search(r"#\d+ shop asks Ana or an operator", listed)
    assert number is not None
    which = number[0].split()[0]
    assert f"Questions can be answered from here, too: `allow {which}`, `no {which}, because …`" in listed
    refused = await yard.ask(f"allow {which}", sender=BEN, room="bens", contains="Only")
    assert refused == "Only Ana or an operator can answer that."
    told = await yard.ask(f"no {which}, it is too dear", room="kitchen", contains="⛔")
    assert "⛔ Denied by Ana: it is too dear." in told
    await yard.transport.until(lambda texts: "refused: This was not allowed: it is too dear" in texts)
    assert len([text for text in yard.transport.texts if "⛔ Denied by Ana" in text]) == 2, "its own room sees it, too"
    assert "No question" in await yard.ask(f"allow {which}", room="kitchen", contains="No question")
    await yard.ask("new project tea", contains="is ready", within_s=30, room="kitchen")
    assert f"no {which}, it is too dear" in await yard.ask(
        f"no {which}, it is too dear", room="kitchen", contains="You"
    )
    await yard.say("@@ask Which way? | left | right")
    await yard.transport.until(lambda texts: "Which way?" in texts[-1])
    listed = await yard.ask("open", contains="Open", room="kitchen")
    which = listed.split("#")[1].split()[0]
    assert "right" in await yard.ask(f"answer #{which} 2", room="kitchen", contains="✅")
    await yard.transport.until(lambda texts: any("right" in text and "❓" not in text for text in texts))
