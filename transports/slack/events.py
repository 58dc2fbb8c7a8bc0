"""Slack's payloads as the nouns of chat. Pure: payloads are plain dictionaries, whichever way they came.

A person's message has the id `<channel>:<ts>`, so the `message` and the `app_mention` that Slack sends for the same
text count as one. What stands for an action (a press, a command, a shortcut) has its own id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.chat import Attachment, Conversation, Incoming, Message, Withdrawal
from gateway.chat.text import of_others, verbatim
from transports.slack import text as slack_text
from transports.slack import told
from transports.slack.config import NAME
from transports.slack.me import Me
from transports.slack.told import Names, listed, mapping, string

#: The `callback_id` of the message shortcut in the manifest.
SHORTCUT = "send_to_huskies"
#: What the `action_id`s of our buttons begin with.
CHOICE = "choice-"

NO_FILES = "I can't get this file from Slack (it is gone, or hidden by the workspace's limit). Please send it again."

#: A person's message has no subtype, or one of these.
_TEXTS = ("", "file_share", "thread_broadcast", "me_message")
#: Slack's own members.
_SLACK = ("USLACKBOT",)


@dataclass(frozen=True, slots=True)
class Call:
    """A message in a thread that means the bot; `ts` is its own, `thread` that of the thread's first message."""

    channel: str
    thread: str
    ts: str
    direct: bool


@dataclass(frozen=True, slots=True)
class Before:
    """What a thread said before the bot was called: quotations with their authors, and files."""

    quoted: str = ""
    files: tuple[Attachment, ...] = ()


NOTHING = Before()
#: What was said before a message, by its channel and timestamp.
Earlier = Callable[[str, str], Before]


def is_ours(payload: Mapping[str, Any], me: Me) -> bool:
    """Whether a payload is meant for the workspace of our token."""
    granted = payload.get("authorizations")
    if isinstance(granted, list) and granted:
        return any(mapping(one).get("team_id") == me.team_id for one in granted)
    team = string(payload.get("team_id")) or string(mapping(payload.get("team")).get("id"))
    return team in ("", me.team_id)


def people(payload: Mapping[str, Any]) -> list[str]:
    """The ids of the people whose names a payload needs; the person who did it comes first."""
    event = mapping(payload.get("event"))
    event = mapping(event.get("message")) or event
    doer = string(event.get("user")) or string(mapping(payload.get("user")).get("id")) or string(payload.get("user_id"))
    shown = mapping(payload.get("message"))
    texts = (string(event.get("text")), string(payload.get("text")), string(shown.get("text")))
    found = [doer, string(shown.get("user")), *(one for raw in texts for one in slack_text.mentioned(raw))]
    return list(dict.fromkeys(one for one in found if one))


def call(payload: Mapping[str, Any], me: Me) -> Call | None:
    """A message that calls the bot into a thread, as far as the payload alone tells."""
    event = mapping(payload.get("event"))
    channel, ts, thread = string(event.get("channel")), string(event.get("ts")), string(event.get("thread_ts"))
    if event.get("type") not in ("message", "app_mention") or thread in ("", ts) or not (channel and ts):
        return None
    if string(event.get("subtype")) not in _TEXTS or not _by_person(event, me):
        return None
    direct = _is_direct(channel, event)
    means_us = direct or event.get("type") == "app_mention" or me.unaddressed(string(event.get("text")))[1]
    return Call(channel, thread, ts, direct) if means_us else None


def read(payload: Mapping[str, Any], me: Me, name: Names, before: Earlier = lambda *_: NOTHING) -> list[Incoming]:
    """What people did, in order; nothing for a payload that does not concern us.

    Args:
        payload: an event callback, an interaction or a slash command.
        me: the bot.
        name: what somebody with a given id is called.
        before: what a thread said before a message.
    """
    kind = payload.get("type")
    if kind == "event_callback":
        return _event(mapping(payload.get("event")), me, name, before)
    if kind == "block_actions":
        return _presses(payload, name)
    if kind == "message_action" and payload.get("callback_id") == SHORTCUT:
        return _shortcut(payload, me, name)
    return _command(payload, name) if "command" in payload else []


