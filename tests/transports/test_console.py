"""The console by itself: what it shows, byte for byte, and what it reads from a pipe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import Conversation, Incoming, Message, MessageRef, Reply
from gateway.errors import DeliveryRefused, TransportDown
from gateway.testing import patience
from transports.console import Console
from transports.terminal import inert

GOLDENS = [
    ("plain text, 日本語, ünï", b"plain text, \xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e, \xc3\xbcn\xc3\xaf"),
    ("two\nlines\tand a tab", b"two\nlines\tand a tab"),
    ("\x1b[31mred\x1b[0m", b"\xef\xbf\xbd[31mred\xef\xbf\xbd[0m"),
    ("\x1b]0;title\x07", b"\xef\xbf\xbd]0;title\xef\xbf\xbd"),
    ("\x9b2J", b"\xef\xbf\xbd2J"),
    ("over\rwrite", b"over\xef\xbf\xbdwrite"),
    ("back\bspace\x7f", b"back\xef\xbf\xbdspace\xef\xbf\xbd"),
    ("nul\0", b"nul\xef\xbf\xbd"),
    ("gpj.\u202eexe", b"gpj.\xef\xbf\xbdexe"),
    ("\u2066iso\u2069 \u200f", b"\xef\xbf\xbdiso\xef\xbf\xbd \xef\xbf\xbd"),
    ("half \ud800 of a pair", b"half \xef\xbf\xbd of a pair"),
    ("<!channel> @room <b>&amp;", b"<!channel> @room <b>&amp;"),
    ("👩\u200d💻", b"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb"),
    ("می\u200cخواهم", "می\u200cخواهم".encode()),
    ("", b""),
]


@pytest.mark.parametrize(("text", "shown"), GOLDENS)
def test_goldens(text: str, shown: bytes) -> None:
    assert inert(text).encode() == shown


@given(st.text(alphabet=st.characters(codec=None)))
def test_nothing_that_acts_gets_through_and_nothing_else_changes(text: str) -> None:
    shown = inert(text)
    shown.encode()
    assert len(shown) == len(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown)
    assert all(after in (before, "\ufffd") for before, after in zip(text, shown, strict=True))
    assert inert(shown) == shown


class Pipe:
    """A console on a pipe, the other ends of both in the test's hand."""

    def __init__(self, folder: Path) -> None:
        source, self.keys = os.pipe()
        self.screen, sink = os.pipe()
        self._files = os.fdopen(source), os.fdopen(sink, "w")
        self.console = Console("ana", pipe=True, history=folder / "h", source=self._files[0], sink=self._files[1])
        self.accepted: list[Message] = []
        self.task = asyncio.create_task(self.console.run(self))

    async def accept(self, incoming: Sequence[Incoming], cursor: str | None = None) -> None:
        self.accepted += [item for item in incoming if isinstance(item, Message)]

    def typing(self, conversation: object, senders: object) -> None:
        """Who is typing is not looked at."""

    async def cursor(self, transport: str) -> str | None:
        return None

    async def types(self, data: bytes) -> None:
        """Write everything, then end the input."""
        await asyncio.to_thread(self._type, data)
        await asyncio.wait_for(self.task, 10 * patience())

    def _type(self, data: bytes) -> None:
        with os.fdopen(self.keys, "wb") as keys:
            keys.write(data)
        self.keys = -1

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        for descriptor in (self.keys, self.screen):
            if descriptor >= 0:
                os.close(descriptor)
        self._files[1].close()


@pytest_asyncio.fixture
async def pipe(tmp_path: Path) -> AsyncIterator[Pipe]:
    made = Pipe(tmp_path)
    yield made
    await made.close()


async def test_a_line_is_a_message_and_empty_ones_are_none(pipe: Pipe) -> None:
    await pipe.types(b"\n  one  \r\n\n \t \n\ntwo\nthe last, without an end")
    assert [message.text for message in pipe.accepted] == ["one", "two", "the last, without an end"]
    assert len({message.external_id for message in pipe.accepted}) == 3
    assert {message.sender for message in pipe.accepted} == {"console:ana"}


async def test_bytes_that_are_no_text_are_named_and_the_rest_goes_on(pipe: Pipe) -> None:
    await pipe.types(b"one\n\xff\xfe\ncut \xe2\x82\nfour\n")
    problems = [(message.text, message.problem) for message in pipe.accepted]
    assert problems == [
        ("one", ""),
        ("", "Line 2 is not valid UTF-8 and was skipped."),
        ("", "Line 3 is not valid UTF-8 and was skipped."),
        ("four", ""),
    ]


async def test_a_letter_may_be_cut_by_the_buffer(pipe: Pipe) -> None:
    line = "x" + "€" * 400_000  # 1.2 MB; no boundary of a buffer falls between two letters for long
    await pipe.types(f"{line}\nnext\n".encode())
    assert [message.text for message in pipe.accepted] == [line, "next"]


async def test_the_end_of_the_input_ends_the_run(pipe: Pipe) -> None:
    assert not pipe.task.done()
    await pipe.types(b"")
    await asyncio.wait_for(pipe.console.ended(), 1 * patience())
    assert pipe.accepted == []
    assert not pipe.console.serving
    ref = await pipe.console.send(pipe.console.conversation, Reply("the last answer"), "key")
    assert ref.external_id == "key"
    assert os.read(pipe.screen, 100) == b"the last answer\n", "what is answered late is still said"


async def test_a_reply_that_nobody_reads_is_refused(pipe: Pipe) -> None:
    os.close(pipe.screen)
    pipe.screen = -1
    with pytest.raises(DeliveryRefused, match="nobody reads"):
        await pipe.console.send(pipe.console.conversation, Reply("hello"), "key")


async def test_a_full_pipe_holds_up_nothing_but_its_own_replies(pipe: Pipe) -> None:
    sending = asyncio.create_task(pipe.console.send(pipe.console.conversation, Reply("x" * 10**6), "key"))
    os.write(pipe.keys, b"still listening\n")
    async with asyncio.timeout(5 * patience()):
        while not pipe.accepted:
            await asyncio.sleep(0.01)
    assert not sending.done()
    await asyncio.to_thread(lambda: [os.read(pipe.screen, 65536) for _ in range(5)])
    sending.cancel()
    os.close(pipe.screen)
    pipe.screen = -1


async def test_without_its_terminal_it_is_down(tmp_path: Path) -> None:
    console = Console("ana", pipe=False, history=tmp_path / "h")
    with pytest.raises(TransportDown):
        await console.send(Conversation("console", "terminal"), Reply("hello"), "key")


async def test_live_text_goes_into_one_line(tmp_path: Path) -> None:
    console = Console("ana", pipe=False, history=tmp_path / "h")
    await console.edit(
        MessageRef(console.conversation, "m"), Reply("⏳ one\n\n\x1b[2Jtwo\n" + "x" * 500, live=True), "k"
    )
    assert console._status.startswith("⏳ one · \ufffd[2Jtwo · xxx")
    assert len(console._status) == 200
