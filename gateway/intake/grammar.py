"""Commands: plain words, read against a table; each command's usage line spells out what it takes, see `usage`.

A message is a command only if all of it is one. What is nearly one is pointed out, and the rest is for the agent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

from gateway.chat import wording
from gateway.errors import UserError
from gateway.intake.usage import Grammar, match, near, read_usage


class Typed(Protocol):
    """What can be typed, as its usage line says."""

    usage: str


C = TypeVar("C", bound=Typed)


#: Characters; anything longer is not a command, and is not read as one.
MAX_COMMAND = 1000
#: A message that begins like this is about a file.
_PATH = re.compile(r"(?:/|~/|\.{1,2}/)[^\s/]*[/.]|~/|\.{1,2}/|//")
#: What other programs call things after a slash, and what we say for it.
SLASHES = {"clear": "reset", "new": "reset", "cost": "usage", "resume": "sessions", "continue": "sessions"}
_HOST = "That is set on the gateway's host: `huskies secrets set all api_key`."
FOREIGN = {
    "exit": "The agent stays. `stop` ends what it does, `reset` begins a new dialogue.",
    "quit": "The agent stays. `stop` ends what it does, `reset` begins a new dialogue.",
    "login": _HOST,
    "logout": _HOST,
    "config": "Use `model`, `permissions` and `agent` for that.",
    "settings": "Use `model`, `permissions` and `agent` for that.",
    "allowed-tools": "Use `permissions` for that.",
    "yolo": "Use `permissions allow` for that.",
}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.IGNORECASE)
_VERBATIM = re.compile(r"prompt\s+(\S.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[C]):
    """A command and its arguments, by slot or flag name (`--git` is `git`)."""

    command: C
    arguments: Mapping[str, str]
    #: False: the message says it in other words, or with words around it.
    exact: bool = True


@dataclass(frozen=True, slots=True)
class NearMiss:
    """Not a command, but `text` would be one."""

    text: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Words for the agent, whatever they look like: what follows `prompt`."""

    text: str


