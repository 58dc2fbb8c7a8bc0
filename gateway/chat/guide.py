"""What to click and what to paste on each platform. The pages in `docs/` say the same at more length."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from transports.slack import manifest

#: What was answered so far, by the keys of the platform's section.
Answers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do, and what to paste once it is done.

    Attributes:
        text: one or more lines.
        key: of the section, that the answer is for; empty: there is nothing to paste.
        question: what is asked for.
        choices: the only answers there are; the first one is meant by Enter.
        shows: a text that people may need to paste elsewhere, and the name of a file for it.
        needed: whether this step is for who answered so.
    """

    text: str
    key: str = ""
    question: str = ""
    secret: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()
    shows: tuple[Callable[[], str], str] | None = None
    needed: Callable[[Answers], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class Operator:
    """How a person is named on a platform: how to find it, what it looks like."""

    text: str
    pattern: re.Pattern[str]
    example: str


@dataclass(frozen=True, slots=True)
class Platform:
    """One platform.

    Attributes:
        name: of its section in `transports`.
        steps: in order.
        stand_ins: values for needed keys that were not asked for yet, so that one answer can be checked alone.
        needs_address: whether the platform posts to us.
        then: what to do once the gateway runs.
    """

    name: Literal["matrix", "slack", "whatsapp"]
    title: str
    steps: tuple[Step, ...]
    stand_ins: Mapping[str, str]
    operator: Operator
    needs_address: Callable[[Answers], bool]
    then: Callable[[Answers, str], str]


def _over_http(answers: Answers) -> bool:
    return answers.get("mode") == "http"


def _over_socket(answers: Answers) -> bool:
    return not _over_http(answers)


def _then_slack(answers: Answers, address: str) -> str:
    write = "In Slack, write to huskies directly: help. Or /invite @huskies into a channel, and @huskies help."
    if not _over_http(answers):
        return write
    return (
        f"At api.slack.com/apps, switch Socket Mode off, and enter {address}/webhooks/slack three times: Event "
        f"Subscriptions (Request URL), Interactivity & Shortcuts, Slash Commands (/huskies). Then: {write}"
    )


SLACK = Platform(
    name="slack",
    title="Slack",
    steps=(
        Step(
            "How shall events come? socket: the gateway dials Slack, nothing has to be reachable from outside. "
            "http: Slack posts to an address of yours.",
            key="mode",
            question="socket or http",
            choices=("socket", "http"),
        ),
        Step(
            "Open https://api.slack.com/apps: Create New App, From a manifest, your workspace, the JSON tab. "
            "Replace what is there by the manifest.",
            shows=(manifest.text, "slack-manifest.json"),
        ),
        Step(
            "Install App, Install to Workspace. Copy the Bot User OAuth Token (xoxb-...).",
            key="bot_token",
            question="bot_token",
            secret=True,
        ),
        Step(
            "Basic Information, App-Level Tokens, Generate: add the scope connections:write. "
            "Copy the token (xapp-...).",
            key="app_token",
            question="app_token",
            secret=True,
            needed=_over_socket,
        ),
        Step(
            "Basic Information, App Credentials: copy the Signing Secret.",
            key="signing_secret",
            question="signing_secret",
            secret=True,
            needed=_over_http,
        ),
    ),
    stand_ins={"bot_token": "xoxb-", "app_token": "xapp-", "signing_secret": "-"},
    operator=Operator(
        "Your own member id: in Slack, your picture, Profile, the three dots, Copy member ID.",
        re.compile(r"[UW][A-Z0-9]{2,}"),
        "U012ABCDEF",
    ),
    needs_address=_over_http,
    then=_then_slack,
)

WHATSAPP = Platform(
    name="whatsapp",
    title="WhatsApp, through Twilio",
    steps=(
        Step(
            "Open https://console.twilio.com: the Account SID (AC...) is on its first page, under Account Info.",
            key="account_sid",
            question="account_sid",
        ),
        Step("The Auth Token is below it.", key="auth_token", question="auth_token", secret=True),
        Step(
            "The number that people will write to: Messaging, Senders, WhatsApp senders. To try it out, the sandbox: "
            "Messaging, Try it out, Send a WhatsApp message; its number is +14155238886.",
            key="from_number",
            question="from_number",
        ),
        Step(
            "At that sender (or in the Sandbox settings), let “When a message comes in” be a POST to\n"
            "  {address}/webhooks/whatsapp#rc=5&rp=all",
        ),
        Step(
            "Optional: the Content SID (HX...) of an approved template that asks a person to write, for when the 24 "
            "hours are over (docs/whatsapp.md). Enter: none.",
            key="template_sid",
            question="template_sid",
            optional=True,
        ),
    ),
    stand_ins={"account_sid": "AC" + "0" * 32, "auth_token": "-", "from_number": "+14155238886"},
    operator=Operator("Your own phone's number, with its country.", re.compile(r"\+[1-9]\d{5,14}"), "+491700000000"),
    needs_address=lambda _: True,
    then=lambda answers, _: f"In WhatsApp, write to {answers.get('from_number', 'the number')}: help",
)

MATRIX = Platform(
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
            "Its password; it is used once, and the session is kept. With an access token instead, press Enter.",
            key="password",
            question="password",
            secret=True,
            optional=True,
        ),
        Step(
            "The access token: in the bot's client, All settings, Help & About, Access Token. Use that session for "
            "nothing else: do not log it out, as that ends the token.",
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

#: By the word that people choose it with.
PLATFORMS: Mapping[str, Platform] = {"slack": SLACK, "whatsapp": WHATSAPP, "matrix": MATRIX}
