"""`huskies doctor`: one line per part and per live check, each ok or what is wrong and what to type."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from gateway.app.inspection import PLATFORM_S, inspect
from gateway.app.startup import check
from gateway.chat.finding import Finding, Verdict, broken, ok
from gateway.cli.client import NotRunning, Say, call
from gateway.config import Credentials, Secrets, Settings
from gateway.config.secrets import ALL, secrets_file
from gateway.engine import docker
from gateway.errors import ConfigError, StateError
from gateway.wire import NO_KEY

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
    parts, findings = await asyncio.gather(_asked(settings, "/doctor"), _asked(settings, "/checks"))
    if parts is None or findings is None:
        silent = broken("gateway", f"it runs, but did not report everything within {_PATIENCE_S:g} s; see its log")
        parts, findings = [*(parts or []), silent], findings or []
    return [*parts, *findings]


async def _asked(settings: Settings, path: str) -> list[Finding] | None:
    """What the gateway answers; None where it took too long. Raises NotRunning, UserError."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return [_of(told) for told in await call(settings, "GET", path)]
    except TimeoutError:
        return None


async def _alone(settings: Settings, why: NotRunning) -> list[Finding]:
    """What can be told without a gateway."""
    state_dir = settings.gateway.state_dir
    state, engine, agent, findings = await asyncio.gather(
        asyncio.to_thread(_state_part, state_dir),
        asyncio.to_thread(_engine_part, settings.engine.kind),
        asyncio.to_thread(_agent_part, settings),
        inspect(settings, None),
    )
    return [_config_part(settings), state, engine, agent, broken("gateway", str(why)), *findings]


def _of(told: dict[str, Any]) -> Finding:
    """A part, which is well or broken, or a finding, as the gateway tells it."""
    verdict = told.get("verdict") or (Verdict.OK if told["ok"] else Verdict.BROKEN)
    return Finding(told["name"], Verdict(verdict), told["text"])


def _config_part(settings: Settings) -> Finding:
    try:
        check(settings)
    except ConfigError as error:
        return broken("config", str(error))
    return ok("config")


def _state_part(state_dir: Path) -> Finding:
    nearest = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return broken("state", f"{nearest} cannot be written; set gateway.state_dir")
    return ok("state", f"ok ({state_dir})")


def _engine_part(kind: str) -> Finding:
    there = kind != "process" and docker.answers()
    if there:
        return ok("engine", "docker answers")
    if kind == "docker" or (kind == "auto" and docker.is_wanted()):
        return broken("engine", f"no Docker engine answers (looked at: {docker.looked_at()}). {docker.start_it()}.")
    if kind == "auto":
        return ok("engine", f"process, no isolation: there is no Docker (looked at: {docker.looked_at()})")
    return ok("engine", "process, no isolation")


def _agent_part(settings: Settings) -> Finding:
    try:
        credentials = Credentials(settings.agent, Secrets(secrets_file(settings.gateway.state_dir)))
    except StateError as error:
        return broken("agent", str(error))
    chosen = credentials.chosen(ALL)
    return broken("agent", NO_KEY) if chosen == "claude" and credentials.of(ALL) is None else ok("agent", chosen)
