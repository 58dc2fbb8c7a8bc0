"""A devcontainer.json, read for what a project's container can use; the rest is named, never dropped silently.

https://containers.dev/implementors/json_reference/ says what each property means.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stacks.tree import Tree

_FOLDER = ".devcontainer"
_NAME = "devcontainer.json"
#: Folders that are looked into; their names are shown to people.
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,60}")
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
#: Variables that the sled, the SSH server, the agent or git depend on.
_RESERVED = re.compile(
    r"(LD_|HUSKIES_|ANTHROPIC_|CLAUDE_|GIT_|SSH_|OPENSSL_|BASH_FUNC_).*|PATH|HOME|USER|LOGNAME|SHELL|BASH_ENV|ENV|IFS|"
    r"TMPDIR|SHELLOPTS|BASHOPTS|POSIXLY_CORRECT|GCONV_PATH|GLIBC_TUNABLES|LOCPATH|TERM|PWD|OLDPWD|SHLVL|HOSTNAME|_"
)
_MOST = 40  # entries of a list, and variables
_LONGEST = 500  # characters of a value, and of a list
_NOTES = 15
#: A string, or what JSON does not have: comments, and commas before a closing bracket.
# One that is never closed must end somewhere too: otherwise each of its characters would be tried as a beginning.
_STRING = r'"(?:\\.|[^"\\\n])*(?:"|\\?(?=\n)|\\?\Z)'
_COMMENT = re.compile(rf"({_STRING})|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)")
_COMMA = re.compile(rf"({_STRING})|,(?=\s*[\]}}])")
#: Properties that mean nothing here and that people would not miss.
_SILENT = frozenset({"$schema", "name", "overrideCommand", "updateRemoteUserUID", "waitFor", "init"})
_COMMANDS = ("onCreateCommand", "updateContentCommand", "postCreateCommand")
_PRIVILEGE = frozenset({"privileged", "capAdd", "securityOpt", "runArgs", "mounts", "workspaceMount"})


@dataclass(slots=True)
class Devcontainer:
    """The parts that can be used, and in `notes` those that cannot, in sentences. `files`: where it was read."""

    files: tuple[str, ...] = ()
    image: str = ""
    dockerfile: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_devcontainer(tree: Tree) -> Devcontainer:
    """The devcontainer of a source; an empty one if there is none. What cannot be read becomes a note."""
    places = [path for path in (f"{_FOLDER}/{_NAME}", f".{_NAME}") if path.rpartition("/")[2] in _files_at(tree, path)]
    if not places:
        inner = sorted(name for name in tree.folders(_FOLDER) if _PLAIN.fullmatch(name))
        places = [f"{_FOLDER}/{folder}/{_NAME}" for folder in inner if _NAME in tree.files(f"{_FOLDER}/{folder}")]
        if len(places) > 1:
            told = f"there are several devcontainers ({_listed(places)}), so huskies uses none of them"
            return Devcontainer(notes=[f"{told}: keep one at {_FOLDER}/{_NAME}"])
    if not places:
        return Devcontainer()
    found = Devcontainer(files=(places[0],))
    try:
        text = tree.text(places[0])
        values = json.loads(_plain_json(text)) if text is not None else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        return Devcontainer(notes=[f"{places[0]} cannot be read as JSON with comments; it was not used"])
    _take(found, values, tree)
    return found


def _files_at(tree: Tree, path: str) -> Iterable[str]:
    return tree.files(path.rpartition("/")[0])


def _plain_json(text: str) -> str:
    def keep(match: re.Match[str]) -> str:
        return match[1] or ""

    return _COMMA.sub(keep, _COMMENT.sub(keep, text.removeprefix("\ufeff")))


def _take(found: Devcontainer, values: Mapping[str, Any], tree: Tree) -> None:
    rest = [key for key in values if key not in _SILENT]
    takers: dict[str, Callable[[Any], bool]] = {
        "image": lambda value: _take_image(found, value),
        "build": lambda value: _take_build(found, value, tree),
        "dockerFile": lambda value: _take_build(found, {"dockerfile": value}, tree),
        "containerEnv": lambda value: _take_environment(found, value),
        "remoteEnv": lambda value: _take_environment(found, value),
        "customizations": lambda value: _take_extensions(found, value),
        "extensions": lambda value: _take_extensions(found, {"vscode": {"extensions": value}}),
        "features": lambda value: _name_features(found, value),
        "forwardPorts": lambda value: _name_ports(found, value),
        "remoteUser": lambda value: _name_user(found, value),
        "containerUser": lambda value: _name_user(found, value),
        "initializeCommand": lambda _: _refuse_host(found),
        **{key: _refusing(found, key) for key in _PRIVILEGE},
        **{key: lambda value: _take_commands(found, value) for key in _COMMANDS},
    }
    # In the order in which they happen, whatever order the file has.
    order = [*(key for key in takers if key in values), *(key for key in rest if key not in takers)]
    unknown = [key for key in order if key not in takers or not takers[key](values[key])]
    if unknown:
        found.notes.append(f"{found.files[0]}: not translated: {_listed(unknown)}")
    if left := found.notes[_NOTES:]:
        found.notes[_NOTES:] = [f"and {len(left)} more like these"]


def _take_image(found: Devcontainer, value: Any) -> bool:
    if isinstance(value, str) and _IMAGE.fullmatch(value):
        found.image = value
        return True
    return False


def _take_build(found: Devcontainer, value: Any, tree: Tree) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("dockerfile"), str):
        return False
    folder = found.files[0].rpartition("/")[0]
    path = _inside(folder, value["dockerfile"])
    text = tree.text(path) if path else None
    if text is None:
        found.notes.append(
            f"{found.files[0]}: its Dockerfile {_short(value['dockerfile'])} does not exist; it was not used"
        )
        return True
    lines = text.replace("\r\n", "\n").splitlines()
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*(ADD|COPY)\s+(?!.*--from=)", line, re.I):
            why = "copies files of the source, but a build gets none of them"
        elif re.match(r"\s*VOLUME\b", line, re.I):
            why = "has a VOLUME, but a project writes only to its source and home"
        else:
            continue
        found.notes.append(f"{path}, line {number} {why}; it was not used")
        return True
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("#")):
        del lines[0]  # a comment at the very top may be a directive to the builder: another parser, another escape
    if not any(re.match(r"\s*FROM\s", line, re.I) for line in lines):
        return False
    arguments = value.get("args")
    given = arguments if isinstance(arguments, dict) else {}
    found.dockerfile = "\n".join(_with_argument(line, given) for line in lines).strip() + "\n"
    found.files = (*found.files, path)
    if others := [key for key in value if key not in ("dockerfile", "args", "context")]:
        found.notes.append(f"{found.files[0]}: not translated: {_listed(f'build.{key}' for key in others)}")
    return True


def _with_argument(line: str, given: Mapping[str, Any]) -> str:
    """An ARG of a Dockerfile with the value that devcontainer.json gives it."""
    if (match := re.match(r"\s*ARG\s+([A-Za-z0-9_]+)", line, re.I)) and isinstance(given.get(match[1]), str):
        value = given[match[1]]
        if "${" not in value and value.isprintable():
            return f"ARG {match[1]}={shlex.quote(value)}"
    return line


def _inside(folder: str, relative: str) -> str:
    """A path below the source's top; empty for one that leads out of it."""
    parts: list[str] = folder.split("/") if folder else []
    for part in relative.split("/"):
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "" if relative.startswith("/") else "/".join(parts)