def asked_from(payload: Mapping[str, Any]) -> str:
    """The channel of a command or a shortcut; empty for anything else.

    These come from anywhere in the workspace, even from where the bot is not.
    """
    if payload.get("type") == "message_action" and payload.get("callback_id") == SHORTCUT:
        return string(mapping(payload.get("channel")).get("id"))
    return string(payload.get("channel_id")) if "command" in payload else ""


def _event(event: Mapping[str, Any], me: Me, name: Names, before: Earlier) -> list[Incoming]:
    if event.get("type") not in ("message", "app_mention"):
        return []
    subtype = string(event.get("subtype"))
    if subtype == "message_changed":
        return _changed(event, me, name)
    if subtype == "message_deleted":
        return _gone(event, mapping(event.get("previous_message")), string(event.get("deleted_ts")), me)
    if subtype not in _TEXTS or not _by_person(event, me):
        return []
    message = _message(event, event, me, name, named=event.get("type") == "app_mention")
    earlier = before(message.conversation.room, string(event.get("ts")))
    return [replace(message, quoted=earlier.quoted, files=(*earlier.files, *message.files))]


def _changed(event: Mapping[str, Any], me: Me, name: Names) -> list[Incoming]:
    """An edit. A link preview, a thread's first reply and its deleted head look the same, and are not edits."""
    now, before = mapping(event.get("message")), mapping(event.get("previous_message"))
    ts = string(now.get("ts"))
    if now.get("subtype") == "tombstone":
        return _gone(event, before, ts, me)
    if not ts or string(now.get("subtype")) not in _TEXTS or not _by_person(now, me):
        return []
    if now.get("text") == before.get("text"):
        return []
    message = _message(event, now, me, name)
    when = string(event.get("ts")) or string(event.get("event_ts"))
    return [replace(message, external_id=f"{message.external_id}:edit:{when}", edits=message.external_id)]


def _gone(event: Mapping[str, Any], before: Mapping[str, Any], ts: str, me: Me) -> list[Incoming]:
    channel = string(event.get("channel"))
    if not ts or not channel or not _by_person(before, me):
        return []
    conversation = Conversation(NAME, channel, string(before.get("thread_ts")))
    return [Withdrawal(conversation, f"{channel}:{ts}", f"{NAME}:{before['user']}")]


def _by_person(message: Mapping[str, Any], me: Me) -> bool:
    """Whether somebody else wrote it, or a tool in somebody's name."""
    user = string(message.get("user"))
    return bool(user) and user != me.user_id and user not in _SLACK


def by_tool(message: Mapping[str, Any], me: Me) -> str:
    """In whose name a tool wrote a message; empty where a person typed it, or an app that is as good."""
    return string(message.get("user")) if message.get("bot_id") and message.get("app_id") not in me.apps else ""


def _message(event: Mapping[str, Any], said: Mapping[str, Any], me: Me, name: Names, *, named: bool = False) -> Message:
    """One text from a person. `said` is the message, `event` what brought it."""
    channel, ts, user = string(event.get("channel")), string(said.get("ts")), string(said.get("user"))
    direct = _is_direct(channel, event)
    raw, addressed = me.unaddressed(string(said.get("text")))
    addressed = addressed or named
    thread = string(said.get("thread_ts"))
    if not thread and addressed and not direct:
        thread = ts  # the answer opens a thread below the mention, and that thread is the session
    typed = slack_text.plain(raw, name).strip()
    if by_tool(said, me):
        typed = verbatim(typed or told.words(said, name))
    words = "\n\n".join(part for part in (typed, *_forwarded(said, name)) if part)
    found, lost = files(said)
    return Message(
        conversation=Conversation(NAME, channel, thread),
        external_id=f"{channel}:{ts}",
        sender=f"{NAME}:{user}",
        sender_name=name(user),
        text=words,
        direct=direct,
        addressed=addressed,
        files=found,
        problem=NO_FILES if lost and not found and not words else "",
    )


def _is_direct(channel: str, event: Mapping[str, Any]) -> bool:
    kind = string(event.get("channel_type"))
    return kind == "im" if kind else channel.startswith("D")


