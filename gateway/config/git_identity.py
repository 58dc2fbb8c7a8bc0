"""Whose name commits bear: as an operator typed it, else the configured one, else that of the user of this host."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.config import private_file
from gateway.config.sections import GitSection
from gateway.errors import StateError, UserError

log = logging.getLogger(__name__)

EXAMPLE = "git identity Ana Lovelace <ana@example.org>"
_EMAIL = re.compile(r"[^\s<>,;:\"'()\\]{1,100}@[^\s<>,;:\"'()\\@]{1,100}")
_TYPED = "typed here"
#: What git cuts from both ends of a name.
_CRUD = " \t.,:;<>\"\\'"


@dataclass(frozen=True, slots=True)
class Identity:
    """Name and address, either empty where there is none; `where` they come from, for people."""

    name: str
    email: str
    where: str = ""

    def __bool__(self) -> bool:
        return bool(self.name and self.email)

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


def read(text: str) -> Identity:
    """The identity that a person typed, as git writes one. Raises UserError."""
    *words, address = text.split() or [""]
    name, email = " ".join(words).strip(_CRUD), address.strip("<>")
    if not name or not _EMAIL.fullmatch(email) or len(name) > 100 or not name.isprintable() or set("<>") & set(name):
        raise UserError(f"Type a name and an address, for example `{EXAMPLE}`.")
    return Identity(name, email)


class GitIdentity:
    """The one of a gateway. What is typed is kept in `file`, with the projects that were not told of it yet."""

    def __init__(self, section: GitSection, file: Path | None = None) -> None:
        self._section = section
        self._file = file
        self._typed, self._untold = _read(file) if file is not None else (None, set())

    async def find(self) -> Identity:
        """Name and address, each from the first place that has one."""
        if self._typed is not None:
            return self._typed
        section = self._section
        name, email = section.user_name, section.user_email
        where = "from the configuration" if name and email else "from this host's git"
        return Identity(name or await _global("user.name"), email or await _global("user.email"), where)

    def choose(self, identity: Identity | None, projects: Collection[int]) -> None:
        """Keep what was typed, which these projects are to be told; None: what was typed before counts no more.

        Raises StateError.
        """
        self._keep(None if identity is None else replace(identity, where=_TYPED), set(projects))

    def must_tell(self, project_id: int) -> bool:
        """Whether a project has yet to be told."""
        return project_id in self._untold

    def told(self, project_id: int) -> None:
        """A project was told. Raises StateError."""
        if project_id in self._untold:
            self._keep(self._typed, self._untold - {project_id})

    def _keep(self, typed: Identity | None, untold: set[int]) -> None:
        assert self._file is not None
        told = {"name": typed.name if typed else "", "email": typed.email if typed else "", "untold": sorted(untold)}
        try:
            private_file.write(self._file, json.dumps(told))
        except OSError as error:
            raise StateError(f"{self._file} cannot be written: {error.strerror}") from error
        self._typed, self._untold = typed, untold


def _read(file: Path) -> tuple[Identity | None, set[int]]:
    """What was typed, and who was not told of it."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        typed = Identity(str(told["name"]), str(told["email"]), _TYPED)
        return typed or None, {int(one) for one in told["untold"]}
    except FileNotFoundError:
        return None, set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read, so it counts for nothing: %s", file, error)
        return None, set()


async def _global(key: str) -> str:
    """One key of the user's own git configuration. `--global` reads no repository, so none can interfere."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", "config", "--global", "--get", key),
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return ""
    output, _ = await process.communicate()
    return output.decode(errors="replace").strip()
