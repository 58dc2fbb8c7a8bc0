"""`huskies init` in a real terminal: what a person is asked, what they see, and the gateway that starts from it."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.config.settings import load
from gateway.testing import patience
from tests.support.claude_api import ClaudeApi
from tests.support.huskies import Huskies
from tests.support.slack_server import SlackServer
from tests.support.synapse import Synapse
from tests.support.terminal import CTRL_C, ENTER, Terminal, at_terminal
from tests.support.twilio_server import ACCOUNT, TOKEN, TwilioServer, sender
from transports.slack.manifest import MANIFEST

pytestmark = pytest.mark.timeout(120)
RIGHT_BOT, RIGHT_APP = "xoxb-canary-right-0001", "xapp-canary-right-0002"


class Person:
    """Answers one question after the other. A prompt that comes again is another one."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._asked: Counter[str] = Counter()

    @property
    def seen(self) -> str:
        """Everything on the screen, and what scrolled off; wherever its lines end."""
        return flat(" ".join(self.terminal.screen.all))

    async def answers(self, prompt: str, text: str = "") -> None:
        """Wait until `prompt` is there once more, then type."""
        prompt = flat(prompt)
        self._asked[prompt] += 1
        await self.terminal.shows(lambda _: self.seen.count(prompt) >= self._asked[prompt])
        self.terminal.type(text + ENTER)

    async def sees(self, text: str) -> None:
        await self.terminal.shows(lambda _: flat(text) in self.seen)


def flat(text: str) -> str:
    """A text wherever its lines end."""
    return " ".join(text.split())


def only(bot: str, app: str) -> Any:
    """Slack takes only these tokens."""

    async def fault(request: web.Request, _: dict[str, Any]) -> web.StreamResponse | None:
        wanted = app if request.path.endswith("apps.connections.open") else bot
        if request.headers.get("Authorization") == f"Bearer {wanted}":
            return None
        return web.json_response({"ok": False, "error": "invalid_auth"})

    return fault


def slack_config(slack: SlackServer) -> dict[str, Any]:
    """A section as somebody begins it who copies the example."""
    section = {"bot_token": "xoxb-...", "app_token": "xapp-...", "api_base_url": slack.api_url}
    return {"transports": {"slack": section}}


async def rest(person: Person) -> None:
    """Git's identity as it is, no model key, and write it."""
    await person.answers("git.user_name")
    await person.answers("git.user_email")
    await person.answers("key (unseen)")
    await person.answers("Write it to")


async def test_a_walk_with_slack_wrong_token_first_and_the_gateway_that_starts_from_it(tmp_path: Path) -> None:
    async with SlackServer() as slack:
        slack.faults |= dict.fromkeys(("auth.test", "apps.connections.open"), only(RIGHT_BOT, RIGHT_APP))
        with Huskies(tmp_path, slack_config(slack)) as huskies:
            comment = "# Ask Ben before you change anything.\n"
            huskies.config.write_text(comment + huskies.config.read_text())
            with at_terminal(huskies, "init") as terminal:
                person = Person(terminal)
                await person.answers("Platforms [slack]")
                await person.answers("socket or http (socket/http) [socket]")
                await person.answers("Print it, write it to", "no")
                await person.answers("bot_token (unseen) [••••]", "xoxp-canary-persons-own")
                await person.sees("transports.slack: bot_token must begin with xoxb-")
                await person.answers("bot_token (unseen) [••••]", "xoxb-canary-wrong-0003")
                await person.answers("app_token (unseen) [••••]", RIGHT_APP)
                await person.sees("BROKEN slack.bot_token: Slack refuses bot_token (invalid_auth)")
                await person.sees("ok     slack.app_token: Socket Mode is on")
                await person.answers("Enter asks again")
                await person.answers("socket or http (socket/http) [socket]")
                await person.answers("bot_token (unseen) [••••0003]", RIGHT_BOT)
                await person.answers("app_token (unseen) [••••0002]")
                await person.sees("ok     slack.bot_token: @huskies in the workspace Huskies")
                await person.answers("Operators:", "ana")
                await person.sees("ana is not one; they look like U012ABCDEF")
                await person.answers("Operators:", "U0ANA")
                await rest(person)
                await person.sees("Now type: huskies run")
                assert await terminal.ends() == 0
                assert "Now type: huskies run" in terminal.screen.all, "a line that can be copied"
                assert "(was ••••)" in person.seen, "it says what it replaces"
                assert "write to huskies directly: help" in person.seen
                assert "canary" not in person.seen, "no secret is on the screen"
            assert huskies.config.stat().st_mode & 0o777 == 0o600
            assert huskies.config.read_text().startswith(comment)
            settings = load(huskies.config)
            assert settings.access.operators == ["slack:U0ANA"]
            assert settings.transports.slack is not None
            assert settings.transports.slack.bot_token.get_secret_value() == RIGHT_BOT
            await huskies.start()
            async with asyncio.timeout(20 * patience()):
                while not any(part["name"] == "slack" and part["ok"] for part in await huskies.get("/doctor")):
                    await asyncio.sleep(0.05)


