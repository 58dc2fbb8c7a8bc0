"""A recipe in words: lines for people in a room, and the record in `.huskies/project.toml`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from stacks.plan import ASKED_FOR, Plan, Toolchain
from stacks.project_file import RECORD_KEY
from stacks.recipe import Recipe
from stacks.told import Told

#: Everything below this line is huskies' own, and each build rewrites it. The line itself is a mark: never change it.
RECORD = "# --- What huskies built last. It is written anew by every build: changes below this line are lost. ---"
_HEAD = """\
# What this project asks of huskies; `rebuild` takes it up. These keys count:
#     stack = "python"         another primary stack than the files say
#     [versions]
#     python = "3.12"          another version than the files say

"""


#: By how many parts of its version a toolchain keeps what was installed with it, and what installs it again.
_INSTALLED_FOR = {
    "python": (2, "`pip install`, `uv sync`; a `.venv` is made anew"),
    "ruby": (2, "`bundle install`"),
    "node": (1, "`npm rebuild`, for modules with native parts"),
}


def stack_lines(plan: Plan, told: Mapping[str, Told], *, built: bool = True) -> list[str]:
    """The stacks of a project: each with its version, and where both were read.

    `told` has every stack that has a layer. `built`: False if nothing is installed, so that no versions are shown.
    """
    if not plan.toolchains:
        return [f"stack: {plan.stack} ({_reason(plan.because)})"]
    ordered = sorted(plan.toolchains, key=lambda toolchain: toolchain.stack != plan.stack)
    return [
        f"{'stack' if toolchain.stack == plan.stack else 'also'}: {_toolchain(plan, toolchain, told, built=built)}"
        for toolchain in ordered
    ]


def _toolchain(plan: Plan, toolchain: Toolchain, told: Mapping[str, Told], *, built: bool) -> str:
    came = told.get(toolchain.stack, Told())
    version = (came.version or toolchain.version) if built and toolchain.stack in told else ""
    because = plan.because if toolchain.stack == plan.stack else toolchain.marker
    reason = _reason(because)
    if toolchain.asked:
        reason += "; version: " + ", ".join(f"{asked.text} in {asked.file}" for asked in toolchain.asked)
    lacks = "; it has no image: none of it is installed" if built and toolchain.stack not in told else ""
    return f"{f'{toolchain.stack} {version}'.rstrip()} ({reason}){lacks}"


def _reason(because: str) -> str:
    return because if because == ASKED_FOR else f"read from {because}" if because else "no marker found"


def lacking(told: Mapping[str, Told]) -> list[str]:
    """What an image lacks, and what it has instead, a sentence each."""
    lines = [f"not as asked: {stack} {what}: {why}" for stack, came in told.items() for what, why in came.instead]
    return lines + [f"without {what}: {why}" for came in told.values() for what, why in came.without]


def outgrown(before: Mapping[str, Told], after: Mapping[str, Told]) -> list[str]:
    """The toolchains that no longer find what was installed into the home for an earlier version, a sentence each."""
    lines = []
    for stack, (parts, again) in _INSTALLED_FOR.items():
        old, new = (told.get(stack, Told()).version.split(".")[:parts] for told in (before, after))
        was, now = ".".join(old), ".".join(new)
        if was and now and was != now:
            lines.append(f"{stack} is {now} now: what was installed for {was} has to be installed again ({again})")
    return lines


def head() -> str:
    """What comes before the record in a new file."""
    return _HEAD


def record(recipe: Recipe) -> str:
    """The record: what was chosen, which file says so, and what could not be honoured, as TOML."""
    plan = recipe.plan
    lines = [RECORD, f"[{RECORD_KEY}]", f"stack = {_quoted(plan.stack)}", f"because = {_quoted(plan.because)}"]
    if plan.folder:
        lines.append(f"folder = {_quoted(plan.folder)}")
    if plan.warnings:
        lines += ["warnings = [", *(f"    {_quoted(warning)}," for warning in plan.warnings), "]"]
    for toolchain in plan.toolchains:
        came = recipe.told.get(toolchain.stack, Told())
        lines += ["", f"[{RECORD_KEY}.{_quoted(toolchain.stack)}]"]
        if toolchain.stack in recipe.told:
            lines.append(f"version = {_quoted(came.version or toolchain.version)}")
        else:
            lines.append("# huskies installs none of it.")
        if toolchain.asked:
            asked = ", ".join(
                f"{{ file = {_quoted(each.file)}, says = {_quoted(each.text)} }}" for each in toolchain.asked
            )
            lines.append(f"asked = [{asked}]")
        else:
            lines.append("asked = []")
        for key, pairs in (("instead_of", came.instead), ("without", came.without)):
            if pairs:
                lines.append(f"{key} = [{', '.join(_quoted(f'{what}: {why}') for what, why in pairs)}]")
        if came.tools:
            tools = ", ".join(f"{_quoted(tool)} = {_quoted(version)}" for tool, version in came.tools)
            lines.append(f"tools = {{ {tools} }}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML string. JSON's escapes are TOML's too, except for characters that JSON splits into two codes."""
    return json.dumps("".join(c if c.isprintable() else "?" for c in text), ensure_ascii=False)
