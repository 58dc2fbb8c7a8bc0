"""The Slack app that we need: what people paste when they make it. docs/slack.md shows the same; a test compares."""

from __future__ import annotations

import json
from typing import Any

from transports.slack.events import SHORTCUT

#: Without these the bot hears nothing, can say nothing, or cannot check whether it has already said it.
NEEDED = (
    *("app_mentions:read", "chat:write"),
    *("channels:history", "groups:history", "im:history", "mpim:history"),
)
#: Scopes that are optional, and what is missing without each.
WANTED = {
    "channels:read": "slash commands and shortcuts in channels, and reading them in the page",
    "commands": "`/huskies` and *Send to huskies*",
    "files:read": "files that people send",
    "files:write": "files that agents send",
    "groups:read": "slash commands and shortcuts in private channels, and reading them in the page",
    "im:read": "slash commands in direct messages",
    "mpim:read": "slash commands in group direct messages",
    "reactions:write": "fates as reactions",
    "users:read": "people's names",
}

MANIFEST: dict[str, Any] = {
    "display_information": {"name": "huskies", "description": "Text your sandboxed coding agents."},
    "features": {
        "app_home": {"home_tab_enabled": False, "messages_tab_enabled": True, "messages_tab_read_only_enabled": False},
        "bot_user": {"display_name": "huskies", "always_online": True},
        "shortcuts": [
            {
                "name": "Send to huskies",
                "type": "message",
                "callback_id": SHORTCUT,
                "description": "Give this message to the coding agent",
            }
        ],
        "slash_commands": [
            {"command": "/huskies", "description": "Talk to huskies", "usage_hint": "help", "should_escape": True}
        ],
    },
    "oauth_config": {"scopes": {"bot": sorted([*NEEDED, *WANTED])}},
    "settings": {
        "event_subscriptions": {
            "bot_events": ["app_mention", "message.channels", "message.groups", "message.im", "message.mpim"]
        },
        "interactivity": {"is_enabled": True},
        "org_deploy_enabled": False,
        "socket_mode_enabled": True,
        "token_rotation_enabled": False,
    },
}


def text() -> str:
    """The manifest as JSON, to be pasted."""
    return json.dumps(MANIFEST, indent=2)
