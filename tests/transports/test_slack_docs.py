"""The manifest that people paste is what the transport needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from transports.slack import events
from transports.slack.manifest import MANIFEST, NEEDED, WANTED, text
from transports.slack.webhook import PATH

PAGE = (Path(__file__).parents[2] / "docs" / "slack.md").read_text()


def manifest() -> dict[str, Any]:
    found = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_page_shows_the_manifest_that_the_code_has() -> None:
    assert manifest() == MANIFEST == json.loads(text())


def test_the_scopes() -> None:
    scopes = manifest()["oauth_config"]["scopes"]["bot"]
    assert {*NEEDED, *WANTED} == set(scopes)
    assert scopes == sorted(set(scopes))


def test_what_is_subscribed_to() -> None:
    told = manifest()
    assert {"app_mention", "message.im", "message.channels"} <= set(
        told["settings"]["event_subscriptions"]["bot_events"]
    )
    assert told["settings"]["interactivity"]["is_enabled"]
    assert told["settings"]["socket_mode_enabled"]
    (shortcut,) = told["features"]["shortcuts"]
    assert (shortcut["type"], shortcut["callback_id"]) == ("message", events.SHORTCUT)
    assert told["features"]["slash_commands"][0]["command"] == "/huskies"
    assert f"https://<your host>{PATH}" in PAGE


def test_importing_the_package_does_not_import_the_sdk() -> None:
    """A gateway without the extra `slack` starts all the same."""
    told = "import sys, transports.slack; sys.exit(bool({'slack_sdk', 'slack_bolt', 'markdown_it'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", told], cwd=Path(__file__).parents[2], check=False).returncode == 0