def _take_environment(found: Devcontainer, value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    left = []
    for name, text in list(value.items())[:_MOST]:
        resolved = _resolved(text) if isinstance(text, str) else None
        usable = _VARIABLE.fullmatch(name) and not _RESERVED.fullmatch(name)
        if usable and resolved is not None and resolved.isprintable() and len(resolved) <= _LONGEST:
            found.environment[name] = resolved
        else:
            left.append(name)
    if left or len(value) > _MOST:
        found.notes.append(
            f"{found.files[0]}: not set: {_listed(left)} (variables of the sled or the host cannot be used or changed)"
        )
    return True


def _resolved(text: str) -> str | None:
    """A value with the container's folder filled in; None if it needs something from the host."""
    text = text.replace("${containerWorkspaceFolder}", "/workspace")
    text = text.replace("${containerWorkspaceFolderBasename}", "workspace")
    return None if "${" in text else text


def _take_commands(found: Devcontainer, value: Any) -> bool:
    """A string is for a shell, a list is a program and its arguments, a table has several of these."""
    each = list(value.values()) if isinstance(value, dict) else [value]
    commands = []
    for command in each[:_MOST]:
        if isinstance(command, str):
            text = command.strip()
        elif isinstance(command, list) and command and all(isinstance(part, str) for part in command):
            text = shlex.join(command)
        else:
            return False
        resolved = _resolved(text)
        if resolved is None or not resolved.replace("\n", "").replace("\t", "").isprintable():
            return False
        if resolved:
            commands.append(resolved)
    found.commands += commands
    return True


def _take_extensions(found: Devcontainer, value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    code = value.get("vscode")
    extensions = code.get("extensions") if isinstance(code, dict) else None
    if isinstance(extensions, list) and extensions:
        names = _listed(name for name in extensions if isinstance(name, str))
        found.notes.append(f"{found.files[0]} names extensions for VS Code, to install once you are connected: {names}")
    return True


def _name_features(found: Devcontainer, value: Any) -> bool:
    if isinstance(value, dict) and value:
        found.notes.append(
            f"{found.files[0]}: Features are not translated: {_listed(value)}. "
            "A stack may bring the same (type `stacks`), or .huskies/Dockerfile.fragment can install it"
        )
    return isinstance(value, dict)


def _name_ports(found: Devcontainer, value: Any) -> bool:
    if isinstance(value, list) and value:
        found.notes.append(f"{found.files[0]}: your editor, or `ssh -L`, forwards ports: {_listed(map(str, value))}")
    return isinstance(value, list)


def _name_user(found: Devcontainer, value: Any) -> bool:
    if isinstance(value, str) and value != "huskies":
        found.notes.append(f"{found.files[0]}: not {_short(value)}: everything runs as the project's own user, huskies")
    return isinstance(value, str)


def _refuse_host(found: Devcontainer) -> bool:
    found.notes.append(f"{found.files[0]}: initializeCommand would run on the host; it was dropped")
    return True


def _refusing(found: Devcontainer, key: str) -> Callable[[Any], bool]:
    def refuse(value: Any) -> bool:
        if value in (False, [], {}, ""):
            return True
        each = value if isinstance(value, list) else [value]
        shown = "" if value is True else f" ({_listed(v if isinstance(v, str) else json.dumps(v) for v in each)})"
        found.notes.append(f"{found.files[0]}: {key}{shown} was dropped: a project's container has no such rights")
        return True

    return refuse


def _listed(names: Iterable[str]) -> str:
    shown = [_short(name) for name in itertools.islice(names, _MOST + 1)]
    while len(shown) > _MOST or sum(map(len, shown)) > _LONGEST:
        shown = [*shown[: len(shown) // 2], "…"]
    return ", ".join(shown) or "none"


def _short(text: str, most: int = 80) -> str:
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
