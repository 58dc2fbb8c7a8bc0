"""The smaller subcommands. Most talk to a running gateway, through the socket in its state directory."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import secrets
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from gateway.cli.client import NotRunning, Say, call
from gateway.config import Secrets, Settings, database, log, trust
from gateway.config.secrets import ALL, check_key, check_scope, check_value, secrets_file
from gateway.config.state_dir import lock_state
from gateway.engine import ProjectPaths, Way
from gateway.errors import UserError

#: Bytes that are read of a secret; no key is as long.
_MAX_SECRET = 2**16


async def send(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """Send a message; print its replies. 0 when it was answered, 1 when not.

    What an agent asks meanwhile, and why it has to wait, goes to standard error; another `huskies send` answers it.
    """
    message: dict[str, Any] = {
        "text": _utf8(arguments.text),
        "conversation": _utf8(arguments.conversation),
        # One id for all tries: a call that is cut off and repeated sends no second message.
        "id": secrets.token_hex(12),
    }
    try:
        async with asyncio.timeout(arguments.timeout):
            answer = await call(settings, "POST", "/send", message)
            while "notices" in answer:
                print(*answer["notices"], sep="\n", file=sys.stderr, flush=True)
                message["seen"] = answer["seen"]
                answer = await call(settings, "POST", "/send", message)
    except TimeoutError:
        raise UserError(
            f"there was no reply within {arguments.timeout:g} s; the message stays with the gateway"
        ) from None
    for reply in answer["replies"]:
        say(reply)
    return 0 if answer["ok"] else 1


async def projects(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """List the projects."""
    found = await call(settings, "GET", "/projects")
    if arguments.json:
        say(json.dumps(found, indent=2))
        return 0
    for project in found:
        say(f"{project['name']:<24} {project['state']:<10} {project['stack']:<10} {project['path']}")
    if not found:
        say("No projects yet; type: huskies send 'new project demo'")
    return 0


async def status(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """Show one project. 0 when it is ready, 1 when not."""
    project = await call(settings, "GET", f"/projects/{_one_name(arguments.name)}")
    if arguments.json:
        say(json.dumps(project, indent=2))
    else:
        for key, value in project.items():
            shown = value.get("line", "") if isinstance(value, dict) else value
            if key == "versions":
                shown = ", ".join(f"{stack} {version}" for stack, version in value.items())
            if shown not in ("", []):
                say(f"{key}: {shown}")
    return 0 if project["state"] == "ready" else 1


async def migrate(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """Copy the gateway's state into the database that the configuration names; or from there back into SQLite."""
    from gateway.store.migrate import migrate as copied  # seldom needed, and slow to import

    address, file = database.where(settings), settings.gateway.state_dir / ".gateway" / "huskies.db"
    if isinstance(address, Path):
        raise UserError("no database is named: set gateway.database in the configuration, then type this again")
    log.blot_out(database.passwords(address))
    with lock_state(settings.gateway.state_dir):
        found = await asyncio.to_thread(copied, file, address, back=arguments.back, said=say)
    say(f"compared: {sum(one.rows for one in found)} rows in {len(found)} tables are the same in both.")
    if arguments.back:
        say(f"The state is in {file}; take gateway.database out of the configuration, then start the gateway.")
    else:
        say(f"Start the gateway: it uses the new database. {file} stays as it was, as a backup of this moment.")
    return 0