def _forwarded(said: Mapping[str, Any], name: Names) -> list[str]:
    """The words of forwarded messages."""
    found = []
    for one in _shares(said):
        if words := told.attachment(one, name):
            author = string(one.get("author_name")) or string(one.get("author_subname")) or "Somebody"
            found.append(of_others(f"{author} wrote:\n{words}"))
    return found


def _shares(said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The forwarded messages that came with a message; what else is attached to a person's are previews of links."""
    return [one for one in listed(said.get("attachments")) if one.get("is_share")]


def files(said: Mapping[str, Any]) -> tuple[tuple[Attachment, ...], bool]:
    """The files that can be fetched, also those of forwarded messages; and whether there are others."""
    found, lost = [], False
    for file in (one for part in (said, *_shares(said)) for one in listed(part.get("files"))):
        url = string(file.get("url_private_download")) or string(file.get("url_private"))
        gone = file.get("mode") in ("tombstone", "hidden_by_limit")
        if gone or not string(file.get("id")):
            lost = True
            continue
        size = file.get("size")
        found.append(
            Attachment(
                name=string(file.get("name")) or string(file.get("title")) or "file",
                mime=string(file.get("mimetype")) or "application/octet-stream",
                size=size if isinstance(size, int) and size >= 0 else 0,
                ref=json.dumps({"id": file["id"], "url": url}),
            )
        )
    return tuple(found), lost


def _presses(payload: Mapping[str, Any], name: Names) -> list[Incoming]:
    """Buttons of ours that somebody pressed."""
    container, card = mapping(payload.get("container")), mapping(payload.get("message"))
    channel = string(container.get("channel_id")) or string(mapping(payload.get("channel")).get("id"))
    ts = string(container.get("message_ts")) or string(card.get("ts"))
    user = string(mapping(payload.get("user")).get("id"))
    thread = string(container.get("thread_ts")) or string(card.get("thread_ts"))
    pressed = payload.get("actions")
    found: list[Incoming] = []
    for one in pressed if isinstance(pressed, list) else []:
        action = mapping(one)
        word = string(action.get("value"))
        if not (channel and ts and user and word and string(action.get("action_id")).startswith(CHOICE)):
            continue
        found.append(
            Message(
                conversation=Conversation(NAME, channel, thread),
                external_id=f"{channel}:{ts}:press:{user}:{string(action.get('action_ts'))}",
                sender=f"{NAME}:{user}",
                sender_name=name(user),
                text=word,
                direct=channel.startswith("D"),
                addressed=True,
                presses=f"{channel}:{ts}",
            )
        )
    return found


def _shortcut(payload: Mapping[str, Any], me: Me, name: Names) -> list[Incoming]:
    """A message that somebody sends to us: it counts as theirs, whoever wrote it."""
    said = mapping(payload.get("message"))
    channel, user = string(mapping(payload.get("channel")).get("id")), string(mapping(payload.get("user")).get("id"))
    ts = string(said.get("ts")) or string(payload.get("message_ts"))
    if not (channel and user and ts):
        return []
    message = _message({"channel": channel}, {**said, "ts": ts}, me, name, named=True)
    text = message.text
    if string(said.get("user")) != user or said.get("bot_id"):
        text = of_others(f"{told.author(said, name)} wrote:\n{told.words(said, name)}")
    external_id = f"{channel}:{ts}:shortcut:{string(payload.get('action_ts'))}"
    sender = f"{NAME}:{user}"
    return [replace(message, external_id=external_id, sender=sender, sender_name=name(user), text=text)]


def _command(payload: Mapping[str, Any], name: Names) -> list[Incoming]:
    """`/huskies ...`, as if it were said in the channel itself."""
    channel, user = string(payload.get("channel_id")), string(payload.get("user_id"))
    trigger = string(payload.get("trigger_id"))
    if not (channel and user and trigger):
        return []
    return [
        Message(
            conversation=Conversation(NAME, channel),
            external_id=f"command:{trigger}",
            sender=f"{NAME}:{user}",
            sender_name=name(user),
            text=slack_text.plain(string(payload.get("text")), name).strip() or "help",
            direct=channel.startswith("D"),
            addressed=True,
        )
    ]
