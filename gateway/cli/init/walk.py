"""The order of questions. An answer is looked at twice: its form at once, then by whoever it is meant for."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from gateway.app.platforms import PLATFORMS
from gateway.app.startup import check
from gateway.chat.finding import Finding
from gateway.chat.guide import Guide
from gateway.cli.init.asker import Asker, Say, Skipped
from gateway.cli.init.checking import Checker
from gateway.cli.init.draft import Draft
from gateway.cli.init.one_platform import OnePlatform
from gateway.config import Credential, Secrets, git_identity
from gateway.config.secrets import ALL, KEYS, check_value, secrets_file
from gateway.config.sections import GitSection
from gateway.config.settings import home_file, named_file
from gateway.config.state_dir import cli_socket
from gateway.engine import docker
from gateway.errors import StateError, UserError
from gateway.wire import model_check

_BEGIN = """
This writes {file}. Enter takes what is in brackets; `skip` leaves a part out; Ctrl-C ends it. Nothing is written
before the last question.

Where should people write to the bot? On slack, whatsapp, matrix, or several of them; none means only this terminal."""
_GIT = """
Git
  Commits in projects carry a name and an email address."""
_KEY = """
The model
  Claude needs a key: an API key (sk-ant-api...) from https://console.anthropic.com, or the token of a subscription,
  which `claude setup-token` prints (sk-ant-oat...). Enter: none; then the scripted agent answers, for a look around."""
_UNSANDBOXED = """
The engine
  No Docker engine answers here. Without one, a project's agent is a plain process of your own user, and the gateway
  does not start while people on a chat platform can reach it, unless you allow that. Better: start Docker."""


def run(given: Path | None, say: Say) -> int:
    """Ask, check, write; the exit code. `given`: the file of `--config`, which need not exist.

    Raises:
        UserError: there is no terminal, or the file cannot be used or written.
        KeyboardInterrupt, EOFError: the person left; nothing was written.
    """
    asker = Asker(say)
    draft = Draft(given or named_file() or home_file())
    asker.tell(_BEGIN.format(file=draft.file.absolute()))
    then = _platforms(asker, draft)
    _identity(asker, draft)
    _key(asker, draft)
    then += _engine(asker, draft)
    if not _written(asker, draft):
        return 1
    config = f" --config {draft.file}" if given is not None and draft.file.exists() else ""
    if cli_socket(draft.settings().gateway.state_dir).exists():
        asker.tell("\nA gateway seems to be running here; it uses this from its next start on.")
    asker.say("")
    for line in (f"Now type: huskies run{config}", *then, f"If something does not work: huskies doctor{config}"):
        asker.tell(line)
    return 0


def _platforms(asker: Asker, draft: Draft) -> list[str]:
    """Set up those that are wanted; what to do on each once the gateway runs."""
    one, then = OnePlatform(asker, draft), []
    for guide in _which(asker, draft):
        try:
            then.append(one.set_up(guide))
        except Skipped:
            asker.tell(f"  {guide.title} is left as it was.")
    return then


def _which(asker: Asker, draft: Draft) -> list[Guide]:
    def complain(answer: str) -> str:
        unknown = [word for word in _words(answer) if word not in (*PLATFORMS, "none")]
        return f"{unknown[0]} is not one of these: {', '.join(PLATFORMS)}, none" if unknown else ""

    there = [name for name in PLATFORMS if draft.get(f"transports.{name}") is not None]
    try:
        chosen = _words(asker.ask("Platforms", default=", ".join(there) or "none", complain=complain))
    except Skipped:
        return []
    return [platform.guide() for name, platform in PLATFORMS.items() if name in chosen]


def _identity(asker: Asker, draft: Draft) -> None:
    """Whose name commits bear."""
    asker.tell(_GIT)
    here = asyncio.run(git_identity.GitIdentity(GitSection()).find())
    found = {"git.user_name": here.name, "git.user_email": here.email}
    try:
        for key, default in found.items():
            answer = asker.ask(f"     {key}", default=draft.text(key) or default, optional=True)
            if answer or draft.text(key):
                draft.set(key, answer)
    except Skipped:
        return


def _key(asker: Asker, draft: Draft) -> None:
    """What pays for the model."""
    asker.tell(_KEY)
    if told := _kept(draft):
        asker.tell(f"  {told}")
    checker = Checker(asker, draft)
    key = next((value for kind in KEYS if (value := draft.text(f"agent.{kind}"))), "")
    try:
        while key := asker.ask("     key", default=key, secret=True, optional=True, complain=_no_key):
            credential = Credential(ALL, _kind(key), key)
            if checker.goes_on(_tried(draft.settings().agent.api_base_url, credential), "the key"):
                break
    except Skipped:
        return
    for kind in KEYS:
        # Of the other kind there must be none: it would be a second answer to the same question.
        value = key if kind == _kind(key) else ""
        if value or draft.text(f"agent.{kind}"):
            draft.set(f"agent.{kind}", value)


def _kept(draft: Draft) -> str:
    """What `huskies secrets` has to say of a key; empty where it keeps none for all projects."""
    try:
        stored = Secrets(secrets_file(draft.settings().gateway.state_dir)).names().get(ALL)
    except StateError as error:
        return str(error)
    return f"`huskies secrets` already keeps one ({', '.join(stored)}); it is used before this one." if stored else ""


async def _tried(api_base_url: str, credential: Credential) -> list[Finding]:
    return [await model_check.check(api_base_url, credential)]


def _kind(key: str) -> str:
    return "oauth_token" if key.startswith("sk-ant-oat") else "api_key"


def _no_key(key: str) -> str:
    try:
        check_value(_kind(key), key)
    except UserError as error:
        return str(error)
    return ""


def _engine(asker: Asker, draft: Draft) -> list[str]:
    """People elsewhere, and no isolation: somebody has to mean that. What is to be done before the gateway starts."""
    settings = draft.settings()
    if not settings.remote_transports or settings.engine.allow_unsandboxed or settings.engine.kind == "docker":
        return []
    if settings.engine.kind == "auto" and docker.answers():
        return []
    if settings.engine.kind == "auto" and docker.is_wanted():
        return [f"Docker does not answer yet, and projects wait for it. {docker.start_it()}."]
    asker.tell(_UNSANDBOXED)
    if asker.yes("     Should it start without isolation", default=False):
        draft.set("engine.allow_unsandboxed", True)
        return []
    return ["Before that, start Docker: systemctl start docker"]


def _written(asker: Asker, draft: Draft) -> bool:
    """Show what changes, and write it; False where that is not wanted."""
    check(draft.settings())
    changes = draft.changes()
    if not changes:
        asker.tell("\nThere is nothing new to write.")
        return True
    asker.say("\n".join(["\nThis is new:", *changes]))
    if not asker.yes(f"Write it to {draft.file.absolute()}", default=True):
        asker.tell("Nothing was written.")
        return False
    draft.write()
    asker.tell(f"{draft.file.absolute()} is written; only you can read it.")
    return True


def _words(text: str) -> list[str]:
    return re.findall(r"[^\s,]+", text.lower())
