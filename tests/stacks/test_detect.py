"""Which stacks a source's files ask for, and in which folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stacks.catalog import Stack, catalog
from stacks.detect import find, matches
from stacks.tree import MemoryTree

STACKS = catalog()


def tree(*paths: str) -> MemoryTree:
    return MemoryTree(dict.fromkeys(paths, ""))


def names(*paths: str, folder: str = "") -> list[tuple[str, str]]:
    return [(stack.name, marker) for stack, marker in matches(tree(*paths), STACKS, folder)]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], []),
        (["README.md", "src/main.rs"], []),
        (["setup.py", "requirements.txt"], [("python", "requirements.txt")]),
        (["package.json", "pyproject.toml"], [("python", "pyproject.toml"), ("node", "package.json")]),
        (
            ["tsconfig.json", "go.mod", "Cargo.toml"],
            [("rust", "Cargo.toml"), ("go", "go.mod"), ("node", "tsconfig.json")],
        ),
        (["Pyproject.toml", "cargo.toml"], []),
        (["web/package.json"], []),
    ],
)
def test_every_stack_that_matches_in_the_catalogs_order(paths: list[str], expected: list[tuple[str, str]]) -> None:
    assert names(*paths) == names(*reversed(paths)) == expected


def test_a_marker_may_be_a_pattern() -> None:
    dotnet = Stack("dotnet", ".NET", 35, ("global.json", "*.csproj", "*.sl[nx]"), "", Path("dotnet"))
    found = [matches(tree(*paths), [dotnet]) for paths in (["b.csproj", "a.csproj"], ["x.sln"], ["a.csprojx", "y.sl"])]
    assert found == [[(dotnet, "a.csproj")], [(dotnet, "x.sln")], []]
    assert matches(tree("a.csproj", "global.json"), [dotnet]) == [(dotnet, "global.json")], "markers in their order"


def test_a_marker_with_an_odd_name_is_none() -> None:
    """A marker's path is told in chat."""
    loose = [Stack("dotnet", ".NET", 35, ("*.csproj",), "", Path("dotnet"))]
    for name in ("a\n**b**.csproj", "a\x1b[2J.csproj", "a\udcff.csproj", "\u202ea.csproj", "a" * 100 + ".csproj"):
        assert matches(tree(name), loose) == []
    assert matches(tree("ä b.csproj"), loose) != []


def test_the_base_alone_is_never_found() -> None:
    greedy = [replace(stack, markers=("README.md",)) for stack in STACKS if stack.name == "minimal"]
    assert matches(tree("README.md"), greedy) == []


def test_the_top_decides_before_its_folders() -> None:
    found = find(tree("package.json", "api/go.mod"), STACKS)
    assert (found.folder, [stack.name for stack, _ in found.matches], found.warnings) == ("", ["node"], ())


def test_one_subfolder_is_taken_and_told_of() -> None:
    found = find(tree("README.md", "app/package.json", "app/pyproject.toml", "app/x/go.mod", "assets/a.png"), STACKS)
    assert found.folder == "app"
    assert [(stack.name, marker) for stack, marker in found.matches] == [
        ("python", "app/pyproject.toml"),
        ("node", "app/package.json"),
    ]
    (warning,) = found.warnings
    assert "app/pyproject.toml" in warning and "app is taken" in warning


@pytest.mark.parametrize(
    "folder",
    ["node_modules", "vendor", "target", "dist", "build", "docs", "examples", "tests", ".cache", "a\nb", "deep/er"],
)
def test_some_subfolders_are_no_projects(folder: str) -> None:
    found = find(tree(f"{folder}/package.json"), STACKS)
    assert (found.folder, found.matches, found.warnings) == ("", (), ())
    assert find(tree(f"{folder}/package.json", "app/go.mod"), STACKS).folder == "app"


def test_several_subfolders_are_named_with_what_to_type() -> None:
    several = tree("web/package.json", "api/go.mod", "tools/package.json", "old/pyproject.toml", "old/package.json")
    found = find(several, STACKS)
    assert (found.folder, found.matches) == ("", ())
    (warning,) = found.warnings
    assert "api (go), old (python, node), tools (node), web (node)." in warning
    assert "`--stack go` or `--stack python` or `--stack node`" in warning


def test_the_stack_that_is_asked_for_chooses_among_subfolders() -> None:
    several = tree("web/package.json", "api/go.mod", "old/package.json")
    found = find(several, STACKS, "go")
    assert (found.folder, [marker for _, marker in found.matches]) == ("api", ["api/go.mod"])
    for name in ("node", "rust"):
        assert find(several, STACKS, name) == find(tree(), STACKS), "two of them, or none: the top, without a word"
    assert find(tree("web/package.json"), STACKS, "go").folder == "web"


def test_a_thousand_subfolders_make_a_short_warning() -> None:
    (warning,) = find(tree(*(f"p{n:04}/go.mod" for n in range(1000))), STACKS).warnings
    assert "p0007 (go) and 192 more." in warning
    assert "h (go). Only the base" in find(tree(*(f"{name}/go.mod" for name in "abcdefgh")), STACKS).warnings[0]
    assert len(warning) < 400
