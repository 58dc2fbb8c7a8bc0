"""One and the same conversation on four platforms, as people read it: `docs/conversation.md`, byte for byte.

HUSKIES_WRITE_CONVERSATION=1 python -m pytest tests/integration/test_conversation.py      writes the page anew
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration import test_matrix_gateway, test_slack_gateway, test_whatsapp_gateway
from tests.support.grounds import until
from tests.support.huskies import Huskies
from tests.support.matrix_room import Room
from tests.support.matrix_user import reacts
from tests.support.screen import Screen
from tests.support.slack_server import SlackServer, buttons, shown
from tests.support.synapse import Synapse
from tests.support.terminal import ENTER, Terminal, at_terminal
from tests.support.twilio_server import TwilioServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "conversation.md"
ANSWER = """@@say ## What I found
@@say
@@say | file | lines |
@@say |---|--:|
@@say | `app.py` | 120 |
@@say | `test_app.py` | 48 |
@@say
@@say 1. **Two** tests fail, both in `test_app.py`
@@say 2. See [the log](https://example.org/log), or ask @everyone <b>here</b>"""


PROMPT = f"{getpass.getuser()}>"
EMOJI = {"2": "2\ufe0f\u20e3", "allow": "✅"}
BUTTONS = {test_whatsapp_gateway.BUTTONS: ("1", "2")}


class Chat:
    """What one platform shows, and the way to answer a card there."""

    def taps(self, word: str) -> str:
        """How a tap is told on the page."""
        return word

    async def works(self) -> None:
        """Wait until an agent is seen to work."""
        await self.reads(lambda text: "⏳" in text, 0)

    async def say(self, text: str) -> None:
        raise NotImplementedError

    async def tap(self, word: str) -> None:
        """Answer the newest card."""
        raise NotImplementedError

    async def answer(self, text: str) -> bool:
        """Answer the newest message of the bot's, as the platform has it; whether it has that."""
        return False

    async def forward(self, author: str, words: str, text: str) -> bool:
        """Send on what somebody else wrote, with a text of one's own; whether the platform tells that apart."""
        return False

    def bot(self) -> list[str]:
        """The bot's messages as they read now, oldest first."""
        raise NotImplementedError

    async def reads(self, holds: Callable[[str], object], since: int) -> None:
        """Wait for a message of the bot's, from that one on."""
        await until(lambda: any(map(holds, self.bot()[since:])), lambda: "\n".join(self.bot()[since:]), 40)


class MatrixChat(Chat):
    def __init__(self, room: Room) -> None:
        self._room = room

    def taps(self, word: str) -> str:
        return f"(taps {EMOJI[word]})"

    async def say(self, text: str) -> None:
        await self._room.say(text)

    async def answer(self, text: str) -> bool:
        await self._room.user.reply(self._room.room, text, list(self._refs())[-1])
        return True

    def _refs(self) -> dict[str, str]:
        """By event id: what the message shows, as the HTML that clients render."""
        found: dict[str, str] = {}
        for room, event in self._room.user.seen:
            if room != self._room.room or event["sender"] != self._room.bot or event["type"] != "m.room.message":
                continue
            content = event["content"]
            relation = content.get("m.relates_to", {})
            target = relation["event_id"] if relation.get("rel_type") == "m.replace" else event["event_id"]
            told = content.get("m.new_content", content)
            found[target] = told.get("formatted_body") or told["body"]
        return found

    async def tap(self, word: str) -> None:
        card = list(self._refs())[-1]
        await self._room.user.sees(reacts(card, EMOJI[word]), room=self._room.room, by=self._room.bot)
        await self._room.user.react(self._room.room, card, EMOJI[word])

    def bot(self) -> list[str]:
        return list(self._refs().values())


class SlackChat(Chat):
    def __init__(self, server: SlackServer) -> None:
        self._server = server

    def taps(self, word: str) -> str:
        return f"(presses [{word}])"

    async def say(self, text: str) -> None:
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        self._server.say("D0ANA", escaped)

    async def forward(self, author: str, words: str, text: str) -> bool:
        shared = {"is_share": True, "author_name": author, "text": words}
        self._server.say("D0ANA", text, attachments=[shared])
        return True

    async def tap(self, word: str) -> None:
        await self._server.press("D0ANA", self._server.posts("D0ANA")[-1]["ts"], word).done.wait()

    def bot(self) -> list[str]:
        return [_with_buttons(_mrkdwn(message), buttons(message)) for message in self._server.posts("D0ANA")]


class WhatsAppChat(Chat):
    def __init__(self, phone: TwilioServer) -> None:
        self._phone = phone

    def taps(self, word: str) -> str:
        return f"(presses [{word}])" if self._phone.sent[-1].content_sid else word

    async def say(self, text: str) -> None:
        self._typed = len(self._phone.typing)
        await self._phone.say(text)

    async def answer(self, text: str) -> bool:
        await self._phone.say(text, OriginalRepliedMessageSid=self._phone.sent[-1].sid)
        return True

    async def forward(self, author: str, words: str, text: str) -> bool:
        await self._phone.say(words, Forwarded="true")
        return True

    async def tap(self, word: str) -> None:
        card = self._phone.sent[-1]
        pressed = {"ButtonPayload": word, "ButtonText": word, "OriginalRepliedMessageSid": card.sid}
        await self._phone.say(word, **(pressed if card.content_sid else {}))

    async def works(self) -> None:
        """Nothing can be edited there: it types."""
        await self._phone.until(lambda phone: len(phone.typing) > self._typed)

    def bot(self) -> list[str]:
        return [_with_buttons(sent.text, BUTTONS.get(sent.content_sid, "")) for sent in self._phone.sent]


class ConsoleChat(Chat):
    """There are no taps in a terminal: answers are typed. The screen itself is the transcript."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    async def say(self, text: str) -> None:
        self._terminal.type("".join(line + ENTER for line in text.split("\n")))

    async def tap(self, word: str) -> None:
        await self.say(word)

    async def reads(self, holds: Callable[[str], object], since: int) -> None:
        def theirs(screen: Screen) -> list[str]:
            return [row for row in screen.all if not row.startswith(PROMPT)]

        await self._terminal.shows(lambda screen: any(map(holds, theirs(screen))), 40)

    async def asks_again(self) -> None:
        """What was said is all there: the next prompt is below it."""
        await self._terminal.shows(lambda screen: screen.line == PROMPT)

    def bot(self) -> list[str]:
        return ["\n".join(self._terminal.screen.all)]


# --- the conversation -------------------------------------------------------------------------------------------------


async def converse(chat: Chat, folder: Path) -> str:
    """Have it, and tell it as it reads in the end. `folder` is the project's."""
    said: list[tuple[int, str]] = []

    async def you(text: str, answer: str, *, tap: bool = False) -> None:
        said.append((len(chat.bot()), chat.taps(text) if tap else text))
        await (chat.tap(text) if tap else chat.say(text))
        if answer:
            await chat.reads(lambda read: answer in read, said[-1][0])

    async def sends(shown: str, sending: Awaitable[bool], answer: str) -> None:
        said.append((len(chat.bot()), shown))
        if await sending:
            await chat.reads(lambda read: answer in read, said[-1][0])
        else:
            said.pop()

    await you("new project shop", "is ready.")
    await you("hello there", "You said:")
    await you("@@ask Which colour? | Red | Blue", "Reply with a number")
    await you("2", "colour? -", tap=True)
    await you("@@permission Bash npm test", "May I use Bash?")
    await you("allow", ": allowed", tap=True)
    await you(ANSWER, "tests fail")
    await sends("(answers that message) which log?", chat.answer("which log?"), "which log?")
    shared = "the deploy fails"
    await sends(f"(forwards what Ben wrote: {shared})", chat.forward("Ben", shared, "why?"), shared)
    await you("@@run while [ ! -e go ]; do sleep 0.1; done\n@@say The long one is done.", "")
    await chat.works()
    await you("still at it?", "")
    await until(lambda: _is_queued(folder, "still at it?"), lambda: "it is not queued")
    (folder / "go").touch()
    await chat.reads(lambda read: "still at it?" in read, said[-1][0])
    await you("@@sleep 60", "")
    await chat.works()
    await you("Stop!", "Stopped the run")
    if isinstance(chat, ConsoleChat):
        await chat.asks_again()
    texts = chat.bot()
    if isinstance(chat, ConsoleChat):
        begin = texts[0].index(f"{PROMPT} new project")
        return texts[0][begin : texts[0].rindex(PROMPT)].rstrip("\n")
    said.append((len(texts), ""))
    parts = []
    for (begin, words), (end, _) in itertools.pairwise(said):
        parts += [_quoted("ana", words), *(_quoted("huskies", text) for text in texts[begin:end])]
    return "\n".join(parts)


def _is_queued(folder: Path, text: str) -> bool:
    """Whether a message waits for a turn."""
    file = folder.parents[1] / "state" / ".gateway" / "huskies.db"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        found: tuple[str] | None = database.execute("SELECT fate FROM messages WHERE text = ?", (text,)).fetchone()
    return found == ("queued",)


def _quoted(who: str, text: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([f"{who:>7} │ {first}", *(f"        │ {line}" for line in rest)])


def _mrkdwn(message: Mapping[str, Any]) -> str:
    return shown(message)


def _with_buttons(text: str, words: Sequence[str]) -> str:
    return f"{text}\n{' '.join(f'[{word}]' for word in words)}" if words else text


def normal(text: str, folder: Path) -> str:
    """The same on each machine, and on each day."""
    text = text.replace(str(folder / "projects"), "~/huskies").replace(str(folder / "state"), "~/.huskies")
    text = re.sub(r"\b\d+(\.\d+)? s\b", "… s", text)
    return re.sub(rf"\b{re.escape(getpass.getuser())}\b", "ana", text)


@contextlib.asynccontextmanager
async def chat_on(platform: str, folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Chat]:
    """A gateway in front of that platform."""
    if platform == "Matrix":
        synapse: Synapse = request.getfixturevalue("synapse")
        async with test_matrix_gateway.talking(synapse, folder) as (_, room):
            await room.user.client.set_displayname("Ana")
            await room.user.sees(lambda event: event["content"].get("displayname") == "Ana", room=room.room)
            yield MatrixChat(room)
    elif platform == "Slack":
        async with test_slack_gateway.talking(folder, "socket", request.getfixturevalue("unused_port")) as (_, slack):
            yield SlackChat(slack)
    elif platform == "WhatsApp":
        async with test_whatsapp_gateway.talking(folder) as (_, phone):
            yield WhatsAppChat(phone)
    else:
        with (
            Huskies(folder, {"dispatcher": {"coalesce_window_ms": 700}}) as huskies,
            at_terminal(huskies, "run", columns=200) as terminal,
        ):
            await terminal.shows(lambda screen: any("huskies is ready" in row for row in screen.all))
            await terminal.shows(lambda screen: "/login/" in "".join(screen.all))
            await terminal.shows(lambda screen: screen.line == PROMPT)
            yield ConsoleChat(terminal)


@pytest.mark.parametrize(
    "platform", ["Console", pytest.param("Matrix", marks=pytest.mark.synapse), "Slack", "WhatsApp"]
)
async def test_a_conversation_reads_as_the_page_says(
    platform: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with chat_on(platform, tmp_path, request) as chat:
        told = normal(await converse(chat, tmp_path / "projects" / "shop"), tmp_path)
    page = PAGE.read_text()
    section = re.search(rf"(?<=^## {platform}\n)(.*?\n```text\n)(.*?)(\n```\n)", page, re.DOTALL | re.MULTILINE)
    assert section is not None
    if os.environ.get("HUSKIES_WRITE_CONVERSATION"):
        PAGE.write_text(page[: section.start(2)] + told + page[section.end(2) :])
        return
    assert told == section[2]
