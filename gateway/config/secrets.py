"""Secrets that `huskies secrets` keeps: in one file of the gateway's own, which nobody else can read.

Each belongs to a scope: a project's name, or `all`. A file that others can read is refused, not repaired: what it
holds may be known to them by now.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from gateway.config import private_file
from gateway.errors import StateError, UserError
from gateway.events import Events, SecretsChanged

#: The scope of what holds for every project that has nothing of its own; `-` is the same.
ALL = "all"
#: The keys that exist. A scope has one of them: each says how the model's provider is to be paid.
KEYS = ("api_key", "oauth_token")
_MAX_VALUE = 8192
_SCOPE = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]", re.ASCII)


class Secrets:
    """The secrets in `file`. Before a call returns, a change is on disk, and listeners are told."""

    def __init__(self, file: Path, events: Events | None = None) -> None:
        self._file = file
        self._events = events or Events()
        self._values = _read(file)

    def get(self, scope: str, key: str) -> str:
        """A secret; empty where there is none."""
        return self._values.get(scope, {}).get(key, "")

    def names(self) -> dict[str, list[str]]:
        """The keys that are set, per scope: never a value."""
        return {scope: sorted(keys) for scope, keys in sorted(self._values.items())}

    def values(self) -> list[str]:
        """Every secret, for whoever has to blot them out."""
        return [value for keys in self._values.values() for value in keys.values()]

    def set(self, scope: str, key: str, value: str) -> None:
        """Keep a secret in place of the scope's others. Raises UserError, StateError."""
        check_value(key, value)
        self._save({**self._values, check_scope(scope): {check_key(key): value}})

    def delete(self, scope: str, key: str) -> None:
        """Forget a secret. Raises UserError when there is none, StateError."""
        scope = check_scope(scope)
        if not self.get(scope, check_key(key)):
            raise UserError(f"there is no {key} for {scope}; `huskies secrets list` shows what is set")
        kept = {name: value for name, value in self._values[scope].items() if name != key}
        others = {name: keys for name, keys in self._values.items() if name != scope}
        self._save({**others, **({scope: kept} if kept else {})})

    def forget(self, scope: str) -> None:
        """Forget whatever there is for a scope, which is gone. Raises StateError."""
        if scope in self._values:
            self._save({name: keys for name, keys in self._values.items() if name != scope})

    def _save(self, values: dict[str, dict[str, str]]) -> None:
        try:
            private_file.write(self._file, json.dumps(values, indent=1))
        except OSError as error:
            raise StateError(f"{self._file} cannot be written: {error.strerror}; nothing was changed") from error
        self._values = values
        self._events.tell(SecretsChanged())


def secrets_file(state_dir: Path) -> Path:
    """Where a state directory's secrets are kept."""
    return state_dir / ".gateway" / "secrets.json"


def check_scope(scope: str) -> str:
    """A scope by its one name. Raises UserError."""
    if scope in ("-", ALL):
        return ALL
    if _SCOPE.fullmatch(scope) is None:
        raise UserError("that is not a project's name; `huskies projects` lists them, and `all` means all of them")
    return scope


def check_key(key: str) -> str:
    """A key that exists. Raises UserError."""
    if key not in KEYS:
        raise UserError(f"there is no such key; the keys are {' and '.join(KEYS)}")
    return key


def check_value(key: str, value: str) -> None:
    """Refuse what cannot be a credential; its text is never repeated. Raises UserError."""
    if not value:
        raise UserError("nothing came on stdin; pipe the value in, or type it when asked")
    if len(value) > _MAX_VALUE or not value.isascii() or not value.isprintable() or " " in value:
        raise UserError("that is not a key: it has spaces, line breaks or odd characters in it; copy it again")
    for prefix, belongs in (("sk-ant-api", "api_key"), ("sk-ant-oat", "oauth_token")):
        if value.startswith(prefix) and key != belongs:
            raise UserError(f"a value that begins with {prefix} is an {belongs}; name that as the key")


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(f"{file} cannot be read: {error.strerror}; move it away, and set the secrets again") from error
    with os.fdopen(descriptor, encoding="utf-8") as opened:
        if os.fstat(descriptor).st_mode & 0o077:
            raise StateError(f"{file} holds secrets that others can read; type: chmod 600 {file}")
        try:
            values = json.load(opened)
            return {
                check_scope(scope): {check_key(key): str(value) for key, value in keys.items()}
                for scope, keys in values.items()
            }
        except (ValueError, AttributeError, RecursionError, UserError):
            # Without its cause: a decoder's message quotes what it read.
            raise StateError(f"{file} is damaged; delete it, and set the secrets again") from None
