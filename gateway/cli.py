"""The subcommands that talk to a running gateway, through the socket in its state directory."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from gateway.errors import UserError
from gateway.settings import Settings


class NotRunning(UserError):
    """No gateway is running here."""


async def send(settings: Settings, arguments: argparse.Namespace) -> int:
    """Send a message; print its replies. 0 when it was answered, 1 when not."""
    message = {
        "text": arguments.text,
        "conversation": arguments.conversation,
        # One id for all tries: a call that is cut off and repeated sends no second message.
        "id": secrets.token_hex(12),
    }
    try:
        answer = await asyncio.wait_for(_call(settings, "POST", "/send", message), arguments.timeout)
    except TimeoutError:
        raise UserError(
            f"there was no reply within {arguments.timeout:g} s; the message stays with the gateway"
        ) from None
    for reply in answer["replies"]:
        print(reply)
    return 0 if answer["ok"] else 1


async def projects(settings: Settings, arguments: argparse.Namespace) -> int:
    """List the projects."""
    found = await _call(settings, "GET", "/projects")
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    for project in found:
        print(f"{project['name']:<24} {project['state']:<10} {project['stack']:<10} {project['path']}")
    if not found:
        print("There is no project yet; type: huskies send 'new project demo'")
    return 0


async def status(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show one project. 0 when it is ready, 1 when not."""
    project = await _call(settings, "GET", f"/projects/{_one_name(arguments.name)}")
    if arguments.json:
        print(json.dumps(project, indent=2))
    else:
        for key, value in project.items():
            if value not in ("", []):
                print(f"{key}: {value}")
    return 0 if project["state"] == "ready" else 1


async def ssh(settings: Settings, arguments: argparse.Namespace) -> int:
    """Open a shell in a project's container; the process engine has none."""
    project = await _call(settings, "GET", f"/projects/{_one_name(arguments.name)}")
    raise UserError(f"{project['name']} runs on the process engine, which has no SSH; open {project['path']}")


async def doctor(settings: Settings, _: argparse.Namespace) -> int:
    """One line per part; 1 if any is broken."""
    try:
        parts = await _call(settings, "GET", "/doctor")
    except NotRunning as error:
        parts = [
            {"name": "config", "ok": True, "text": "ok"},
            await asyncio.to_thread(_state_part, settings.gateway.state_dir),
            {"name": "gateway", "ok": False, "text": str(error)},
        ]
    for part in parts:
        print(f"{'ok    ' if part['ok'] else 'BROKEN'} {part['name']}: {part['text']}")
    return 0 if all(part["ok"] for part in parts) else 1


def _state_part(state_dir: Path) -> dict[str, object]:
    nearest = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    writable = nearest.is_dir() and _may_write(nearest)
    text = f"ok ({state_dir})" if writable else f"{nearest} cannot be written; set gateway.state_dir"
    return {"name": "state", "ok": writable, "text": text}


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _one_name(name: str) -> str:
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise UserError(f"{name} is no project's name; `huskies projects` lists them")
    return name


async def _call(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the gateway. Raises NotRunning, UserError."""
    socket = settings.gateway.state_dir / ".gateway" / "cli.sock"
    timeout = aiohttp.ClientTimeout(total=None, connect=5)
    connector = aiohttp.UnixConnector(path=str(socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, f"http://gateway{path}", json=body) as response,
        ):
            answer = await response.json()
    except (aiohttp.ClientError, OSError) as error:
        raise NotRunning(
            f"no gateway is running on {settings.gateway.state_dir} ({type(error).__name__}); type: huskies run"
        ) from error
    if isinstance(answer, dict) and "error" in answer:
        raise UserError(answer["error"])
    return answer


SUBCOMMANDS: dict[str, Callable[[Settings, argparse.Namespace], Coroutine[Any, Any, int]]] = {
    "send": send,
    "projects": projects,
    "status": status,
    "ssh": ssh,
    "doctor": doctor,
}