async def test_ctrl_c_writes_nothing_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    async with SlackServer() as slack:
        with Huskies(tmp_path, slack_config(slack)) as huskies:
            before = huskies.config.read_bytes()
            with at_terminal(huskies, "init") as terminal:
                modes = terminal.modes()
                person = Person(terminal)
                await person.answers("Platforms")
                await person.answers("socket or http")
                await person.answers("Print it, write it to", "no")
                await person.answers("bot_token (unseen)", RIGHT_BOT)
                await person.sees("app_token (unseen)")
                await terminal.waits()
                terminal.type(CTRL_C)
                assert await terminal.ends() == 130
                assert "Nothing was written." in person.seen
                assert terminal.modes() == modes
            assert huskies.config.read_bytes() == before
            assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml"]


async def test_a_platform_that_is_skipped_stays_as_it_was(tmp_path: Path) -> None:
    async with SlackServer() as slack:
        with Huskies(tmp_path, slack_config(slack)) as huskies:
            before = tomllib.loads(huskies.config.read_text())
            with at_terminal(huskies, "init") as terminal:
                person = Person(terminal)
                await person.answers("Platforms")
                await person.answers("socket or http")
                await person.answers("Print it, write it to", "file")
                await person.sees("It is in ")
                await person.answers("bot_token (unseen)", "skip")
                await person.sees("Slack is left as it was.")
                await person.answers("git.user_name [Test, - for none]", "Ana")
                await person.answers("git.user_email")
                await person.answers("key (unseen)")
                await person.sees('git.user_name = "Ana"   (was "Test")')
                await person.answers("Write it to")
                assert await terminal.ends() == 0
            assert tomllib.loads(huskies.config.read_text()) == {**before, "git": {**before["git"], "user_name": "Ana"}}
            assert json.loads((tmp_path / "slack-manifest.json").read_text()) == MANIFEST


async def test_a_new_file_for_the_console_alone_with_a_model_key(tmp_path: Path) -> None:
    key = "sk-ant-api-canary-0001"
    async with ClaudeApi(require_key=key) as api:
        with Huskies(tmp_path, {"agent": {"api_base_url": api.base_url}}) as huskies:
            assert (await huskies("secrets", "set", "all", "api_key", stdin=b"sk-ant-api-canary-kept")).code == 0
            with at_terminal(huskies, "init") as terminal:
                person = Person(terminal)
                await person.answers("Platforms [none]")
                await person.answers("git.user_name")
                await person.answers("git.user_email")
                await person.sees("`huskies secrets` already keeps one (api_key); it is used before this one")
                await person.answers("key (unseen)", "no key")
                await person.sees("that is not a key")
                await person.answers("key (unseen)", "sk-ant-api-canary-wrong")
                await person.sees("BROKEN agent.api_key")
                await person.answers("Enter asks again")
                await person.answers("key (unseen) [••••", key)
                await person.sees("ok     agent.api_key")
                await person.answers("Write it to")
                assert await terminal.ends() == 0
                assert "canary" not in person.seen
            assert load(huskies.config).agent.api_key.get_secret_value() == key


