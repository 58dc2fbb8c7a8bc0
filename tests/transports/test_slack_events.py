"""Slack's payloads as messages: the pure part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import Conversation, Message, Move, Withdrawal
from transports.slack import events, text, told
from transports.slack.me import Me

ME = Me("U0BOT", "T0TEAM", ("huskies",))
NAMES = {"U0ANA": "Ana", "U0BEN": "Ben"}


def name(user_id: str) -> str:
    return NAMES.get(user_id, user_id)


def said(raw: str, **more: Any) -> Message:
    """A message in a channel, as it is read."""
    event = {"type": "message", "user": "U0ANA", "text": raw, "channel": "C1", "channel_type": "channel", "ts": "1.5"}
    (message,) = events.read({"type": "event_callback", "event": event | more}, ME, name)
    assert isinstance(message, Message)
    return message


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c"),
        ("hi <@U0BEN> and <@U9|zoe> and <@W7>", "hi @Ben and @zoe and @W7"),
        ("in <#C12|general> or <#C12>", "in #general or #C12"),
        ("<!here> <!channel> <!everyone>", "@here @channel @everyone"),
        ("<!subteam^S1|@devs> <!subteam^S2>", "@devs subteam^S2"),
        ("<!date^1392734382^{date}|Feb 18>", "Feb 18"),
        ("<https://example.org/a?b=1&amp;c=2>", "https://example.org/a?b=1&c=2"),
        ("<https://example.org|example.org>", "example.org"),
        ("look at <http://README.md|README.md>", "look at README.md"),
        ("<http://main.py/|main.py> fails", "main.py fails"),
        ("<https://example.org/x|the docs>", "the docs (https://example.org/x)"),
        ("<mailto:a@b.example|a@b.example> <tel:+491|+491>", "a@b.example +491"),
        ("a < b > c", "a < b > c"),
        ("<>", "<>"),
        ("`x &lt; y`\n```\n&lt;@U0BEN&gt;\n```", "`x < y`\n```\n<@U0BEN>\n```"),
    ],
)
def test_slacks_escapes(raw: str, shown: str) -> None:
    assert text.plain(raw, name) == shown


@pytest.mark.parametrize(
    ("raw", "words", "addressed"),
    [
        ("<@U0BOT> status", "status", True),
        ("<@U0BOT>: status", "status", True),
        ("<@U0BOT|huskies>, status", "status", True),
        (" <@U0BOT>  <@U0BOT> status", "status", True),
        ("status <@U0BOT>", "status", True),
        ("tell <@U0BOT> that", "tell @U0BOT that", True),
        ("huskies: status", "status", True),
        ("@Huskies status", "status", True),
        ("huskiesfan here", "huskiesfan here", False),
        ("status", "status", False),
        ("<@U0BEN> status", "@Ben status", False),
        ("&lt;@U0BOT&gt; status", "<@U0BOT> status", False),
        ("<@U0BOT>", "", True),
    ],
)
def test_who_is_addressed(raw: str, words: str, addressed: bool) -> None:
    message = said(raw)
    assert (message.text, message.addressed) == (words, addressed)
    assert message.conversation == Conversation("slack", "C1", "1.5" if addressed else "")


def test_in_threads_and_direct() -> None:
    reply = said("go on", thread_ts="1.1")
    assert (reply.conversation.thread, reply.addressed, reply.direct) == ("1.1", False, False)
    assert said("<@U0BOT> go on", thread_ts="1.1").conversation.thread == "1.1"
    direct = said("hello", channel="D1", channel_type="im")
    assert (direct.conversation, direct.direct) == (Conversation("slack", "D1"), True)
    assert said("<@U0BOT> hello", channel="D1", channel_type="im").conversation.thread == ""
    assert said("hello", channel="D1", channel_type="im", thread_ts="1.1").conversation.thread == "1.1"
    group = said("hello", channel="G1", channel_type="mpim")
    assert (group.direct, group.addressed) == (False, False)
    assert said("also to the channel", subtype="thread_broadcast", thread_ts="1.1").conversation.thread == "1.1"


def test_a_head_of_a_thread_that_is_deleted() -> None:
    event = {
        **{"type": "message", "subtype": "message_changed", "channel": "C1", "ts": "2.0"},
        "message": {"subtype": "tombstone", "ts": "1.5", "user": "USLACKBOT"},
        "previous_message": {"user": "U0ANA", "ts": "1.5", "text": "x"},
    }
    found = events.read({"type": "event_callback", "event": event}, ME, name)
    assert found == [Withdrawal(Conversation("slack", "C1"), "C1:1.5", "slack:U0ANA")]


def test_files() -> None:
    whole = {
        "id": "F1",
        "name": "a.txt",
        "mimetype": "text/plain",
        "size": 3,
        "url_private": "https://files.slack.com/x",
    }
    message = said("", subtype="file_share", files=[whole, {"id": "F2", "mode": "tombstone"}, "?"])
    assert [(file.name, file.mime, file.size) for file in message.files] == [("a.txt", "text/plain", 3)]
    assert message.problem == ""
    hidden = said("", subtype="file_share", files=[{"id": "F2", "mode": "hidden_by_limit"}])
    assert "Please send it again" in hidden.problem
    odd = said("", files=[{"id": "F3", "size": "many", "name": None}]).files[0]
    assert (odd.name, odd.mime, odd.size) == ("file", "application/octet-stream", 0)


def test_a_forwarded_message() -> None:
    shared = {"is_share": True, "author_name": "Ben", "text": "it &lt;broke&gt;"}
    assert said("look", attachments=[shared, {"text": "a preview"}]).text == "look\n\n> Ben wrote:\n> it <broke>"


def test_a_forwarded_message_is_whole() -> None:
    """Also where its text is blocks, with its files."""
    rich = {
        "type": "rich_text",
        "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "it"}]}],
    }
    file = {"id": "F1", "name": "log.txt", "mimetype": "text/plain", "size": 3}
    shared = {
        "is_share": True,
        "author_name": "Ben",
        "files": [file],
        "message_blocks": [{"message": {"blocks": [rich]}}],
    }
    message = said("look", attachments=[shared])
    assert message.text == "look\n\n> Ben wrote:\n> it"
    assert [one.name for one in message.files] == ["log.txt"]
    alone = said("", attachments=[{**shared, "message_blocks": []}])
    assert (alone.text, len(alone.files), alone.problem) == ("", 1, "")


ALERT = {
    "bot_id": "B1",
    "username": "Grafana",
    "text": "a stand-in",
    "blocks": [
        {"type": "header", "text": {"type": "plain_text", "text": "CPU <high>"}},
        {
            "type": "section",
            "text": {"type": "mrkdwn", "text": "on <https://x.example|web-1> &amp; <@U0BEN>"},
            "fields": [{"type": "mrkdwn", "text": "load 9"}],
        },
        {"type": "divider"},
        {"type": "context", "elements": [{"type": "image", "alt_text": "?"}, {"type": "mrkdwn", "text": "since noon"}]},
        {"type": "image", "alt_text": "a graph"},
        {"type": "markdown", "text": "**now**"},
        {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Ack"}}]},
        {
            "type": "rich_text",
            "elements": [
                {
                    "type": "rich_text_section",
                    "elements": [
                        {"type": "user", "user_id": "U0ANA"},
                        {"type": "text", "text": " see "},
                        {"type": "link", "url": "https://y.example", "text": "this"},
                        {"type": "emoji", "name": "fire"},
                    ],
                },
                {
                    "type": "rich_text_list",
                    "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "one"}]}],
                },
                {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "exit 137"}]},
            ],
        },
        {"type": "table", "rows": [[{"type": "raw_text", "text": "a"}, {"type": "raw_text", "text": "b"}]]},
    ],
    "attachments": [
        {
            "pretext": "before",
            "title": "Rule",
            "title_link": "https://z.example",
            "fields": [{"title": "env", "value": "prod"}],
        },
        {"fallback": "only this"},
        {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "within"}}]},
    ],
}


def test_an_alert_that_is_blocks_and_attachments() -> None:
    payload = {
        **{
            "type": "message_action",
            "callback_id": "send_to_huskies",
            "channel": {"id": "C1"},
            "user": {"id": "U0ANA"},
        },
        "message": {"ts": "1.5", **ALERT},
        "action_ts": "2",
    }
    (message,) = events.read(payload, ME, name)
    assert isinstance(message, Message)
    assert message.text.splitlines() == [
        *("> Grafana wrote:", "> CPU <high>", "> on web-1 (https://x.example) & @Ben", "> load 9", "> since noon"),
        *("> a graph", "> **now**", "> @Ana see this (https://y.example):fire:", "> - one", "> ```", "> exit 137"),
        *("> ```", "> a | b", "> before", "> Rule (https://z.example)", "> env: prod", "> only this", "> within"),
    ]


def test_whose_names_are_needed() -> None:
    event = {"event": {"user": "U0ANA", "text": "<@U0BEN> <@U0ANA> <@U9|x>"}}
    assert events.people(event) == ["U0ANA", "U0BEN", "U9"]
    edit = {"event": {"subtype": "message_changed", "message": {"user": "U0BEN", "text": "x"}}}
    assert events.people(edit) == ["U0BEN"]
    assert events.people({"type": "block_actions", "user": {"id": "U0ANA"}}) == ["U0ANA"]
    assert events.people({"command": "/huskies", "user_id": "U0ANA", "text": "<@U0BEN>"}) == ["U0ANA", "U0BEN"]


KEYS = (
    *("type", "event", "message", "user", "text", "channel", "ts", "thread_ts", "files", "actions", "container"),
    *("subtype", "previous_message", "attachments", "id", "command", "team", "authorizations", "blocks"),
    *("elements", "rows", "fields", "is_share", "message_blocks", "bot_id", "title", "fallback"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["U0ANA", "C1", "1.5", "rich_text", "table"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)
KINDS = st.sampled_from(["event_callback", "block_actions", "message_action", "message", "app_mention", ""])


@given(st.dictionaries(st.sampled_from(["event", "user", "channel", "container", "message", "actions"]), JSON), KINDS)
def test_no_payload_breaks_the_reader(payload: dict[str, Any], kind: str) -> None:
    """Whatever its shape, it is read or it is nothing."""
    whole = {"callback_id": "send_to_huskies", **payload, "type": kind}
    events.people(whole)
    events.is_ours(whole, ME)
    events.asked_from(whole)
    events.call(whole, ME)
    told.words(whole, name)
    for item in events.read(whole, ME, name):
        assert not isinstance(item, Move)
        assert item.conversation.transport == "slack"
        assert item.external_id
        assert item.sender.startswith("slack:")
    command = {**payload, "command": "/huskies"}
    assert isinstance(events.read(command, ME, name), list)
