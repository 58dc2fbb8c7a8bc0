"""The file that `huskies init` writes: what it said before stays, with its comments."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gateway.cli.init.draft import Draft
from gateway.config.settings import load
from gateway.errors import ConfigError

BEFORE = """\
# Ours. Ask Ben before you change anything.
[gateway]
bot_name = "rex"   # the dog's

[transports.console]
enabled = true

[access]
operators = [
    "matrix:@ana:example.org",  # Ana
]

[transports.matrix]            # since May
homeserver = "https://matrix.example.org"
user_id = "@rex:example.org"
access_token = "canary-of-the-old-token"   # hers
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(BEFORE)
    path.chmod(0o600)
    return path


def test_comments_and_everything_else_stay(file: Path) -> None:
    draft = Draft(file)
    draft.set("transports.matrix.access_token", "canary-of-the-new-token")
    draft.set("transports.slack.bot_token", "xoxb-1")
    draft.set("transports.slack.app_token", "xapp-1")
    draft.set("access.operators", ["matrix:@ana:example.org", "slack:U012"])
    draft.set("git.user_name", 'Ana "the" Huskie')
    draft.write()
    text = file.read_text()
    for kept in ("# Ours. Ask Ben", "# the dog's", "# Ana", "# since May", "# hers"):
        assert kept in text
    wanted = tomllib.loads(BEFORE)
    wanted["transports"]["matrix"]["access_token"] = "canary-of-the-new-token"
    wanted["transports"]["slack"] = {"bot_token": "xoxb-1", "app_token": "xapp-1"}
    wanted["access"]["operators"].append("slack:U012")
    wanted["git"] = {"user_name": 'Ana "the" Huskie'}
    assert tomllib.loads(text) == wanted
    assert load(file).remote_transports == ["matrix", "slack"]


def test_what_is_replaced_is_said_and_secrets_are_masked(file: Path) -> None:
    draft = Draft(file)
    draft.set("gateway.bot_name", "max")
    draft.set("transports.matrix.access_token", "canary-of-the-new-tokEN")
    draft.set("agent.api_key", "short")
    told = "\n".join(draft.changes())
    assert 'gateway.bot_name = "max"   (was "rex")' in told
    assert "transports.matrix.access_token = ••••okEN   (was ••••oken)" in told
    assert "agent.api_key = ••••" in told
    assert "canary" not in told
    assert "short" not in told


def test_the_same_value_is_no_change(file: Path) -> None:
    draft = Draft(file)
    draft.set("gateway.bot_name", "rex")
    assert draft.changes() == []


@pytest.mark.parametrize(
    "before",
    [
        "",
        "transports = {console = {enabled = false}}",
        "transports.console.enabled = false",
        "[transports.console]\nenabled = false\n[gateway]\n[transports.matrix]\nhomeserver = 'h'\nuser_id = 'u'",
    ],
)
def test_whatever_way_a_file_writes_its_sections(tmp_path: Path, before: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(before)
    path.chmod(0o600)
    draft = Draft(path)
    draft.set("transports.slack.bot_token", "xoxb-1")
    draft.set("transports.slack.app_token", "xapp-1")
    draft.write()
    settings = load(path)
    assert settings.transports.slack is not None
    assert settings.transports.slack.bot_token.get_secret_value() == "xoxb-1"
    assert settings.transports.console.enabled is (before == "")


def test_it_is_private_also_where_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[gateway]\n")
    path.chmod(0o644)
    draft = Draft(path)
    draft.set("agent.api_key", "sk-ant-api-1")
    draft.write()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [other.name for other in tmp_path.iterdir()] == ["config.toml"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.touch(0o600)
    link = tmp_path / "config.toml"
    link.symlink_to(real)
    draft = Draft(link)
    draft.set("gateway.bot_name", "max")
    draft.write()
    assert link.is_symlink()
    assert "max" in real.read_text()


def test_a_file_that_cannot_be_used_or_written_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "config.toml"
    wrong.write_text("[gatway]\n")
    with pytest.raises(ConfigError, match="did you mean gateway"):
        Draft(wrong)
    with pytest.raises(ConfigError, match="mkdir -p"):
        Draft(tmp_path / "nowhere" / "config.toml")
    with pytest.raises(ConfigError, match="is not a file"):
        Draft(tmp_path)


def test_what_would_not_load_is_not_written(file: Path) -> None:
    draft = Draft(file)
    draft.set("transports.slack.bot_token", "xoxp-1")
    with pytest.raises(ConfigError, match="bot_token must begin with xoxb-"):
        draft.write()
    assert file.read_text() == BEFORE
