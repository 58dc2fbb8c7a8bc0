"""A morning of ten agents and a lead, on real sleds: what is asked and told is what has to be, where it has to be."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.chat import Conversation, MessageRef, Reply
from gateway.config.settings import host_environment
from gateway.engine.process import ProcessEngine, find
from gateway.store import audit
from gateway.store.audit import Entry
from gateway.store.seal import Seal
from gateway.testing import FakeTransport
from tests.support.claude_cli import eventually
from tests.support.house import House, house

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

TEN = [f"p{number}" for number in range(10)]


@dataclass
class Rooms(FakeTransport):
    """Also knows in which room each text stands."""

    rooms: dict[str, str] = field(default_factory=dict)

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        sent = await super().send(conversation, reply, key)
        self.rooms[sent.external_id] = conversation.room
        return sent

    def of(self, room: str, since: int = 0) -> list[str]:
        """What people read in a room, from the given text of all on."""
        return [text for sent, text in self.sent[since:] if self.rooms[sent] == room]


async def chief(made: House, text: str, *, contains: str) -> None:
    """Ana writes to the lead, and reads its answer; not what it shows on the way."""
    transport = made.transport
    assert isinstance(transport, Rooms)
    before = len(transport.of("ops"))
    await made.say(text, room="ops")
    await transport.until(
        lambda _: any(contains in told and "⏳" not in told for told in transport.of("ops")[before:]), 60
    )


async def test_the_story_of_a_morning(tmp_path: Path) -> None:
    transport = Rooms()
    async with house(tmp_path, engine=ProcessEngine(host_environment()), transport=transport) as made:
        for name in TEN:
            await made.ask(f"new project {name}", contains="is ready", within_s=60, room=f"of-{name}")
        await made.ask("new project chief --lead", contains="leads:", within_s=60, room="ops")
        for name in TEN:
            await made.ask(f"@@say I am {name}", contains=f"I am {name}", room=f"of-{name}", within_s=30)
        await made.ask("@@say I lead", contains="I lead", room="ops", within_s=30)
        await made.quiet()
        began = len(transport.sent)

        # Three pieces of work, each in another project.
        work = "\n".join(f"@@huskies tell {name} #work @@run touch done" for name in TEN[:3])
        await chief(made, work, contains="p2's agent has your note.")
        for name in TEN[:3]:
            await eventually((made.app.projects.get(name).path / "done").exists)
        # A build that fails is the answer of the call.
        await chief(made, "@@huskies ask p3 @@fail the build is red", contains="the build is red")
        # What an agent has to ask is asked where its work began.
        await made.app.projects.set_permissions(made.app.projects.get("p4"), "ask")
        await made.say("@@huskies ask p4 @@permission Bash make", room="ops")
        await transport.until(lambda _: any("May I use Bash?" in text for text in transport.of("ops")))
        await chief(made, "allow", contains="Bash make: allowed")
        # A sled that is killed in the middle of a run.
        source = made.app.projects.get("p5").path
        await made.say("@@run touch begun; while [ ! -e go ]; do sleep 0.05; done", room="of-p5")
        await eventually((source / "begun").exists)
        sled = find(made.app.projects.paths(made.app.projects.get("p5")).home)
        assert sled is not None
        os.kill(sled.pid, signal.SIGKILL)
        (source / "go").touch()
        await transport.until(lambda _: any("p5: A run ended" in text for text in transport.of("ops")), 60)
        await made.quiet()

        told = transport.of("ops", began)
        assert len([text for text in told if text.startswith("🔐")]) == 1, "one card, and it is answered"
        assert [re.sub(r": “.*", "", text) for text in told if text.startswith("🐾")] == [
            "🐾 chief's agent: told p0's",
            "🐾 chief's agent: told p1's",
            "🐾 chief's agent: told p2's",
            "🐾 chief's agent: asked p3's",
            "🐾 chief's agent: asked p4's",
        ]
        assert len([text for text in told if "A run ended with its sled" in text]) == 1, "woken once"
        lines = {name: [text.partition(":")[0] for text in transport.of(f"of-{name}", began)] for name in TEN}
        quiet = {name: [f"🐾 chief's agent tells {name}'s"] for name in TEN[:3]}
        quiet |= {name: [f"🐾 chief's agent asks {name}'s"] for name in TEN[3:5]}
        crashed = lines.pop("p5")
        assert len(crashed) == 1 and "was interrupted" in transport.of("of-p5", began)[0]
        assert lines == {name: quiet.get(name, []) for name in lines}, "and not a word anywhere else"

        entries: list[Entry] = await made.app.store.read(lambda c: list(audit.everything(c)))
        story = [(e.kind, e.actor, e.word, e.text.partition(" @@")[0]) for e in entries if e.actor == "agent:chief"]
        done = ["tell p0 #work", "tell p1 #work", "tell p2 #work", "ask p3", "ask p4"]
        assert story == [("done", "agent:chief", "fake:ana", text) for text in done]
        asked = [(e.kind, e.project, e.actor) for e in entries if e.kind in ("question", "answer")]
        assert asked == [("question", "p4", "agent:p4"), ("answer", "p4", "fake:ana")]
        seal = Seal(tmp_path / "state" / ".gateway")
        assert audit.verify(entries, seal.key(), seal.noted()).wrong == ""
        altered = replace(entries[-1], text=entries[-1].text[:-1] + "!")
        assert f"row {altered.id} is not as it was" in audit.verify([*entries[:-1], altered], seal.key(), None).wrong
