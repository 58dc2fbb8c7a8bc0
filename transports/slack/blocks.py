"""What our messages consist of: sections, buttons, and the key by which we recognise them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from transports.slack import render
from transports.slack.events import CHOICE
from transports.slack.told import mapping, string

#: The `event_type` of the metadata on our messages.
_KIND = "huskies"
_STYLES = {"allow": "primary", "deny": "danger"}


def content(text: str, choices: Sequence[str] = (), mentions: Sequence[str] = ()) -> dict[str, Any]:
    """The part of a post, or of an update, that people see. `mentions`: who is called by name above it."""
    blocks = [_section(number, piece, goes_on) for number, (piece, goes_on) in enumerate(render.pieces(text))]
    if choices:
        blocks.append({"type": "actions", "block_id": "choices", "elements": [_button(word) for word in choices[:25]]})
    if not mentions:
        return {"text": render.summary(text), "blocks": blocks}
    called = " ".join(f"<@{account}>" for account in mentions)
    above = {"type": "context", "block_id": "called", "elements": [{"type": "mrkdwn", "text": called}]}
    return {"text": f"{called} {render.summary(text)}", "blocks": [above, *blocks]}


def bare(text: str, most: int) -> dict[str, Any]:
    """The words alone, for when Slack refuses the layout; at most `most` bytes."""
    return {"text": render.summary(text, most), "blocks": []}


def metadata(key: str) -> dict[str, Any]:
    """What a post carries invisibly."""
    return {"event_type": _KIND, "event_payload": {"key": key}}


def caption(text: str, key: str) -> list[dict[str, Any]]:
    """The words beside a file. Files carry no metadata, so the block's id stands for the key."""
    piece, _ = render.pieces(text)[0]
    return [_section(0, piece, False) | {"block_id": _digest(key)}]


def stands_for(message: Mapping[str, Any], key: str) -> bool:
    """Whether a message in a history is the one that was posted with `key`."""
    told = mapping(message.get("metadata"))
    if told.get("event_type") == _KIND:
        return string(mapping(told.get("event_payload")).get("key")) == key
    blocks = message.get("blocks")
    return isinstance(blocks, list) and any(mapping(block).get("block_id") == _digest(key) for block in blocks)


def _section(number: int, piece: str, goes_on: bool) -> dict[str, Any]:
    return {
        "type": "section",
        "block_id": f"{'more' if goes_on else 'text'}-{number}",
        "expand": True,
        "text": {"type": "mrkdwn", "text": piece, "verbatim": True},
    }


def _button(word: str) -> dict[str, Any]:
    button: dict[str, Any] = {
        "type": "button",
        "action_id": f"{CHOICE}{word.replace(' ', '-')}",
        "text": {"type": "plain_text", "text": word[:1].upper() + word[1:75]},
        "value": word,
    }
    return button | ({"style": _STYLES[word]} if word in _STYLES else {})


def _digest(key: str) -> str:
    return "huskies-" + hashlib.sha256(key.encode()).hexdigest()[:40]
