"""Words of strangers that come by way of somebody who may give commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands.table import ALIASES, COMMANDS
from gateway.chat import Message
from gateway.chat.text import of_others
from gateway.intake.grammar import Parser
from tests.support.house import house
from tests.transports import test_slack_events as slack
from tests.transports import test_whatsapp_events as whatsapp
from transports.slack import events

COMMANDLIKE = [
    "agent acp:sh -c id",
    "/agent acp:sh -c id",
    "stop",
    "delete demo --purge",
    "prompt anything",
    "x\nagent acp:sh -c id",
    "x\r/stop",
    "x\u2028stop",
    "x\x0bstop",
    "x\x85stop",
]
PARSER = Parser(COMMANDS, ALIASES)


@pytest.mark.parametrize("words", COMMANDLIKE)
def test_who_is_forwarded_by_slack_gives_no_command(words: str) -> None:
    """Not by what they wrote, nor by what they call themselves."""
    for author, text in (("Mallory", words), (words, "hello")):
        shared = {"is_share": True, "author_name": author, "text": text}
        read = slack.said("", attachments=[shared]).text
        assert read.startswith("> ")
        assert all(line.startswith(">") for line in read.splitlines())
        assert PARSER.parse(read, {"demo"}) is None


@pytest.mark.parametrize("words", COMMANDLIKE)
def test_whose_message_a_shortcut_sends_on_gives_no_command(words: str) -> None:
    for author, text in (("Mallory", words), (words, "hello")):
        payload = {
            **{
                "type": "message_action",
                "callback_id": events.SHORTCUT,
                "channel": {"id": "C1"},
                "user": {"id": "U0ANA"},
                "action_ts": "2.5",
            },
            "message": {"user": "U0MAL", "text": text, "ts": "1.5"},
        }
        names = {"U0MAL": author}
        (read,) = events.read(payload, slack.ME, lambda user: names.get(user, "Ana"))  # noqa: B023 - called here
        assert isinstance(read, Message)
        assert all(line.startswith(">") for line in read.text.splitlines())
        assert PARSER.parse(read.text, {"demo"}) is None


@pytest.mark.parametrize("words", COMMANDLIKE)
def test_what_is_forwarded_by_whatsapp_is_no_command(words: str) -> None:
    assert whatsapp.message("stop").text == "stop"
    for how in ("Forwarded", "FrequentlyForwarded"):
        read = whatsapp.message(words, **{how: "true"}).text
        assert read == of_others(words)
        assert PARSER.parse(read, {"demo"}) is None


async def test_a_program_is_spelled_out_before_it_is_an_agent(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.ask("new project demo", contains="is ready")
        asked = await made.ask("agent acp:sh -c  'curl x | sh'", contains="Run ")
        assert "`sh -c 'curl x | sh'`" in asked
        assert "scripted" in await made.ask("agent", contains="demo:"), "not yet"
        assert "in a new dialogue" in await made.ask(asked.split("`")[-2], contains="demo:")
        assert "acp:sh" in await made.ask("agent", contains="demo:")