async def test_a_file_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    with Huskies(tmp_path) as huskies:
        huskies.config.unlink()
        with at_terminal(huskies, "init", "--config", "mine.toml") as terminal:
            person = Person(terminal)
            await person.answers("Platforms [none]")
            await person.answers("git.user_name", "Ana")
            await person.answers("git.user_email", "ana@example.org")
            await person.answers("key (unseen)")
            await person.answers("Write it to", "n")
            await person.sees("Nothing was written.")
            assert await terminal.ends() == 1
        assert not (tmp_path / "mine.toml").exists()
        with at_terminal(huskies, "init", "--config", "mine.toml") as terminal:
            person = Person(terminal)
            await person.answers("Platforms [none]")
            await person.answers("git.user_name", "Ana")
            await person.answers("git.user_email", "ana@example.org")
            await person.answers("key (unseen)")
            await person.answers("Write it to")
            await person.sees("Now type: huskies run --config mine.toml")
            assert await terminal.ends() == 0
        assert load(tmp_path / "mine.toml").git.user_email == "ana@example.org"
        assert (tmp_path / "mine.toml").stat().st_mode & 0o777 == 0o600


async def test_beside_an_agents_file_it_writes_the_one_in_the_home(tmp_path: Path) -> None:
    """Nobody has named a file, and the folder has one that an agent may have written."""
    evil: dict[str, dict[str, Any]] = {
        "access": {"operators": ["slack:UEVIL"]},
        "transports": {"slack": {"bot_token": "xoxb-canary-evil-0009"}},
    }
    with Huskies(tmp_path, evil) as huskies:
        home, before = tmp_path / "home", huskies.config.read_bytes()
        home.mkdir()
        with at_terminal(huskies, "init", HUSKIES_CONFIG="", HOME=str(home)) as terminal:
            person = Person(terminal)
            await person.answers("Platforms [none]")
            await person.answers("git.user_name", "Ana")
            await person.answers("git.user_email", "ana@example.org")
            await person.answers("key (unseen)")
            await person.answers(f"Write it to {home}/.huskies/config.toml")
            await person.sees("Now type: huskies run If something does not work")
            assert await terminal.ends() == 0
            assert "huskies: ./config.toml is ignored" in person.seen
            assert "type: huskies --config config.toml init" in person.seen
            assert "UEVIL" not in person.seen and "evil-0009" not in person.seen, "nothing of it is a default"
        assert huskies.config.read_bytes() == before
        written = tomllib.loads((home / ".huskies" / "config.toml").read_text())
        assert written == {"git": {"user_name": "Ana", "user_email": "ana@example.org"}}
        assert (home / ".huskies" / "config.toml").stat().st_mode & 0o777 == 0o600


async def test_a_walk_with_whatsapp_proves_the_public_address(tmp_path: Path, unused_port: int) -> None:
    listen, ours = f"127.0.0.1:{unused_port}", "+4915112345678"
    async with TwilioServer() as twilio:
        twilio.senders = [sender(ours, "https://else.example.org/")]
        section = {"account_sid": "AC" + "1" * 32, "auth_token": "...", "from_number": "+10000000000"}
        config: dict[str, dict[str, Any]] = {
            "gateway": {"state_dir": str(tmp_path / "state"), "listen": listen, "public_url": "https://x.invalid"},
            "transports": {"whatsapp": {**section, "api_base_url": twilio.url}},
        }
        with Huskies(tmp_path, config) as huskies, at_terminal(huskies, "init") as terminal:
            person = Person(terminal)
            await person.answers("Platforms [whatsapp]")
            await person.answers("public_url, e.g.", "ftp://bot.example.org")
            await person.sees("gateway.public_url: must be an https:// address")
            await person.answers("public_url, e.g.", f"http://{listen}")
            await person.sees("ok     public_url")
            await person.answers("account_sid [", ACCOUNT)
            await person.answers("auth_token (unseen)", TOKEN)
            await person.answers("from_number [", ours)
            await person.answers("template_sid:")
            await person.sees("BROKEN whatsapp.sender: the sender posts elsewhere")
            twilio.senders = [sender(ours, f"http://{listen}/webhooks/whatsapp#rc=5&rp=all")]
            await person.answers("Enter asks again")
            for prompt in ("account_sid [", "auth_token (unseen)", "from_number [", "template_sid:"):
                await person.answers(prompt)
            await person.sees("ok     whatsapp.sender")
            await person.answers("Operators:", "+49 (170) 0000000")
            await rest(person)
            assert await terminal.ends() == 0
            settings = load(huskies.config)
            assert settings.access.operators == ["whatsapp:+491700000000"]
            assert settings.gateway.public_url == f"http://{listen}"


