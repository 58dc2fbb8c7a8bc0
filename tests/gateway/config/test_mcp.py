"""`[agent.mcp.<name>]`: what is taken, what is wrong with the rest, and what of it an agent is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config import log
from gateway.config.mcp import servers_of
from gateway.config.settings import Settings, load, validated
from gateway.errors import ConfigError
from sled.protocol import McpServer

URL = "https://mcp.example.org/mcp"


def read(**servers: dict[str, Any]) -> Settings:
    return validated({"agent": {"mcp": {name.replace("_", "-"): values for name, values in servers.items()}}}, "it")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "agent.mcp.x: needs one of the two: command = ["),
        ({"command": ["a"], "url": URL}, "agent.mcp.x: needs only one of the two"),
        ({"command": "npx -y a"}, 'agent.mcp.x.command: must be a list of words, e.g. ["npx", "-y", "some-server"]'),
        ({"command": []}, "must begin with a program"),
        ({"command": ["", "a"]}, "must begin with a program"),
        ({"command": ["a"], "token": "t-canary"}, "token and headers are for a url"),
        ({"command": ["a"], "headers": {"X": "t-canary"}}, "token and headers are for a url"),
        ({"command": ["a"], "env": {"A-B": "1"}}, "must be a variable's name"),
        ({"command": ["a"], "env": {"API_KEY": "t-canary"}}, "API_KEY looks like a secret"),
        ({"command": ["a", "b" * 10_000]}, "more than 10000 characters; put them into a script"),
        ({"url": URL, "env": {"A": "1"}}, "env is for a command"),
        ({"url": "ftp://x/t-canary"}, "agent.mcp.x.url: must be an https:// or http:// address"),
        ({"url": "https://"}, "must be an https:// or http:// address"),
        ({"url": "https://x:0/t-canary"}, "must be an https:// or http:// address"),
        ({"url": "https://x:port/"}, "must be an https:// or http:// address"),
        ({"url": "https://x/a b"}, "must be an https:// or http:// address"),
        ({"url": "https://x/#t-canary"}, "must be an https:// or http:// address"),
        ({"url": "https://ana:t-canary@x/"}, 'must not hold a user or a password; write token = "..."'),
        ({"url": "https://t-canary@x/"}, "must not hold a user or a password"),
        ({"url": "https://x/?apiKey=t-canary"}, 'must not hold a secret; write token = "..."'),
        ({"url": URL, "token": "t-canary\n"}, "agent.mcp.x.token: has line breaks or odd characters in it"),
        ({"url": URL, "headers": {"X Y": "t-canary"}}, "each key must be a header"),
        ({"url": URL, "headers": {"Host": "t-canary"}}, "Host is not for you to set"),
        ({"url": URL, "headers": {"X-Api-Key": "t-canäry"}}, "agent.mcp.x.headers.X-Api-Key: has line breaks or odd"),
        ({"url": URL, "token": "t-canary", "headers": {"authorization": "t-canary"}}, "leave one of them out"),
        ({"url": URL, "projects": ["all"]}, "leave it out for all projects"),
        ({"url": URL, "projects": ["Shop"]}, 'must be names of projects, e.g. ["shop"]'),
        ({"ulr": URL}, "unknown key agent.mcp.x.ulr; did you mean url?"),
    ],
)
def test_what_is_wrong_says_what_to_write(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(x=values)
    assert told in str(caught.value)
    assert "canary" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Tracker", "a_b", "a" * 33, ""])
def test_a_name_is_short_and_plain(name: str) -> None:
    with pytest.raises(ConfigError, match="a server's name has a-z, 0-9 and -, 32 at most"):
        validated({"agent": {"mcp": {name: {"url": URL}}}}, "it")


def test_our_own_name_is_taken() -> None:
    with pytest.raises(ConfigError, match="huskies is the name of our own server; choose another one"):
        read(huskies={"url": URL})


def test_there_are_only_so_many() -> None:
    with pytest.raises(ConfigError, match="at most 20 items"):
        read(**{f"x{number}": {"url": URL} for number in range(21)})


def test_an_agent_is_told_of_its_own_and_nothing_that_is_the_gateways() -> None:
    settings = read(
        tracker={"url": f"{URL}?team=1", "token": "t-canary-1", "projects": ["shop"]},
        keyed={"url": "http://127.0.0.1:8000/", "headers": {"X-Api-Key": "t-canary-2"}},
        a_browser={"command": ["npx", "-y", "b"], "env": {"LEVEL": "warn"}},
    )
    servers = settings.agent.mcp
    browser = McpServer(name="a-browser", command=["npx", "-y", "b"], env={"LEVEL": "warn"})
    assert servers_of(servers, "other") == (browser, McpServer(name="keyed"))
    assert servers_of(servers, "shop") == (browser, McpServer(name="keyed"), McpServer(name="tracker"))
    assert servers_of(servers, "") == (), "a project that is gone"
    assert (servers["tracker"].host, servers["keyed"].host) == ("mcp.example.org", "127.0.0.1:8000")
    assert servers["tracker"].secret_headers() == {"Authorization": "Bearer t-canary-1"}
    assert servers["keyed"].secret_headers() == {"X-Api-Key": "t-canary-2"}
    assert sorted(log.secrets_of(settings)) == ["t-canary-1", "t-canary-2"], "which the log blots out"
    assert "canary" not in repr(settings)


@pytest.mark.parametrize("secret", ["token = 't-1'", "headers = { X-Api-Key = 't-1' }"])
def test_a_file_with_a_secret_is_for_nobody_else(tmp_path: Path, secret: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[agent.mcp.x]\nurl = '{URL}'\n{secret}\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(file)
    file.chmod(0o600)
    assert load(file).agent.mcp["x"].secret_headers()
    file.write_text(f"[agent.mcp.x]\nurl = '{URL}'\n")
    file.chmod(0o644)
    load(file)
