"""What the Matrix transport is told."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from gateway.chat import Capabilities, Fate

NAME = "matrix"

#: An event may have 65,536 bytes. Encrypted, 11,000 characters of four bytes each become 59 kB of base64,
#: which leaves room for what the server adds. The HTML twin of the text is left out where it would not fit.
MAX_TEXT = 11_000

CAPABILITIES = Capabilities(
    max_text=MAX_TEXT,
    edits=True,
    edit_interval_s=1.0,
    idempotent=True,
    marks=True,
    files=True,
    scope="account",
)

#: Fates as reactions.
EMOJIS = {
    Fate.QUEUED: "👀",
    Fate.RUNNING: "👀",
    Fate.ANSWERED: "✅",
    Fate.FAILED: "❌",
    Fate.INTERRUPTED: "⏹️",
    Fate.DISCARDED: "⏹️",
    Fate.REFUSED: "🚫",
}


@dataclass(frozen=True, slots=True)
class MatrixConfig:
    """One Matrix account of the bot.

    Attributes:
        homeserver: base URL of the client API, e.g. `https://matrix.example.org`.
        user_id: the bot's account, `@huskies:example.org`; may be empty with an access token.
        access_token: of a device made for the bot. Used before `password`.
        password: used to log in once; the session is then kept in `store`.
        device_id: only for access tokens whose server does not name their device.
        encryption: take part in encrypted rooms.
        store: this transport's own folder: session, keys, lock.
        bot_name: another name that people may call the bot by.
        hold_s: seconds that a message without its key waits for it.
        poll_s: seconds that one request for news may stay open.
    """

    homeserver: str
    user_id: str
    _: KW_ONLY
    access_token: str = ""
    password: str = ""
    device_id: str = ""
    encryption: bool = True
    store: Path
    bot_name: str = "huskies"
    hold_s: float = 60.0
    poll_s: float = 30.0

    def __repr__(self) -> str:
        return f"MatrixConfig({self.user_id} at {self.homeserver})"