async def test_a_walk_with_matrix(tmp_path: Path, synapse: Synapse) -> None:
    bot, other = synapse.register("bot"), synapse.register("other")
    section = {"homeserver": synapse.url, "user_id": bot.user_id}
    with Huskies(tmp_path, {"transports": {"matrix": section}}) as huskies, at_terminal(huskies, "init") as terminal:
        person = Person(terminal)
        await person.answers("Platforms [matrix]")
        await person.answers("homeserver, e.g.")
        await person.answers("user_id, e.g.")
        await person.answers("password (unseen)", "canary-wrong-password")
        await person.sees("BROKEN matrix.account: could not log in")
        await person.answers("Enter asks again")
        await person.answers("homeserver, e.g.")
        await person.answers("user_id, e.g.")
        await person.answers("password (unseen)", "-")
        await person.answers("access_token (unseen)", other.access_token)
        await person.sees("correct transports.matrix.user_id or .access_token")
        await person.answers("Enter asks again")
        await person.answers("homeserver, e.g.")
        await person.answers("user_id, e.g.")
        await person.answers("password (unseen)", bot.password)
        await person.sees("ok     matrix.account")
        await person.answers("Operators:", "@ana:hs.test")
        await rest(person)
        assert await terminal.ends() == 0
        assert "canary" not in person.seen
        assert bot.password not in person.seen
        assert other.access_token not in person.seen
        settings = load(huskies.config).transports.matrix
        assert settings is not None
        assert settings.password.get_secret_value() == bot.password
        assert not settings.access_token.get_secret_value(), "the answer that was taken back is gone"


@pytest.mark.parametrize(("answer", "meant"), [("no", False), ("yes", True)])
async def test_no_isolation_with_people_elsewhere_has_to_be_meant(tmp_path: Path, answer: str, meant: bool) -> None:
    async with SlackServer() as slack:
        config: dict[str, dict[str, Any]] = {
            "engine": {"kind": "process", "allow_unsandboxed": False},
            **slack_config(slack),
        }
        with Huskies(tmp_path, config) as huskies, at_terminal(huskies, "init") as terminal:
            person = Person(terminal)
            await person.answers("Platforms", "none")
            await person.answers("git.user_name", "Ana")
            await person.answers("git.user_email")
            await person.answers("key (unseen)")
            await person.answers("Should it start without isolation (yes/no) [no]", answer)
            await person.answers("Write it to")
            assert await terminal.ends() == 0
            assert ("Before that, start Docker" in person.seen) is not meant
            assert load(huskies.config).engine.allow_unsandboxed is meant


async def test_without_a_terminal_it_says_what_to_do_instead(tmp_path: Path) -> None:
    with Huskies(tmp_path) as huskies:
        before = huskies.config.read_bytes()
        assert "copy config.example.toml" in (await huskies("init")).complaint
        assert huskies.config.read_bytes() == before


@pytest.mark.parametrize(("file", "told"), [("nowhere/config.toml", "mkdir -p"), (".", "is not a file")])
async def test_where_it_cannot_write_it_asks_nothing(tmp_path: Path, file: str, told: str) -> None:
    with Huskies(tmp_path) as huskies, at_terminal(huskies, "init", "--config", file) as terminal:
        assert await terminal.ends() == 1
        seen = " ".join(terminal.screen.all)
        assert told in seen
        assert "Platforms" not in seen
