"""What to click and what to paste, from a new Slack app to a bot that answers. docs/slack.md has the long version."""

from __future__ import annotations

import re

from gateway.chat.guide import Answers, Guide, Operator, Step
from transports.slack import manifest


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


GUIDE = Guide(
    name="slack",
    title="Slack",
    steps=(
        Step(
            "How should events arrive? socket: the gateway connects to Slack, and nothing has to be reachable from "
            "outside. http: Slack posts to an address of yours.",
            key="mode",
            question="socket or http",
            choices=("socket", "http"),
        ),
        Step(
            "Open https://api.slack.com/apps: Create New App, From a manifest, your workspace, the JSON tab. "
            "Replace what is there with the manifest.",
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
        "Your own member id: in Slack, click your picture, Profile, the three dots, Copy member ID.",
        re.compile(r"[UW][A-Z0-9]{2,}"),
        "U012ABCDEF",
    ),
    needs_address=_over_http,
    then=_then_slack,
)
