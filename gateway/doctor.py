"""`huskies doctor`: one line per part and per live check, each ok or what is wrong and what to type."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from gateway.cli import NotRunning, Say, call
from gateway.credentials import Credentials
from gateway.engine import docker
from gateway.errors import StateError, UserError
from gateway.finding import Finding, Verdict, broken, ok
from gateway.inspection import PLATFORM_S, inspect
from gateway.proxy_keys import NO_KEY
from gateway.secrets import ALL, Secrets, secrets_file
from gateway.settings import Settings

#: Seconds that a gateway may take for what it looks at; a little more than it needs.
_PATIENCE_S = PLATFORM_S + 1.5


async def doctor(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """Show every part and every live check; 1 if any is broken. Takes about 15 seconds at most."""
    try:
        findings = await _running(settings)
    except NotRunning as error:
        findings = await _alone(settings, error)
    if arguments.json:
        say(json.dumps([_as_json(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            say(finding.line)
    return 1 if any(finding.broken for finding in findings) else 0


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "ok": not finding.broken,
        "verdict": finding.verdict,
        "text": finding.text,
    }


async def _running(settings: Settings) -> list[Finding]:
    """What the running gateway knows, and what it finds now. Raises NotRunning, UserError."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            parts, findings = await asyncio.gather(call(settings, "GET", "/doctor"), call(settings, "GET", "/checks"))
    except TimeoutError:
        raise UserError("the gateway runs, and does not answer; its log may say why") from None
    return [_of(part) for part in parts] + [Finding(f["name"], Verdict(f["verdict"]), f["text"]) for f in findings]


async def _alone(settings: Settings, why: NotRunning) -> list[Finding]:
    """What can be told without a gateway."""
    parts = [
        {"name": "config", "ok": True, "text": "ok"},
        await asyncio.to_thread(_state_part, settings.gateway.state_dir),
        await asyncio.to_thread(_engine_part, settings.engine.kind),
        await asyncio.to_thread(_agent_part, settings),
        {"name": "gateway", "ok": False, "text": str(why)},
    ]
    return [_of(part) for part in parts] + await inspect(settings, None)


def _of(part: dict[str, Any]) -> Finding:
    """A part as a finding: it is well, or broken."""
    return ok(part["name"], part["text"]) if part["ok"] else broken(part["name"], part["text"])


def _state_part(state_dir: Path) -> dict[str, object]:
    nearest = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    text = f"ok ({state_dir})" if writable else f"{nearest} cannot be written; set gateway.state_dir"
    return {"name": "state", "ok": writable, "text": text}


def _engine_part(kind: str) -> dict[str, object]:
    there = kind != "process" and docker.answers()
    if there or kind == "docker":
        text = "docker answers" if there else "no Docker engine answers; type: systemctl start docker"
        return {"name": "engine", "ok": there, "text": text}
    return {"name": "engine", "ok": True, "text": "process, no isolation (with Docker running it would be docker)"}


def _agent_part(settings: Settings) -> dict[str, object]:
    try:
        credentials = Credentials(settings.agent, Secrets(secrets_file(settings.gateway.state_dir)))
    except StateError as error:
        return {"name": "agent", "ok": False, "text": str(error)}
    chosen = credentials.chosen(ALL)
    has_key = chosen != "claude" or credentials.of(ALL) is not None
    return {"name": "agent", "ok": has_key, "text": chosen if has_key else NO_KEY}
