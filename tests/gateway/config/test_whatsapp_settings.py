"""What the configuration says of WhatsApp."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.app.startup import check
from gateway.config.settings import load
from gateway.errors import ConfigError

SID = "AC" + "0" * 32


def written(tmp_path: Path, section: str, url: str = "https://bot.example.org/") -> Path:
    file = tmp_path / "config.toml"
    file.write_text(f'[gateway]\nstate_dir = "{tmp_path}/s"\npublic_url = "{url}"\n[transports.whatsapp]\n{section}\n')
    file.chmod(0o600)
    return file


GOOD = f'account_sid = "{SID}"\nauth_token = "canary"\nfrom_number = "whatsapp:+1 (415) 523-8886"'


def test_a_section_that_works(tmp_path: Path) -> None:
    settings = load(written(tmp_path, GOOD))
    check(settings)
    assert settings.remote_transports == ["whatsapp"]
    assert settings.gateway.public_url == "https://bot.example.org"
    assert settings.transports.whatsapp is not None
    assert settings.transports.whatsapp.from_number == "+14155238886"
    assert "canary" not in repr(settings)
    assert load(written(tmp_path, f"{GOOD}\nenabled = false")).remote_transports == []


def test_others_may_not_read_the_token(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(file)


def test_twilio_must_be_able_to_reach_us(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs gateway\.public_url"):
        check(load(written(tmp_path, GOOD, url="")))


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (GOOD.replace(SID, "AC1"), "account_sid: must be the Account SID"),
        (GOOD.replace("canary", ""), "auth_token"),
        (GOOD.replace("+1 ", "0"), "from_number: must be a phone number with its country"),
        (f'{GOOD}\ntemplate_sid = "HX1"', "template_sid: must be the Content SID"),
        (f'{GOOD}\nquick_replies = {{ "allow, deny" = "x" }}', "must be the Content SID"),
        (f'{GOOD}\napi_base_url = "http://api.example.org"', "must be an https:// address"),
        (f'{GOOD}\ntemplate = "HX1"', "did you mean template_sid"),
        ("", "account_sid is missing"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, section: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load(written(tmp_path, section))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://bot.example.org",
        "bot.example.org",
        "https://",
        "https://x/?a=b",
        "https://u@x",
        "https://x:port",
        "https://x:99999",
        "https://bücher.example",
    ],
)
def test_addresses_that_twilio_cannot_use(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.public_url: must be an https"):
        load(written(tmp_path, GOOD, url=url))
    assert load(written(tmp_path, GOOD, url="http://127.0.0.1:8700")).gateway.public_url == "http://127.0.0.1:8700"
