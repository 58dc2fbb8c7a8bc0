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


def chosen(*paths: str, asked: str = "") -> tuple[str, list[str]]:
    """The folder that is the project, and the markers."""
    found = find(tree(*paths), STACKS, asked)
    return found.folder, [marker for _, marker in found.matches]


@pytest.mark.parametrize(
    ("paths", "folder", "markers"),
    [
        (["package.json", "src-tauri/Cargo.toml"], "", ["src-tauri/Cargo.toml", "package.json"]),
        (["pyproject.toml", "frontend/package.json"], "", ["pyproject.toml", "frontend/package.json"]),
        (["go.mod", "web/app/package.json"], "", ["go.mod", "web/app/package.json"]),
        (["go.mod", "a/b/c/package.json"], "", ["go.mod"]),
        (["settings.gradle.kts", "app/build.gradle.kts"], "", ["settings.gradle.kts"]),
        (["backend/pyproject.toml", "frontend/package.json"], "", ["backend/pyproject.toml", "frontend/package.json"]),
        (["packages/a/package.json", "packages/b/package.json"], "", ["packages/a/package.json"]),
        (["src/app/package.json"], "src/app", ["src/app/package.json"]),
        (["app/go.mod", "app/ui/package.json"], "app", ["app/go.mod", "app/ui/package.json"]),
    ],
)
def test_folders_one_and_two_levels_down_count(paths: list[str], folder: str, markers: list[str]) -> None:
    assert chosen(*paths) == chosen(*reversed(paths)) == (folder, markers)


def test_the_modules_of_each_stack() -> None:
    found = find(tree("settings.gradle", "app/build.gradle", "lib/core/build.gradle", "ui/package.json"), STACKS)
    assert found.modules == {"jvm": ("app", "lib/core"), "node": ("ui",)}


def test_one_subfolder_is_taken_and_told_of() -> None:
    found = find(tree("README.md", "app/package.json", "app/pyproject.toml", "app/x/y/go.mod", "assets/a.png"), STACKS)
    assert found.folder == "app"
    assert [(stack.name, marker) for stack, marker in found.matches] == [
        ("python", "app/pyproject.toml"),
        ("node", "app/package.json"),
    ]
    (warning,) = found.warnings
    assert "app/pyproject.toml" in warning and "app is taken" in warning


@pytest.mark.parametrize("folder", ["node_modules", "vendor", "target", "dist", "build", ".cache", "a\nb", "x/y/z"])
def test_some_subfolders_are_no_projects(folder: str) -> None:
    found = find(tree(f"{folder}/package.json", f"x/{folder}/package.json"), STACKS)
    assert (found.folder, found.matches, found.warnings, found.left_out) == ("", (), (), ())
    assert chosen(f"{folder}/package.json", "app/go.mod") == ("app", ["app/go.mod"])


@pytest.mark.parametrize("folder", ["docs", "examples", "tests", "app/e2e", "examples/web"])
def test_what_only_documentation_and_tests_ask_for_is_named(folder: str) -> None:
    found = find(tree("go.mod", f"{folder}/package.json", f"{folder}/go.mod"), STACKS)
    assert [marker for _, marker in found.matches] == ["go.mod"]
    assert [(stack.name, marker) for stack, marker in found.left_out] == [("node", f"{folder}/package.json")]


def test_the_stack_that_is_asked_for_chooses_among_subfolders() -> None:
    several = ("web/package.json", "api/go.mod", "old/package.json")
    assert chosen(*several, asked="go")[0] == "api"
    assert chosen(*several, asked="node")[0] == chosen(*several, asked="rust")[0] == "", "two of them, or none"
    assert chosen("web/package.json", asked="go")[0] == "web"


def test_a_thousand_subfolders_are_not_all_looked_at() -> None:
    found = find(tree(*(f"p{n:04}/go.mod" for n in range(1000))), STACKS)
    assert len(found.modules["go"]) == 400
