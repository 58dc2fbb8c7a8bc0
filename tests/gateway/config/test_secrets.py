"""`huskies secrets`: what is stored, who can read it, and which key pays for what."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from gateway.config.credentials import Credential, Credentials
from gateway.config.log import Redactor, blot_out
from gateway.config.secrets import ALL, Secrets, secrets_file
from gateway.config.sections import AgentSection
from gateway.errors import StateError, UserError
from gateway.events import Events
from gateway.web import secrets_api
from tests.support.proxy import served

CANARY = "sk-ant-canary-0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secrets.json"


def test_what_is_set_is_there_for_the_next_gateway_and_for_nobody_else(file: Path) -> None:
    changes: list[dict[str, list[str]]] = []
    secrets = Secrets(file, Events(lambda _: changes.append(secrets.names())))
    os.umask(0)  # must not matter
    try:
        secrets.set("demo", "api_key", CANARY)
        secrets.set("-", "oauth_token", "token-for-all")
    finally:
        os.umask(0o022)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name], "no copy is left"
    again = Secrets(file)
    assert again.get("demo", "api_key") == CANARY
    assert again.names() == {"all": ["oauth_token"], "demo": ["api_key"]}
    assert sorted(again.values()) == [CANARY, "token-for-all"]
    again.delete("demo", "api_key")
    assert Secrets(file).names() == {"all": ["oauth_token"]}
    assert changes == [{"demo": ["api_key"]}, {"all": ["oauth_token"], "demo": ["api_key"]}]


def test_a_scope_has_one_key(file: Path) -> None:
    secrets = Secrets(file)
    secrets.set("demo", "api_key", CANARY)
    secrets.set("demo", "oauth_token", "another")
    assert secrets.names() == {"demo": ["oauth_token"]}
    assert CANARY not in file.read_text()


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a\nb", "a\n", "\ta", "a\0b", "käy", "x" * 8193, "sk-ant-oat01-x", "\u202esk"]
)
def test_what_cannot_be_a_key_is_refused_unseen(file: Path, value: str) -> None:
    secrets = Secrets(file)
    with pytest.raises(UserError) as refused:
        secrets.set("all", "api_key", value)
    assert not value.strip() or value not in str(refused.value)
    assert not file.exists()


@pytest.mark.parametrize("scope", ["", "../x", "A", "a/b", "x\n", "a" * 41, "käse"])
def test_what_cannot_be_a_project_is_refused(file: Path, scope: str) -> None:
    with pytest.raises(UserError, match="huskies projects"):
        Secrets(file).set(scope, "api_key", CANARY)
    with pytest.raises(UserError, match="api_key and oauth_token"):
        Secrets(file).set("demo", "password", CANARY)
    with pytest.raises(UserError, match="secrets list"):
        Secrets(file).delete("demo", "api_key")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"demo": 1}', '{"demo": {"password": "x"}}', "[" * 100_000])
def test_a_damaged_file_is_refused_unquoted(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
    with pytest.raises(StateError, match="damaged; delete it"):
        Secrets(file)


def test_a_file_that_others_can_read_or_that_is_a_link_is_refused(file: Path, tmp_path: Path) -> None:
    file.write_text("{}")
    file.chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        Secrets(file)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="cannot be read"):
        Secrets(file)


def test_a_full_disk_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets(file)
    secrets.set("all", "api_key", "before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="nothing was changed"):
        secrets.set("all", "api_key", "after")
    assert secrets.get("all", "api_key") == "before"
    assert json.loads(file.read_text()) == {"all": {"api_key": "before"}}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def agent(**values: Any) -> AgentSection:
    return AgentSection(**values)


@pytest.mark.parametrize(
    ("section", "stored", "found"),
    [
        (agent(), [], None),
        (agent(api_key="k", oauth_token="o"), [], Credential("all", "api_key", "k")),
        (agent(oauth_token="o"), [], Credential("all", "oauth_token", "o")),
        (agent(api_key="k"), [("all", "oauth_token", "a")], Credential("all", "oauth_token", "a")),
        (agent(), [("all", "api_key", "a"), ("demo", "oauth_token", "d")], Credential("demo", "oauth_token", "d")),
        (agent(api_key="k"), [("other", "api_key", "d")], Credential("all", "api_key", "k")),
    ],
)
def test_a_projects_own_key_wins_then_the_one_for_all_then_the_configuration(
    file: Path, section: AgentSection, stored: list[tuple[str, str, str]], found: Credential | None
) -> None:
    secrets = Secrets(file)
    for one in stored:
        secrets.set(*one)
    credentials = Credentials(section, secrets)
    assert credentials.of("demo") == found
    assert credentials.chosen("demo") == ("claude" if found else "scripted")
    assert credentials.oauth("demo") == (found is not None and found.kind == "oauth_token")
    assert (
        not found or found.value not in repr(found).replace("kind=", "").replace("scope=", "") or len(found.value) < 3
    )


def test_the_configured_agent_stays_and_a_stored_key_brings_claude_at_once(file: Path) -> None:
    secrets = Secrets(file)
    credentials, fixed = Credentials(agent(), secrets), Credentials(agent(kind="scripted"), secrets)
    assert credentials.chosen("demo") == "scripted"
    secrets.set("demo", "api_key", CANARY)
    assert (credentials.chosen("demo"), credentials.chosen("other")) == ("claude", "scripted")
    assert fixed.chosen("demo") == "scripted"


@pytest.mark.parametrize(
    ("kind", "betas", "sent"),
    [
        ("api_key", [], {"x-api-key": CANARY}),
        ("api_key", ["a, oauth-2025-04-20,b"], {"x-api-key": CANARY, "anthropic-beta": "a,b"}),
        ("oauth_token", ["a", "b"], {"authorization": f"Bearer {CANARY}", "anthropic-beta": "a,b,oauth-2025-04-20"}),
        ("oauth_token", [], {"authorization": f"Bearer {CANARY}", "anthropic-beta": "oauth-2025-04-20"}),
    ],
)
def test_a_request_is_signed_as_its_key_wants_it(kind: str, betas: list[str], sent: dict[str, str]) -> None:
    headers = CIMultiDict([("Anthropic-Beta", beta) for beta in betas])
    Credential("all", kind, CANARY).sign(headers)
    assert {name.lower(): value for name, value in headers.items()} == sent
    assert CANARY not in repr(Credential("all", kind, CANARY))


def test_a_stored_secret_is_blotted_out_of_the_log() -> None:
    handler = logging.NullHandler()
    redactor = Redactor([])
    handler.addFilter(redactor)
    logging.getLogger().addHandler(handler)
    try:
        blot_out([CANARY])
    finally:
        logging.getLogger().removeHandler(handler)
    record = logging.LogRecord("x", logging.INFO, "", 0, f"it is {CANARY}", None, None)
    assert redactor.filter(record)
    assert record.getMessage() == "it is [secret]"


async def test_the_socket_gives_names_and_takes_values(file: Path) -> None:
    secrets = Secrets(file)
    told: list[tuple[str, str]] = []

    async def noted(scope: str, what: str) -> None:
        told.append((scope, what))

    async with (
        served(secrets_api.routes(secrets, lambda name: name == "demo", noted)) as base,
        aiohttp.ClientSession() as http,
    ):

        async def ask(method: str, path: str, **body: str) -> tuple[int, Any]:
            async with http.request(method, f"{base}{path}", json=body) as answer:
                assert CANARY not in await answer.text()
                return answer.status, await answer.json()

        assert await ask("PUT", "/secrets", scope="demo", key="api_key", value=CANARY) == (200, {})
        assert await ask("PUT", "/secrets", scope="-", key="api_key", value=CANARY) == (200, {})
        assert await ask("GET", "/secrets") == (200, {"all": ["api_key"], "demo": ["api_key"]})
        status, answer = await ask("PUT", "/secrets", scope="typo", key="api_key", value=CANARY)
        assert (status, answer["error"]) == (400, "there is no project typo; `huskies projects` lists them")
        assert await ask("DELETE", "/secrets/all/api_key") == (200, {})
        assert (await ask("DELETE", "/secrets/all/api_key"))[0] == 400
    assert secrets.names() == {"demo": ["api_key"]}
    assert told == [("demo", "api_key was set"), ("all", "api_key was set"), ("all", "api_key was removed")]
    assert all(isinstance(route, web.RouteDef) for route in secrets_api.routes(secrets, bool, noted))


def test_what_is_purged_takes_its_secrets_with_it(tmp_path: Path) -> None:
    (tmp_path / ".gateway").mkdir()
    secrets = Secrets(secrets_file(tmp_path))
    secrets.set("demo", "api_key", "sk-demo-0123456789")
    secrets.set(ALL, "api_key", "sk-all-0123456789")
    secrets.forget("demo")
    secrets.forget("demo")
    assert Secrets(secrets_file(tmp_path)).names() == {ALL: ["api_key"]}