class Parser(Generic[C]):
    """Reads messages against a table of commands."""

    def __init__(self, commands: Sequence[C], aliases: Mapping[str, str]) -> None:
        self._table = [(read_usage(command.usage), command) for command in commands]
        # Longest first: `new project` before a command called `new`.
        self._table.sort(key=lambda row: -len(row[0].words))
        #: The same rows by their first word: a message is compared with few of them.
        self._beginning: dict[str, list[tuple[Grammar, C]]] = {}
        for row in self._table:
            self._beginning.setdefault(row[0].words[0].lower(), []).append(row)
        self._first_words = self._beginning.keys()
        #: What a command in other words has in it: most messages have none of it, and need no closer look.
        self._mentions = re.compile("|".join(map(re.escape, {*self._first_words, *wording.STOPS})))
        self._aliases = aliases
        # People begin with the same few hundred words.
        self._could_begin = lru_cache(maxsize=2**13)(self._near_a_first_word)

    def parse(
        self, text: str, projects: Collection[str], agents: Collection[str] | None = (), *, most: int = MAX_COMMAND
    ) -> Parsed[C] | NearMiss | Verbatim | None:
        """A command if the whole message is one; a near miss if a corrected one would be; else None: a prompt.

        `agents`: the words that the project's agent knows after a slash; None where that is not known. `most`:
        characters of a command; what is longer is a prompt.

        Raises:
            UserError: it is certainly a command (a leading `/`, an unknown flag), but not a valid one.
        """
        if _PATH.match(text) or text.startswith(">"):  # about a file, or somebody else's words
            return None
        forced = text.startswith("/")
        text = text.removeprefix("/").strip()
        if verbatim := _VERBATIM.fullmatch(text):
            return Verbatim(verbatim[1])
        if forced and self._is_agents(text, agents or ()):
            return None
        text = _ours(text) if forced else text
        typed, text = text, self._plainly(text, projects)
        if len(text) > most or (not forced and not self._could_be_command(text)):
            if forced:
                raise UserError(f"A command has at most {most} characters. Type `help` to see them all.")
            return None
        problems: list[str] = []
        for grammar, command in self._beginning_like(text):
            arguments = match(grammar, text, projects, problems)
            if arguments is not None and self._is_command(arguments.get("command")):
                return Parsed(command, arguments, exact=text.lower() == typed.lower())
        if problems:
            raise UserError(problems[0])
        corrected = self._correct(text, projects)
        if corrected is not None:
            return NearMiss(corrected)
        if unknown := self._unknown_project(text):
            raise UserError(
                f"There is no project {unknown}. Type `projects` to see them all, or `prompt {text}` to send that to "
                "the agent."
            )
        if forced and (agents is not None or (text.split() or [""])[0].lower() in self._first_words):
            begun = text.lower().split()[:1]
            usages = [command.usage for grammar, command in self._table if begun == [grammar.words[0].lower()]]
            hint = f"Type `{usages[0]}`." if usages else "Type `help` to see them all."
            raise UserError(f"There is no command “{text[:60]}”. {hint}")
        return None

    def _is_agents(self, text: str, agents: Collection[str]) -> bool:
        """Whether the word after a slash is the agent's, and none that we have, or have something else for."""
        first = text.split(None, 1)[0] if text else ""
        return first in agents and first.lower() not in self._first_words | FOREIGN.keys() | SLASHES.keys()

    def _plainly(self, text: str, projects: Collection[str]) -> str:
        """A message as the command that it is without its marks and courtesy, if it is one; else as it is."""
        text = self._aliases.get(text.lower(), text)
        said = text.casefold()
        if not self._mentions.search(said) and not wording.STRETCHED.search(said):
            return text
        said = wording.plainly(text) if "\n" not in text else ""
        if said in wording.STOP:
            return "stop"
        return said if said and said != text.lower() and self._is_exact(said, projects) else text

    def _is_exact(self, said: str, projects: Collection[str]) -> bool:
        """Whether a message without its marks and courtesy is a command, all of whose words are fixed."""
        if not said or not self._could_be_command(said):
            return False
        found = (match(grammar, said, projects, []) for grammar, _ in self._beginning_like(said) if not grammar.rest)
        fixed = ("project", "number")
        return any(
            arguments is not None
            and all(name in fixed or (said.endswith(value) and "|" in name) for name, value in arguments.items())
            for arguments in found
        )

    def _beginning_like(self, text: str) -> list[tuple[Grammar, C]]:
        first = text.split(None, 1)[:1]
        return self._beginning.get(first[0].lower(), []) if first else []

    def _is_command(self, words: str | None) -> bool:
        """An argument that names a command names one that exists: "help me" is a prompt."""
        if words is None:
            return True
        wanted = words.lower().split()
        return any([word.lower() for word in grammar.words[: len(wanted)]] == wanted for grammar, _ in self._table)

    def _could_be_command(self, text: str) -> bool:
        """A look at the first word: most messages are prompts, and need no more than this."""
        first = text[:40].split(None, 1)[:1]
        return bool(first) and self._could_begin(first[0].lower())

    def _near_a_first_word(self, typed: str) -> bool:
        return typed in self._first_words or any(near(typed, word) for word in self._first_words)

    def _unknown_project(self, text: str) -> str:
        """What stands where a command must name a project, if it could be the name of one; else empty."""
        for grammar, _ in self._table:
            if [(slot.name, slot.required) for slot in grammar.slots] != [("project", True)]:
                continue
            *words, name = [token.lower() for token in text.split() if token not in grammar.flags] or [""]
            if words == [word.lower() for word in grammar.words] and _NAME.fullmatch(name):
                return name
        return ""

    def _correct(self, text: str, projects: Collection[str]) -> str | None:
        tokens = text.split()
        if not tokens or len(text) > 400 or "\n" in text:
            return None
        for grammar, _ in self._table:
            words = len(grammar.words)
            if len(tokens) < words:
                continue
            typed = (token.lower() for token in tokens)
            pairs = [(one, word.lower()) for one, word in zip(typed, grammar.words, strict=False)]
            if not all(one == word or (one not in wording.COMMON and near(one, word)) for one, word in pairs):
                continue
            # One or two words are a command that went wrong; more of them are prose, unless one of ours is among them.
            if len(tokens) > 2 and not any(one == word for one, word in pairs):
                continue
            fixed = [*grammar.words, *_correct_arguments(grammar, tokens[words:], projects)]
            candidate = " ".join(fixed)
            problems: list[str] = []
            if candidate != text and match(grammar, candidate, projects, problems) is not None:
                return candidate
        return None


def _ours(text: str) -> str:
    """What is ours for a word after a slash that other programs have. Raises UserError where that takes other words."""
    first = text.split(None, 1)[0].lower() if text else ""
    if (told := FOREIGN.get(first)) is not None:
        raise UserError(told)
    return SLASHES.get(text.lower(), text)


def _correct_arguments(grammar: Grammar, tokens: list[str], projects: Collection[str]) -> list[str]:
    known = [*grammar.flags, *(choice for slot in grammar.slots for choice in slot.choices)]
    if any(slot.name == "project" for slot in grammar.slots):
        known += projects
    return [next((k for k in known if token not in known and near(token, k)), token) for token in tokens]
