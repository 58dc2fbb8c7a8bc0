"""What the Slack transport is told."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from gateway.chat import Capabilities, Fate

NAME = "slack"

#: Characters of Markdown. Even escaped and in blocks, the worst of them stay below what Slack takes (see `render`).
MAX_TEXT = 3_000

CAPABILITIES = Capabilities(
    max_text=MAX_TEXT,
    edits=True,
    edit_interval_s=1.2,
    idempotent=True,
    marks=True,
    files=True,
    scope="room",
)

#: Fates as reactions.
EMOJIS = {
    Fate.QUEUED: "eyes",
    Fate.RUNNING: "eyes",
    Fate.ANSWERED: "white_check_mark",
    Fate.FAILED: "x",
    Fate.INTERRUPTED: "black_square_for_stop",
    Fate.DISCARDED: "black_square_for_stop",
    Fate.REFUSED: "no_entry_sign",
}


@dataclass(frozen=True, slots=True)
class SlackConfig:
    """One Slack app, installed into one workspace.

    Attributes:
        mode: how events arrive: `socket` (we connect to Slack) or `http` (Slack posts to `/webhooks/slack`).
        bot_token: `xoxb-...`, for everything the bot does.
        app_token: `xapp-...`, opens the socket; only with `socket`.
        signing_secret: proves that a request is Slack's; only with `http`.
        api_base_url: where the Web API is.
        apps: ids of apps (`A012...`) whose messages in somebody's name count as typed by that person.
        bot_name: a name that people may use instead of a mention.
        ping_s: seconds between two pings on the socket; a peer that leaves one unanswered for half of that is gone.
        check_s: seconds between two checks that Slack still accepts the token, where no socket would tell.
    """

    mode: Literal["socket", "http"]
    bot_token: str = field(repr=False)
    _: KW_ONLY
    app_token: str = field(default="", repr=False)
    signing_secret: str = field(default="", repr=False)
    api_base_url: str = "https://slack.com/api/"
    apps: tuple[str, ...] = ()
    bot_name: str = "huskies"
    ping_s: float = 5.0
    check_s: float = 300.0
