"""What a project's source wants to add to its container. None of it counts before an operator has seen all of it.

The reason: a layer's instructions run as root while the image is built, as there is no root inside to install with
later. What an agent wrote into its source must not run there unseen.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace

from gateway.errors import UserError
from stacks.devcontainer import read_devcontainer
from stacks.tree import Tree

#: A project's own last layer: instructions of a Dockerfile, without FROM.
OWN_FRAGMENT = ".huskies/Dockerfile.fragment"
#: Characters that a question can show in full, in any chat.
MOST = 3000
_TAKEN = frozenset({"RUN", "ENV", "ARG", "LABEL", "SHELL"})
_WHY_NOT = {
    "FROM": "the layer is already on top of the project's stacks",
    "COPY": "a build gets no files of the source; fetch with RUN",
    "ADD": "a build gets no files of the source; fetch with RUN",
    "USER": "the container always runs as the project's own user",
    "ENTRYPOINT": "the sled is what starts",
    "CMD": "the sled is what starts",
    "VOLUME": "only the source and the home can be written",
    "ONBUILD": "nothing is built on it",
}


@dataclass(frozen=True, slots=True)
class Own:
    """A project's additions: its own base (the name of an image, or the text of a Dockerfile), a last layer, variables
    for every session, and commands to run once when the container is new.

    `files`: where they come from. `notes`: what these ask for that is not possible, in sentences.
    """

    image: str = ""
    dockerfile: str = ""
    fragment: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def lines(self) -> list[str]:
        """The additions as people are shown them."""
        shown = [f"base image: {self.image}"] if self.image else []
        if self.dockerfile:
            shown += ["base image, built from:", *_indented(self.dockerfile)]
        if self.fragment:
            shown += ["last layer, built as root:", *_indented(self.fragment)]
        shown += [f"variable: {name}={value}" for name, value in self.environment]
        for command in self.commands:
            first, *more = command.splitlines()
            shown += [f"run once, in the container: {first}", *_indented("\n".join(more))]
        return shown


def difference(before: Own, after: Own) -> str:
    """What changes from one to the other, line by line. Raises UserError if that is too long to be read."""
    lines = difflib.unified_diff(before.lines(), after.lines(), lineterm="", n=2)
    text = "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
    if len(text) > MOST:
        raise UserError(
            f"The changes in {' and '.join(after.files or before.files)} have {len(text)} characters, but one message "
            f"can show only {MOST}. Shorten them."
        )
    return text


def read_own(tree: Tree) -> Own:
    """What a source wants to add. Raises UserError, see `read_fragment`."""
    fragment = read_fragment(tree)
    found = read_devcontainer(tree)
    for text in filter(None, (found.dockerfile, *found.commands)):
        check_readable(text, found.files[-1])
    own = Own(
        image=found.image,
        dockerfile=found.dockerfile,
        fragment=fragment,
        environment=tuple(sorted(found.environment.items())),
        commands=tuple(found.commands),
    )
    adds = own != Own(fragment=fragment)
    files = (*((OWN_FRAGMENT,) if fragment else ()), *(found.files if adds else ()))
    return replace(own, files=files, notes=tuple(found.notes))


def read_fragment(tree: Tree) -> str:
    """A project's last layer as its source has it; empty where it has none.

    Raises UserError for instructions that a layer cannot have, and for characters that are not what they look like.
    """
    text = tree.text(OWN_FRAGMENT)
    if text is None or not text.strip():
        return ""
    text = text.replace("\r\n", "\n").strip() + "\n"
    check_readable(text, OWN_FRAGMENT)
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\\\\\s*$|<<|^\s*RUN\s+--", line, re.I):
            raise UserError(
                f"{OWN_FRAGMENT}, line {number}: a backslash before the last one, `<<` and options of RUN mean "
                "different things to different builders. Write it without them."
            )
    for number, _, instruction in instructions(text):
        if instruction not in _TAKEN:
            why = _WHY_NOT.get(instruction, f"a layer takes {', '.join(sorted(_TAKEN))}")
            raise UserError(f"{OWN_FRAGMENT}, line {number}: {instruction[:20]} cannot be used: {why}.")
    return text


def check_readable(text: str, file: str) -> None:
    """Raises UserError for text that may not be what it looks like: control characters, and (outside comments) letters
    that look like others."""
    for number, line in enumerate(text.split("\n"), 1):
        comment = line.lstrip().startswith("#")
        for character in line:
            if character != "\t" and not (character.isprintable() and (character.isascii() or comment)):
                raise UserError(
                    f"{file}, line {number}: U+{ord(character):04X} may not be what it looks like. Write it in ASCII."
                )


def instructions(text: str) -> list[tuple[int, int, str]]:
    """The first and last line (from 1) and the word of each instruction of a Dockerfile, as a builder reads it."""
    found: list[tuple[int, int, str]] = []
    continued = False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if continued:
            found[-1] = (found[-1][0], number, found[-1][2])
        else:
            found.append((number, number, re.split(r"\s", stripped, maxsplit=1)[0].upper()))
        continued = stripped.endswith("\\")
    return found


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