async def audit(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """Check the audit's chain, or print its rows, a JSON object a line. 1 if a row is not as it was written."""
    from gateway.store.reading import audited  # seldom needed, and slow to import

    found = audited(database.where(settings), settings.gateway.state_dir / ".gateway")
    if arguments.act_on == "export":
        for entry in found.entries(arguments.since):
            say(json.dumps(entry, ensure_ascii=False))
        return 0
    verdict = found.verdict()
    say(verdict.wrong or f"{verdict.rows} rows, each as it was written.")
    return 1 if verdict.wrong else 0


async def login(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """Print a link to the page: good once, for five minutes, for the gateway's own user."""
    answer = await call(settings, "POST", "/login", {})
    say(answer["link"])
    return 0


async def plan(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """Show what `new project --path PATH` would do. Needs neither a running gateway nor an engine."""
    from gateway.cli import plan_report

    found = await plan_report.report(settings, arguments.path, arguments.stack)
    if arguments.json:
        say(json.dumps(found, indent=2))
    else:
        for line in plan_report.lines(found):
            say(line)
    return 0


async def ssh(settings: Settings, arguments: argparse.Namespace, _: Say) -> int:
    """Open a shell in a project's container, or run a command there: this process becomes the system's `ssh`."""
    name = _one_name(arguments.name)
    project = await call(settings, "GET", f"/projects/{name}")
    if not project["ssh"]:
        raise UserError(
            f"{project['name']} runs on the {project['engine']} engine, which has no SSH; open {project['path']}"
        )
    if project["state"] != "ready":
        raise UserError(f"{project['name']} is {project['state']}; type: huskies send 'up {project['name']}'")
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    way = Way.to(ProjectPaths.of(settings.gateway.state_dir, name), name, _port(project["ssh"].get("port")))
    try:
        # ssh takes options after its destination, too: a command that begins with a dash would be some of this host's.
        os.execvp("ssh", ["ssh", *way.options, "--", *command])
    except FileNotFoundError:
        raise UserError("there is no ssh on this host; type: apt-get install openssh-client") from None


async def ssh_config(settings: Settings, _: argparse.Namespace, say: Say) -> int:
    """Print the SSH configuration of all projects, as the gateway keeps it for `Include`."""
    file = settings.gateway.state_dir / ".ssh" / "config"
    try:
        text = file.read_text()
    except FileNotFoundError:
        raise UserError("no project has SSH yet; type: huskies send 'new project demo'") from None
    trust.check_state(settings.gateway.state_dir)
    say(text)
    return 0


async def secrets_command(settings: Settings, arguments: argparse.Namespace, say: Say) -> int:
    """Set, list or delete what the gateway keeps secret: through the running gateway, else in its file."""
    scope = check_scope(arguments.project) if arguments.project else ""
    if arguments.act_on == "list":
        shown = await _names(settings)
        lines = [f"{name}: {', '.join(keys)}" for name, keys in shown.items() if scope in ("", name)]
        say("\n".join(lines) or f"None set{f' for {scope}' if scope else ''}; type: huskies secrets set all api_key")
        return 0
    key = check_key(arguments.key)
    if arguments.act_on == "delete":
        try:
            await call(settings, "DELETE", f"/secrets/{scope}/{key}")
        except NotRunning:
            with lock_state(settings.gateway.state_dir):
                kept = Secrets(secrets_file(settings.gateway.state_dir))
                if kept.get(scope, key):
                    await _note_secret(settings, scope, f"{key} was removed")
                kept.delete(scope, key)
        say(f"{key} of {scope} is gone.")
        return 0
    value = await asyncio.to_thread(_typed, f"{key} for {scope}: ")
    check_value(key, value)
    try:
        await call(settings, "PUT", "/secrets", {"scope": scope, "key": key, "value": value})
        say(f"{key} of {scope} is set; it is used from the next call on.")
    except NotRunning:
        with lock_state(settings.gateway.state_dir):
            await _note_secret(settings, scope, f"{key} was set")
            Secrets(secrets_file(settings.gateway.state_dir)).set(scope, key, value)
        say(f"{key} of {scope} is set; no gateway is running here, so it is used from the next start on.")
    return 0


async def _note_secret(settings: Settings, scope: str, what: str) -> None:
    """In the audit, where no gateway runs that would write it; before it is done. Raises StateError."""
    from gateway.store import Store, audit  # seldom needed, and slow to import
    from gateway.store.seal import Seal

    state_dir = settings.gateway.state_dir
    (state_dir / ".gateway").mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await Store.open(database.where(settings), Seal(state_dir / ".gateway"))
    try:
        actor, project = f"cli:{getpass.getuser()}", "" if scope == ALL else scope
        await store.write(lambda c: audit.add(c, "secret", actor, what, project=project))
    finally:
        await store.close()


async def _names(settings: Settings) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = await call(settings, "GET", "/secrets")
    except NotRunning:
        return Secrets(secrets_file(settings.gateway.state_dir)).names()
    return found


def _typed(question: str) -> str:
    """A secret from stdin: typed unseen at a terminal, else all that comes. Without the line break at its end."""
    if sys.stdin.isatty():
        return getpass.getpass(question).strip()
    value = sys.stdin.buffer.read(_MAX_SECRET).decode(errors="replace")
    return value.removesuffix("\n").removesuffix("\r")


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError("that is not valid UTF-8; nothing was sent") from None
    return text


def _port(told: object) -> int:
    """A port that the gateway told. What becomes options of `ssh` is made here, and never received."""
    if isinstance(told, int) and 0 < told < 2**16:
        return told
    raise UserError("the gateway that runs here is of another version; start it again: huskies run")


def _one_name(name: str) -> str:
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise UserError(f"{name} is not a project's name; `huskies projects` lists them")
    return name


SUBCOMMANDS: dict[str, Callable[[Settings, argparse.Namespace, Say], Coroutine[Any, Any, int]]] = {
    "send": send,
    "projects": projects,
    "status": status,
    "plan": plan,
    "migrate": migrate,
    "audit": audit,
    "ssh": ssh,
    "ssh-config": ssh_config,
    "secrets": secrets_command,
    "login": login,
}
