"""What to click and what to paste, for the bot's own account. docs/matrix.md has the long version."""

from __future__ import annotations

import re

from gateway.chat.guide import Guide, Operator, Step

GUIDE = Guide(
    name="matrix",
    title="Matrix",
    steps=(
        Step(
            "Make an account for the bot on your homeserver, with any Matrix client. The address of the homeserver is "
            "in that client: All settings, Help & About, Homeserver.",
            key="homeserver",
            question="homeserver, e.g. https://matrix.example.org",
        ),
        Step("The bot's own account.", key="user_id", question="user_id, e.g. @huskies:example.org"),
        Step(
            "Its password. It is used once, and the session is kept. To use an access token instead, press Enter.",
            key="password",
            question="password",
            secret=True,
            optional=True,
        ),
        Step(
            "The access token: in the bot's client, All settings, Help & About, Access Token. Use that session for "
            "nothing else, and don't log it out: that ends the token.",
            key="access_token",
            question="access_token",
            secret=True,
            optional=True,
            needed=lambda answers: not answers.get("password"),
        ),
    ),
    stand_ins={"homeserver": "https://matrix.example.org", "user_id": "@huskies:example.org"},
    operator=Operator("Your own Matrix account.", re.compile(r"@[^:\s]+:\S+"), "@ana:example.org"),
    needs_address=lambda _: False,
    then=lambda answers, _: f"In Matrix, invite {answers.get('user_id', 'the bot')} into a chat, and write: help",
)
