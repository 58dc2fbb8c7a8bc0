"""What the WhatsApp transport is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

from gateway.chat import Capabilities

NAME = "whatsapp"

#: Twilio's limit for one message.
MAX_TEXT = 1_600

CAPABILITIES = Capabilities(
    max_text=MAX_TEXT,
    edits=False,
    edit_interval_s=0.0,
    idempotent=True,  # by Twilio's list of what went out
    marks=True,  # only one fate is shown, a run under way: as typing
    files=True,
)


@dataclass(frozen=True, slots=True)
class WhatsAppConfig:
    """One WhatsApp sender of a Twilio account.

    Attributes:
        account_sid: the Twilio account, `AC...`.
        auth_token: its token; it also signs what Twilio posts to us.
        from_number: the bot's own number, `+14155238886`.
        public_url: where Twilio reaches the gateway's listener, without a slash at its end.
        api_base_url: Twilio's REST API.
        template_sid: an approved content template, `HX...`, that asks a person to write; empty: nobody is asked.
        quick_replies: content templates with buttons, by the words on them: `{"allow, deny": "HX..."}`. Each takes
            the text as its variable 1.
        media_origins: where Twilio stores media; it redirects there. No credentials go to these.
        request_s: seconds for one request to Twilio.
        body_s: seconds that a request's body may take to come in.
        media_s: seconds for which a file that we send can be fetched.
        check_s: seconds between two checks of the account.
        order_s: the longest that a message waits for the arrival of the one before, in seconds.
        calm_s: seconds after a post of unknown outcome until Twilio's list has it, if it was taken.
    """

    account_sid: str
    auth_token: str
    from_number: str
    public_url: str
    _: KW_ONLY
    api_base_url: str = "https://api.twilio.com"
    template_sid: str = ""
    quick_replies: Mapping[str, str] = field(default_factory=dict)
    media_origins: tuple[str, ...] = (
        "https://mms.twiliocdn.com/",
        "https://media.twiliocdn.com/",
        "https://s3-external-1.amazonaws.com/media.twiliocdn.com/",
    )
    request_s: float = 30.0
    body_s: float = 10.0
    media_s: float = 900.0
    check_s: float = 300.0
    calm_s: float = 10.0
    order_s: float = 2.0

    def __repr__(self) -> str:
        return f"WhatsAppConfig({self.from_number} of {self.account_sid})"

    @property
    def account_url(self) -> str:
        """The account's REST resource, without `.json`."""
        return f"{self.api_base_url.rstrip('/')}/2010-04-01/Accounts/{self.account_sid}"

    @property
    def typing_url(self) -> str:
        """Where typing is shown; it has its own host beside `api.`."""
        return f"{self._beside('messaging')}/v2/Indicators/Typing.json"

    @property
    def senders_url(self) -> str:
        """Where the account's WhatsApp senders are listed."""
        return f"{self._beside('messaging')}/v2/Channels/Senders"

    def content_url(self, sid: str) -> str:
        """Where a content template is described."""
        return f"{self._beside('content')}/v1/Content/{sid}"

    def _beside(self, host: str) -> str:
        return self.api_base_url.rstrip("/").replace("://api.", f"://{host}.", 1)
