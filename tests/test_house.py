"""The house: each folder of the gateway has a face, and what is behind it is its own."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(face.parent for face in (ROOT / "gateway").glob("*/__init__.py"))
#: Who meets a folder of the gateway from outside; tests may look behind a face.
SOURCES = ("gateway", "transports", "commands", "stacks", "sled")


def imports() -> Iterator[tuple[Path, ast.ImportFrom, list[str]]]:
    """Every `from gateway.<folder>... import ...` that leaves its own folder: where, what, the parts of the module."""
    for source in SOURCES:
        for file in sorted((ROOT / source).rglob("*.py")):
            own = file.relative_to(ROOT).parts[:2]
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway."):
                    parts = (node.module or "").split(".")
                    if (ROOT / "gateway" / parts[1]).is_dir() and own != ("gateway", parts[1]):
                        yield file, node, parts


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_face_is_small_and_says_what_it_has(folder: Path) -> None:
    """What `__all__` names is there: a name, or a module that may be imported by its name."""
    face = folder / "__init__.py"
    assert len(face.read_text().splitlines()) < 40
    module = importlib.import_module(f"gateway.{folder.name}")
    for name in module.__all__:
        assert hasattr(module, name) or importlib.import_module(f"gateway.{folder.name}.{name}")


def test_other_folders_import_what_a_face_names() -> None:
    wrong = []
    for file, node, (_, folder, *room) in imports():
        offered = importlib.import_module(f"gateway.{folder}").__all__
        wanted = [room[0]] if room else [alias.name for alias in node.names]
        wrong += [f"{file.relative_to(ROOT)}:{node.lineno}: {name}" for name in wanted if name not in offered]
    assert wrong == []


def test_the_page_names_the_folders_in_the_order_of_their_imports() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `((?:\.\./)?[a-z]+)` \| .* \| `([a-z_]+\.py)` \|$", page, re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    ranks = {name.removeprefix("gateway."): rank for rank, row in enumerate(layers) for name in row.split(" | ")}
    named = [folder.removeprefix("../") for folder, _ in rows]
    assert sorted(named) == sorted([*(folder.name for folder in FOLDERS), "transports", "commands"])
    assert [ranks[name] for name in named] == sorted(ranks[name] for name in named)
    for folder, first in rows:
        assert (ROOT / "gateway" / folder / first).resolve().is_file()


def test_there_is_one_way_out() -> None:
    """Trust, proxies and time-outs are decided in one place; only the local socket has a client of its own."""
    made = [
        str(file.relative_to(ROOT))
        for top in ("gateway", "transports", "commands", "stacks")
        for file in sorted((ROOT / top).rglob("*.py"))
        if "ClientSession(" in file.read_text()
    ]
    assert made == ["gateway/cli/client.py", "gateway/outbound.py"]
