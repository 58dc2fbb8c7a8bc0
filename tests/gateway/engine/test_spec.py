"""What a sled and its agents are given, as data: on any engine, nothing else reaches them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.engine.process import environment
from gateway.engine.spec import ProjectPaths, SledSpec
from sled.__main__ import Config, runner_environment

PATHS = ProjectPaths.of(Path("/state"), "demo")


def given(*, oauth: bool = False) -> dict[str, str]:
    """What a sled on the process engine gets."""
    spec = SledSpec("demo", PATHS, Path("/src/demo"), "wire-token", oauth)
    return environment(spec, {"PATH": "/bin", "LANG": "C.UTF-8"})


def test_the_sleds_environment() -> None:
    assert given() == {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "HOME": "/state/demo/home",
        "HUSKIES_PROJECT": "demo",
        "HUSKIES_WIRE": "/state/demo/wire/gateway.sock",
        "HUSKIES_TOKEN": "wire-token",
        "HUSKIES_WORKSPACE": "/src/demo",
        "HUSKIES_MODEL_AUTH": "api_key",
    }
    assert given(oauth=True)["HUSKIES_MODEL_AUTH"] == "oauth"


@pytest.mark.parametrize(
    ("oauth", "token_name", "other"),
    [
        (False, "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        (True, "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"),
    ],
)
def test_the_agents_environment(monkeypatch: pytest.MonkeyPatch, oauth: bool, token_name: str, other: str) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in given(oauth=oauth).items():
        monkeypatch.setenv(name, value)
    environment = runner_environment(Config.from_environment(), "http://127.0.0.1:9")
    ours = [name for name in environment if name.startswith("HUSKIES_")]
    assert ours == ["HUSKIES_DOOR"], "the sled's settings stay with it"
    assert environment["HUSKIES_DOOR"] == "/state/demo/home/.huskies/door"
    assert environment["PATH"].startswith("/state/demo/home/.huskies/bin:")
    assert environment["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9", "the relay, never the model's own host"
    assert environment[token_name] == "wire-token", "the wire's token, never a model key"
    assert other not in environment
    assert environment["HOME"] == "/state/demo/home"
    assert environment["CLAUDE_CONFIG_DIR"] == "/state/demo/home/.claude"
    for private in ("TMPDIR", "CLAUDE_CODE_TMPDIR"):
        assert environment[private].startswith("/state/demo/home/")
    for switch in ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER"):
        assert environment[switch] == "1"


def test_a_projects_places_are_below_its_own_folder() -> None:
    for place in (
        PATHS.home,
        PATHS.wire,
        PATHS.socket,
        PATHS.sled_log,
        PATHS.agent_log,
        PATHS.build_log,
        PATHS.client_key,
        PATHS.host_key,
    ):
        assert PATHS.folder in place.parents
