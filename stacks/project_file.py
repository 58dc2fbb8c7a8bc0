"""What a source's `.huskies/project.toml` asks for: a stack and versions, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import UserError
from stacks.catalog import FALLBACK, Stack
from stacks.reading import PROJECT_FILE, Said, Unreadable, load_toml, quoted, said, shown, understand
from stacks.tree import Tree

#: The key under which huskies itself records its last build there.
RECORD_KEY = "chosen"
#: How a file from earlier versions begins: what it says was found by huskies, and nobody asked for it.
_SEEDED = "# What huskies found when the project was made."


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """The stacks, the primary one first, what is said about versions by the stack's name, and warnings."""

    stacks: tuple[str, ...] = ()
    versions: Mapping[str, Said] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read_project_file(tree: Tree, stacks: Sequence[Stack]) -> ProjectFile:
    """Read what the source itself asks for."""
    text = tree.text(PROJECT_FILE)
    if text is None:
        return ProjectFile()
    try:
        values = load_toml(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    except Unreadable as error:
        return ProjectFile(warnings=(f"{PROJECT_FILE} cannot be read ({error}): it was ignored.",))
    names = {stack.name for stack in stacks}
    warnings = []
    told = values.pop("stack", "")
    if text.startswith(_SEEDED):
        told = ""
    asked = told if isinstance(told, list) else split_names(told) if isinstance(told, str) else [told]
    if not all(isinstance(one, str) and one in names for one in asked):
        known = ", ".join(sorted(names))
        warnings.append(f"{said(PROJECT_FILE, 'stack', told)}, but there is no such stack. There are: {known}.")
        asked = []
    values.pop(RECORD_KEY, None)
    table = values.pop("versions", {})
    if not isinstance(table, dict):
        warnings.append(f"{said(PROJECT_FILE, 'versions', table)}, which is not a table: it was ignored.")
        table = {}
    versions, more = _read_versions(table, {stack.name: stack for stack in stacks})
    unknown = [f"{PROJECT_FILE} has {quoted(key)}, which means nothing here: it was ignored." for key in values]
    return ProjectFile(tuple(asked), versions, (*warnings, *more, *unknown))


def split_names(text: str) -> tuple[str, ...]:
    """The stacks that a person asks for, with commas between."""
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def check_names(asked: Sequence[str], stacks: Sequence[Stack]) -> None:
    """Raises UserError for a stack that there is not, and for one beside the base alone."""
    names = {one.name for one in stacks}
    for name in asked:
        if name not in names:
            raise UserError(f"There is no stack {shown(name)}. There are: {', '.join(sorted(names))}.")
    if len(asked) > 1 and FALLBACK in asked:
        others = ",".join(name for name in asked if name != FALLBACK)
        raise UserError(f"{FALLBACK} is the base alone. Write `--stack {others}`, or `--stack {FALLBACK}`.")


def _read_versions(table: Mapping[str, object], stacks: Mapping[str, Stack]) -> tuple[dict[str, Said], list[str]]:
    found, warnings = {}, []
    for name, value in table.items():
        stack = stacks.get(name)
        if stack is None or stack.versions is None:
            warnings.append(f"{PROJECT_FILE} has a version for {quoted(name)}, which is not a stack with versions.")
            continue
        one = _understood(stack, value)
        if one is None:
            problem = f"which is not a version of {stack.versions.name}"
            example = f'{shown(name)} = "{stack.version}"'
            warnings.append(f"{said(PROJECT_FILE, name, value)}, {problem}: write, for example, `{example}`.")
        else:
            found[name] = one
    return found, warnings


def _understood(stack: Stack, value: object) -> Said | None:
    """What is asked for, one version or a range in poetry's syntax; None if it is neither."""
    assert stack.versions is not None
    exact = understand(PROJECT_FILE, stack.name, value, "exact", stack.versions)
    return exact or understand(PROJECT_FILE, stack.name, value, "poetry", stack.versions)
