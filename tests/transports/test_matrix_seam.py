"""The edges of the Matrix transport that need no homeserver: imports, errors, budget."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import aiohttp
import pytest
from nio import exceptions as nio_exceptions
from nio import responses

from gateway.chat import Conversation, Fate, MessageRef
from gateway.errors import (
    DeliveryRefused,
    OutcomeUnknown,
    TooLong,
    TransportDown,
    TransportError,
    TransportRefused,
)
from gateway.testing import patience
from transports.marks import Marks
from transports.matrix import errors
from transports.matrix.budget import Budget
from transports.matrix.config import EMOJIS


def test_importing_the_transport_does_not_import_the_sdk() -> None:
    code = (
        "import sys, pathlib\n"
        "from transports.matrix import MatrixConfig, MatrixTransport\n"
        "MatrixTransport(MatrixConfig('http://x', '@b:x', store=pathlib.Path('s')), lambda _: False)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('nio', 'aiohttp', 'nh3', 'vodozemac')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def all_of(base: type[responses.ErrorResponse]) -> set[type[responses.ErrorResponse]]:
    """A class's subclasses, all the way down, and itself."""
    return {base} | {kind for child in base.__subclasses__() for kind in all_of(child)}


CODES = [
    *("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED", "M_USER_LOCKED", "M_LIMIT_EXCEEDED", "M_FORBIDDEN"),
    *("M_NOT_FOUND", "M_TOO_LARGE", "M_BAD_JSON", "M_NOT_JSON", "M_UNKNOWN", "M_UNRECOGNIZED", "M_INVALID_PARAM"),
    *("NEW", None),
]


@pytest.mark.parametrize("kind", sorted(all_of(responses.ErrorResponse), key=str))
def test_every_error_response_of_the_sdk_has_a_meaning(kind: type[responses.ErrorResponse]) -> None:
    allowed = (TransportDown, DeliveryRefused, TooLong, OutcomeUnknown, TransportRefused)
    for code in CODES:
        assert isinstance(errors.from_response(kind("text", code)), allowed)


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (401, "M_UNKNOWN_TOKEN", TransportRefused),
        (401, "M_MISSING_TOKEN", TransportRefused),
        (403, "M_USER_DEACTIVATED", TransportRefused),
        (403, "M_FORBIDDEN", DeliveryRefused),
        (413, "M_TOO_LARGE", TooLong),
        (413, None, TooLong),
        (400, "M_UNKNOWN", DeliveryRefused),
        (404, "M_UNRECOGNIZED", DeliveryRefused),
        (429, "M_LIMIT_EXCEEDED", TransportDown),
        (429, None, TransportDown),
        (500, "M_UNKNOWN", TransportDown),
        (502, None, TransportDown),
        (404, None, TransportDown),
        (200, None, TransportDown),
    ],
)
def test_what_an_answer_means(status: int, code: str | None, meaning: type[TransportError]) -> None:
    response = responses.RoomSendError("text", code)
    response.transport_response = type("Answer", (), {"status": status, "headers": {"Retry-After": "7"}})()
    error = errors.from_response(response)
    assert isinstance(error, meaning)
    if status == 429:
        assert isinstance(error, TransportDown)
        assert error.retry_after_s == 7


def test_the_pause_that_the_body_asks_for_comes_first() -> None:
    error = errors.from_response(responses.RoomSendError("slow", "M_LIMIT_EXCEEDED", 1500))
    assert isinstance(error, TransportDown)
    assert error.retry_after_s == 1.5


SDK_EXCEPTIONS = sorted(
    (
        thing
        for thing in vars(nio_exceptions).values()
        if isinstance(thing, type) and issubclass(thing, Exception) and thing.__module__ == nio_exceptions.__name__
    ),
    key=lambda thing: thing.__name__,
)


@pytest.mark.parametrize(
    "kind", [*SDK_EXCEPTIONS, TimeoutError, ConnectionResetError, aiohttp.ClientPayloadError, KeyError]
)
def test_every_exception_of_the_sdk_has_a_meaning(kind: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    error = kind(None) if kind is nio_exceptions.OlmUnverifiedDeviceError else kind("text")
    with pytest.raises(TransportError) as caught, errors.translated():
        raise error
    assert type(caught.value) in (TransportDown, DeliveryRefused)
    assert ("unexpected" in caplog.text) is (kind is KeyError), "only a bug is unexpected"


def test_our_own_errors_pass_as_they_are() -> None:
    mine = DeliveryRefused("mine")
    with pytest.raises(DeliveryRefused) as caught, errors.translated():
        raise mine
    assert caught.value is mine


def test_answers_go_before_edits_once_the_homeserver_complained() -> None:
    now = 100.0
    budget = Budget(lambda: now)
    assert budget.wait_s() == 0
    budget.spent()
    assert budget.wait_s() == 0
    budget.limited(5)
    assert budget.wait_s() == 15  # the pause, and two of it for the answers
    now = 115
    assert budget.wait_s() == 0
    budget.spent()
    assert budget.wait_s() == 10
    now = 800
    assert budget.wait_s() == 0, "it is forgotten after ten quiet minutes"


class Hand:
    """Stands in for what puts a reaction on a message."""

    def __init__(self, failures: list[TransportError]) -> None:
        self.failures = failures
        self.shown: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def react(self, ref: MessageRef, emoji: str) -> None:
        """Fail as told, then show."""
        if self.failures:
            raise self.failures.pop(0)
        self.shown.put_nowait((ref.external_id, emoji))


async def test_at_most_two_marks_on_a_message_and_one_of_them_final() -> None:
    hand, marks = Hand([TransportDown("slow", retry_after_s=0.01), DeliveryRefused("gone")]), Marks("matrix", EMOJIS)
    task = asyncio.create_task(marks.run(hand))
    for name, fates in {
        "$lost": [Fate.QUEUED],
        "$a": [Fate.RECEIVED, Fate.QUEUED, Fate.RUNNING, Fate.ANSWERED, Fate.QUEUED, Fate.FAILED],
        "$b": [Fate.QUEUED, Fate.RUNNING],
    }.items():
        for fate in fates:
            marks.add(MessageRef(Conversation("matrix", "!r"), name), fate)
    async with asyncio.timeout(5 * patience()):
        assert [await hand.shown.get(), await hand.shown.get()] == [("$a", "✅"), ("$b", "👀")]
        marks.add(MessageRef(Conversation("matrix", "!r"), "$b"), Fate.INTERRUPTED)
        marks.add(MessageRef(Conversation("matrix", "!r"), "$b"), Fate.ANSWERED)
        assert await hand.shown.get() == ("$b", "⏹️")
        await asyncio.sleep(0)
    task.cancel()
    assert hand.shown.empty()
