"""The configuration file as it will be: what it says already, comments included, and what was answered."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from gateway.cli.init.asker import masked
from gateway.config import Settings, private_file
from gateway.config.settings import SECRET_KEYS, home_file, load, validated
from gateway.errors import ConfigError

_BEGIN = "# Written by `huskies init`. config.example.toml has every key.\n"


class Draft:
    """One file, in memory until `write`. Keys are dotted: `transports.slack.mode`."""

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one.

        Raises:
            ConfigError: it cannot be used as it is, or could not be written.
        """
        self.file = file
        self._target = _writable(file)
        self._is_new = not self._target.exists()
        if not self._is_new:
            load(file)
        try:
            text = "" if self._is_new else self._target.read_text(encoding="utf-8")
            self._document = tomlkit.parse(text or _BEGIN)
        except (OSError, TOMLKitError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
        self._before = self.values()

    def values(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return dict(self._document.unwrap())

    def get(self, key: str) -> Any:
        """What a key says; None where it says nothing."""
        found: Any = self._document
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return None
            found = found[part]
        return found.unwrap() if hasattr(found, "unwrap") else found

    def text(self, key: str) -> str:
        """What a key says, as text; empty where it says nothing."""
        found = self.get(key)
        return "" if found is None else str(found)

    def set(self, key: str, value: object) -> None:
        """Lay a value over what the file says."""
        if self.get(key) == value:
            return
        *sections, name = key.split(".")
        table: Any = self._document
        for depth, section in enumerate(sections):
            if section not in table:
                is_super = depth < len(sections) - 1
                inline = isinstance(table, InlineTable)
                table[section] = tomlkit.inline_table() if inline else tomlkit.table(is_super_table=is_super)
            table = table[section]
        there = table.get(name)
        if isinstance(value, list) and isinstance(there, list) and value[: len(there)] == there:
            there.extend(value[len(there) :])  # so that comments between those that are there stay
        else:
            table[name] = value

    def settings(self, more: Mapping[str, object] | None = None) -> Settings:
        """The configuration with more values, by dotted keys, that are not kept. Raises ConfigError."""
        values = self.values()
        for key, value in (more or {}).items():
            *sections, name = key.split(".")
            table = values
            for section in sections:
                table = table.setdefault(section, {})
            table[name] = value
        return validated(values, str(self.file))

    def changes(self) -> list[str]:
        """A line for each value that is new, or no longer what it was. Secrets are masked."""
        before, after = dict(_flat(self._before)), dict(_flat(self.values()))
        return [
            f"  {key} = {_shown(key, value)}" + (f"   (was {_shown(key, before[key])})" if key in before else "")
            for key, value in after.items()
            if before.get(key) != value
        ]

    def write(self) -> None:
        """Replace the file, 0600. Raises ConfigError."""
        self.settings()
        try:
            if self.file == home_file():
                self._target.parent.mkdir(mode=0o700, exist_ok=True)
            private_file.write(self._target, tomlkit.dumps(self._document))
        except OSError as error:
            raise ConfigError(f"{self.file} cannot be written: {error.strerror}; nothing was changed") from error


def _writable(file: Path) -> Path:
    """Where the file really is, behind links. Raises ConfigError where it could not be replaced."""
    target = file.resolve()
    if target.exists() and not target.is_file():
        raise ConfigError(f"{file} is not a file; name another one with --config")
    if file == home_file() and target.parent.parent.is_dir():
        return target  # its folder is huskies' own, and is made with the file
    if not target.parent.is_dir():
        raise ConfigError(f"there is no folder {target.parent}; type: mkdir -p {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{target.parent} cannot be written; go to another folder, or name a file with --config")
    return target


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(key: str, value: object) -> str:
    if set(key.split(".")) & set(SECRET_KEYS) and value:
        return masked(str(value))
    return tomlkit.item(value).as_string()
