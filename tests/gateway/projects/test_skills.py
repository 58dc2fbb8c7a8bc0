"""Skills that an operator wrote: which there are, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.projects import skills
from gateway.projects.skills import Skill


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("---\nname: x\ndescription: Says it\n---\nbody", "Says it"),
        ('---\ndescription: "In quotes"\n---\n', "In quotes"),
        ("---\ndescription: >-\n  folded\n---\n", ""),
        ("---\nname: x\n---\ndescription: of the body\n", ""),
        ("no head", ""),
        ("", ""),
        ("---\ndescription: " + "x" * 300 + "\n---\n", "x" * 199 + "…"),
    ],
)
def test_what_a_skill_says_of_itself(tmp_path: Path, text: str, told: str) -> None:
    folder = skills.folder(tmp_path) / "release-notes"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(text)
    assert skills.found(tmp_path) == [Skill("release-notes", told)]


def test_only_folders_with_a_skill_count(tmp_path: Path) -> None:
    assert skills.found(tmp_path) == []
    (skills.folder(tmp_path) / "empty").mkdir(parents=True)
    (skills.folder(tmp_path) / "SKILL.md").touch()
    assert skills.found(tmp_path) == []
