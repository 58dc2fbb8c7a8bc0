"""Where the gateway's state is: a file of SQLite's in the state directory, or an address of PostgreSQL's."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from gateway.config import trust
from gateway.config.settings import Settings
from gateway.errors import ConfigError

_ADDRESS = re.compile(r"postgres(?:ql)?://\S+")
_EXAMPLE = "postgresql://huskies:password@db.example.org/huskies"


def where(settings: Settings) -> Path | str:
    """SQLite's file, or PostgreSQL's address. Raises ConfigError."""
    section = settings.gateway
    if section.database_file:
        return _address(_read(Path(section.database_file).expanduser()), f"what is in {section.database_file}")
    if address := section.database.get_secret_value():
        return _address(address, "gateway.database")
    return section.state_dir / ".gateway" / "huskies.db"


def passwords(address: Path | str) -> list[str]:
    """The password in it, as written there and as meant."""
    found = re.search(r"://[^:/@]*:([^/@]+)@", str(address))
    more = re.search(r"[?&]password=([^&]+)", str(address))
    written = [each[1] for each in (found, more) if each is not None]
    return list(dict.fromkeys([*written, *map(unquote, written)]))


def _address(text: str, name: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ConfigError(f"{name} must be an address like {_EXAMPLE}; leave it out for SQLite in the state directory")
    return text


def _read(file: Path) -> str:
    trust.check_file(file)
    try:
        if file.stat().st_mode & 0o077:
            raise ConfigError(f"{file} holds a secret that others can read; type: chmod 600 {file}")
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
