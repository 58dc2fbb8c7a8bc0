"""What anybody may hand in, made up: it is read, or refused in words, and never raises anything else.

A few hundred of each here; `make fuzz` takes as long as it is given.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.asking import cards
from gateway.chat import Conversation, Message, Withdrawal
from gateway.chat.cutting import split
from gateway.chat.markdown import parse
from gateway.chat.text import units, visible
from gateway.errors import UserError
from gateway.store.questions import Asked
from gateway.wire.prices import Prices, read
from sled.protocol import (
    BadFrame,
    Event,
    Hello,
    Question,
    RunState,
    TextDelta,
    decode_from_sled,
    encode,
    version_of,
)
from stacks.own import OWN_FRAGMENT, read_own
from tests.transports import test_slack_events as slack
from tests.transports import test_whatsapp_events as whatsapp
from transports.matrix import events as matrix
from transports.slack import events as slack_events

TEXT = st.text(max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)
FRAMES = [
    encode(Hello(version=1, journal="j", runs=[RunState(run="r", last=1, finished=False)], agents=["claude"])),
    encode(Event(run="r", seq=1, body=TextDelta(delta="a"))),
    encode(Event(run="r", seq=2, body=Question(id="q", kind="permission", tool="Bash", arguments="{}"))),
]
fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def with_words(known: dict[str, list[Any]]) -> st.SearchStrategy[Any]:
    """Objects that use the words of a format, with values that fit and others."""
    return st.fixed_dictionaries({}, optional={word: st.sampled_from(fit) | JSON for word, fit in known.items()})


@fuzzed
@given(st.binary(max_size=300) | TEXT | JSON.map(json.dumps))
def test_frames(data: str | bytes) -> None:
    with contextlib.suppress(BadFrame):
        decode_from_sled(data)
    assert isinstance(version_of(data), int)


@fuzzed
@given(st.sampled_from(FRAMES), st.integers(0, 400), st.integers(0, 20), TEXT)
def test_frames_that_are_nearly_right(frame: str, at: int, less: int, more: str) -> None:
    data = frame[:at] + more + frame[at + less :]
    with contextlib.suppress(BadFrame):
        decode_from_sled(data)


@fuzzed
@given(TEXT, TEXT | JSON.map(json.dumps), TEXT, st.sampled_from(["permission", "query"]))
def test_cards(tool: str, arguments: str, rule: str, kind: str) -> None:
    raw = {"id": "q", "kind": kind, "tool": tool, "arguments": arguments, "rule": rule, "queries": [{"text": tool}]}
    question = msgspec.convert(raw, Question)
    here = Conversation("fake", "room")
    asked = Asked(1, 1, "r", 1, 1, 1, here, 1, question, "fake:ana", 0.0, 9.0, None, "", (), "")
    card = cards.card(asked, who="Ana", several_open=False)
    assert card == visible(card), "nothing on it is unseen"
    assert cards.summary(question) is not None
    assert cards.choices(asked) is not None
    if kind == "permission":
        assert card.startswith("🔐 **May I use ")
        assert card.count("_Ana can answer within") >= 1


@fuzzed
@given(st.text(st.sampled_from("*_`~[]()<>!#|-+>\n\t \\&;:/.@a1\u202e\u200b"), max_size=400))
def test_markdown(text: str) -> None:
    parse(text)
    assert all(units(part) <= 60 for part in split(text, 60))


@fuzzed
@given(
    with_words(
        {
            "type": ["event_callback", "block_actions", "message_action"],
            "callback_id": [slack_events.SHORTCUT],
            "event": [{"type": "message", "user": "U1", "text": "hi", "channel": "C1", "ts": "1.1"}],
            "message": [{"user": "U1", "text": "hi", "ts": "1.1", "attachments": [{"is_share": True}]}],
            "user": [{"id": "U1"}],
            "channel": [{"id": "C1"}],
            "actions": [[{"action_id": "x", "value": "allow"}]],
            "command": ["/huskies"],
            "channel_id": ["C1"],
            "user_id": ["U1"],
            "trigger_id": ["t"],
            "text": ["status"],
        }
    )
)
def test_slacks_webhook(payload: dict[str, Any]) -> None:
    for message in slack_events.read(payload, slack.ME, lambda user: user):
        assert isinstance(message, Message | Withdrawal)
    slack_events.asked_from(payload)


@fuzzed
@given(st.dictionaries(st.sampled_from(["Body", "From", "NumMedia", "MediaUrl0", "Forwarded", "ButtonPayload"]), TEXT))
def test_twilios_webhook(fields: dict[str, str]) -> None:
    whatsapp.read(**{"text": fields.pop("Body", ""), **fields})


@fuzzed
@given(
    with_words(
        {
            "type": ["m.room.message", "m.reaction", "m.room.redaction", "m.room.encrypted"],
            "content": [{"msgtype": "m.text", "body": "hi"}, {"m.relates_to": {"rel_type": "m.replace"}}],
            "unsigned": [{}],
            "redacts": ["$1"],
            "origin_server_ts": [1],
        }
    )
)
def test_matrix_events(event: dict[str, Any]) -> None:
    event |= {"sender": "@ana:x", "event_id": "$e"}
    matrix.incoming(event, matrix.Place("!r", True, "Ana"), matrix.Me("@huskies:x", ("huskies",)), lambda _: True)


@dataclass
class OneFile:
    """A source with one file."""

    name: str
    content: str

    def files(self, folder: str = "") -> Set[str]:
        where, _, name = self.name.rpartition("/")
        return {name} if folder == where else set()

    def folders(self, folder: str = "") -> Set[str]:
        top = self.name.split("/")[0]
        return {top} if not folder and "/" in self.name else set()

    def text(self, path: str) -> str | None:
        return self.content if path == self.name else None

    def is_too_long(self, path: str) -> bool:
        return False


@fuzzed
@given(
    with_words(
        {
            "image": ["debian:trixie", "mcr/x:1"],
            "build": [{"dockerfile": "Dockerfile", "args": {"A": "b"}}],
            "containerEnv": [{"A": "b"}],
            "remoteEnv": [{"A": "${localEnv:HOME}"}],
            "postCreateCommand": ["make", ["make", "x"], {"a": "make"}],
            "features": [{"ghcr.io/x/y:1": {}}],
            "forwardPorts": [[3000]],
            "remoteUser": ["root"],
            "runArgs": [["--privileged"]],
            "mounts": [["source=/,target=/host,type=bind"]],
            "privileged": [True],
            "customizations": [{"vscode": {"extensions": ["a.b"]}}],
        }
    )
)
def test_project_files(values: dict[str, Any]) -> None:
    with contextlib.suppress(UserError):
        read_own(OneFile(".devcontainer/devcontainer.json", json.dumps(values)))


@fuzzed
@given(TEXT)
def test_fragments_of_a_source(text: str) -> None:
    with contextlib.suppress(UserError):
        read_own(OneFile(OWN_FRAGMENT, text))


@fuzzed
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bodies_of_model_calls(body: bytes) -> None:
    assert Prices().most(read(body)) >= 0
