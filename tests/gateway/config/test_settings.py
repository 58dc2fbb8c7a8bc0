"""The example is the specification; a wrong key says which one was meant."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from gateway.config import log
from gateway.config.settings import Settings, host_environment, load, validated
from gateway.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"


def uncommented() -> str:
    """The example with its optional parts switched on."""
    text = EXAMPLE.read_text()
    return re.sub(r"^# (\[transports|\[agent\.mcp|[a-z_\"][^ ]* = |\"matrix)", r"\1", text, flags=re.MULTILINE)


def test_the_example_says_the_defaults() -> None:
    assert Settings(**tomllib.loads(EXAMPLE.read_text())) == Settings()


def test_the_example_names_every_key(tmp_path: Path) -> None:
    values = tomllib.loads(uncommented())
    Settings(**values)  # unknown keys are forbidden

    def compare(model: type[BaseModel], found: dict[str, Any], path: str) -> None:
        for name, field in model.model_fields.items():
            assert name in found, f"config.example.toml lacks {path}{name}"
            options = [field.annotation, *getattr(field.annotation, "__args__", ())]
            inner = [t for t in options if isinstance(t, type) and issubclass(t, BaseModel)]
            if inner and name == "mcp":  # its entries are of two kinds, and together have every key
                compare(inner[0], {key: each[key] for each in found[name].values() for key in each}, f"{path}{name}.")
            elif inner and name != "people":
                compare(inner[0], found[name], f"{path}{name}.")

    compare(Settings, values, "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gateway]\nlissten = '1:1'", "unknown key gateway.lissten; did you mean listen?"),
        ("[gatway]\nlisten = '1:1'", "unknown key gatway; did you mean gateway?"),
        ("[transports.slack]\nx = 1", "unknown key transports.slack"),
        ("[dispatcher]\nmax_runs = 'many'", "dispatcher.max_runs"),
        ("[dispatcher]\nmode = 'queue'", "'collect', 'steer' or 'interrupt'"),
        ("[access]\noperators = ['ana']", "must be transport:account"),
        ("[transports.matrix]\nuser_id = '@b:x'", "transports.matrix.homeserver is missing"),
        ("[transports.slack]\nmode = 'http'", "transports.slack.bot_token is missing"),
        ("[gateway", "cannot be read"),
        ("[agent]\napi_key = 'sk-1234'", "chmod 600"),
        ("[git.tokens]\n'git.example.org' = 'tok-1234'", "chmod 600"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    file.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bot_token = 'xoxp-canary'\napp_token = 'xapp-canary'", "transports.slack: bot_token must begin with xoxb-"),
        ("bot_token = 'xoxb-canary'", "transports.slack: app_token must begin with xapp-"),
        ("bot_token = 'xoxb-canary'\nmode = 'http'", "transports.slack: signing_secret is missing"),
    ],
)
def test_what_slack_needs_depends_on_its_mode(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[transports.slack]\n{text}\n")
    with pytest.raises(ConfigError, match="chmod 600"):
        load(file)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert told in str(caught.value)
    assert "canary" not in str(caught.value)


def test_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"[gateway]\nbot_name = '\xff'")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(file)


def test_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[dispatcher]\nmax_runs = 3\nqueue_limit = 7")
    monkeypatch.setenv("HUSKIES_DISPATCHER__MAX_RUNS", "5")
    monkeypatch.setenv("HUSKIES_AGENT__API_KEY", "sk-canary")
    settings = load(file)
    assert (settings.dispatcher.max_runs, settings.dispatcher.queue_limit) == (5, 7)
    assert settings.agent.api_key.get_secret_value() == "sk-canary"
    assert "sk-canary" not in repr(settings)


@pytest.mark.parametrize(
    "tokens",
    [
        {"tok-canary": "git.example.org:x"} | {"TOK-canary": "git.example.org"},
        {"https://git.example.org": "tok-canary"},
        {"Git.Example.org": "tok-canary"},
        {"git.example.org/": "tok-canary"},
        {"git.example.org": ["tok-canary"]},
        "tok-canary",
    ],
)
def test_git_tokens_belong_to_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: object) -> None:
    monkeypatch.setenv("HUSKIES_GIT__TOKENS", json.dumps(tokens) if isinstance(tokens, dict) else str(tokens))
    with pytest.raises(ConfigError, match="git") as caught:
        load(None)
    assert "canary" not in str(caught.value)


def test_git_tokens_are_read_and_kept_secret(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[git]\ntokens = {"git.example.org" = "tok-canary", "localhost:8443" = "ana:tok-2"}')
    file.chmod(0o600)
    settings = load(file)
    assert "tok-" not in repr(settings)
    assert settings.git.tokens["localhost:8443"].get_secret_value() == "ana:tok-2"
    assert log.secrets_of(settings) == ["tok-canary", "ana:tok-2"]


def test_an_unknown_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSKIES_AGENT__APIKEY", "x")
    with pytest.raises(ConfigError, match=r"agent\.apikey; did you mean api_key\?"):
        load(None)


def test_no_secret_reaches_a_sleds_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    monkeypatch.setenv("HUSKIES_AGENT__API_KEY", "sk-canary")
    assert "sk-canary" not in str(host_environment())


def test_secrets_are_blotted_out_of_logs_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    settings = Settings(agent={"api_key": SecretStr("sk-canary-1")}, gateway={"log_format": "json"})
    assert log.secrets_of(settings) == ["sk-canary-1"]
    log.configure(settings)
    try:
        raise ValueError("bad header sk-canary-1")
    except ValueError:
        logging.getLogger("x").exception("with %s", "sk-canary-1")
    logging.getLogger().handlers.clear()
    printed = capsys.readouterr().err
    assert "sk-canary-1" not in printed
    assert printed.count("[secret]") >= 2


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("whatsapp:491700000000", "a phone number with + and its country code"),
        ("slack:@ana", "a member ID, not a name"),
        ("slack:ana", "Copy member ID"),
        ("matrix:ana", "a Matrix id, with its server"),
        ("matrix:@ana", "a Matrix id, with its server"),
        ("ana", "transport:account"),
        ("Slack:U012", "a member ID"),
        ("slack: U012", "a member ID"),
    ],
)
@pytest.mark.parametrize("where", ["operators", "members", "people"])
def test_an_entry_that_could_never_match_says_how_it_should_read(entry: str, told: str, where: str) -> None:
    values: dict[str, Any] = {"people": {entry: {"name": "Ana"}}} if where == "people" else {"access": {where: [entry]}}
    with pytest.raises(ConfigError, match=f"{re.escape(entry)}” matches nobody: it must be.*{re.escape(told)}"):
        validated(values, "config.toml")
