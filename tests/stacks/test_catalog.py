"""The catalog: folders of data, and which of them a tree of files asks for."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from stacks.catalog import FALLBACK, FRAGMENT, Stack, catalog, detect

STACKS = catalog()


def test_every_stack_is_in_the_catalog_once_and_in_order() -> None:
    assert [stack.name for stack in STACKS] == ["rust", "go", "jvm", "ruby", "python", "node", "minimal"]
    assert len({stack.order for stack in STACKS}) == len(STACKS), "which of two is primary must be certain"
    markers = list(itertools.chain.from_iterable(stack.markers for stack in STACKS))
    assert len(set(markers)) == len(markers), "a file that asks for two stacks asks for the first only"


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_a_stack_is_whole(stack: Stack) -> None:
    assert stack.summary
    assert bool(stack.markers) == (stack.name != FALLBACK)
    # What an image brings is told, and the image contract holds it to that.
    assert (stack.folder / FRAGMENT).is_file() == (stack.folder / "verify").is_file() == bool(stack.version)
    if stack.has_image:
        assert stack.version in (stack.folder / "verify").read_text()


@pytest.mark.parametrize(
    ("names", "stack", "because"),
    [
        ([], "minimal", ""),
        (["README.md", "src"], "minimal", ""),
        (["pyproject.toml"], "python", "pyproject.toml"),
        (["setup.py", "requirements.txt"], "python", "requirements.txt"),
        (["package.json", "pyproject.toml"], "python", "pyproject.toml"),
        (["package.json", "Cargo.toml", "go.mod"], "rust", "Cargo.toml"),
        (["build.gradle.kts"], "jvm", "build.gradle.kts"),
        (["Pyproject.toml", "cargo.toml"], "minimal", ""),
    ],
)
def test_the_files_at_the_top_decide(names: list[str], stack: str, because: str) -> None:
    assert detect(names, STACKS) == (stack, because)
    assert detect(names[::-1], STACKS) == (stack, because), "whatever order a folder lists them in"


def test_a_stack_is_added_by_a_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "zig"
    folder.mkdir()
    (folder / "stack.toml").write_text('summary = "Zig"\norder = 15\n')
    (folder / "markers").write_text("build.zig\nbuild.zig.zon\n")
    (only,) = catalog(tmp_path)
    assert only == Stack("zig", "Zig", 15, ("build.zig", "build.zig.zon"), "", folder)
    assert not only.has_image
    (folder / FRAGMENT).write_text("RUN true\n")
    assert only.has_image
    assert detect({"build.zig.zon"}, [only]) == ("zig", "build.zig.zon")
