"""What the documentation says is there, is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from gateway import kill_points

ROOT = Path(__file__).parents[1]
PAGES = ("docs/invariants.md", "docs/faults.md", "docs/security.md")
NAMED = sorted(
    {found for page in PAGES for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / page).read_text())}
)


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_each_promise_names_a_test_that_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_the_invariants_are_all_there() -> None:
    numbers = re.findall(r"^(\d+)\. \*\*", (ROOT / "docs/invariants.md").read_text(), re.MULTILINE)
    assert numbers == [str(n) for n in range(1, 40)]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/faults.md"])
def test_links_and_paths_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([\w./-]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
    for path in re.findall(r"`((?:gateway|sled|transports|commands|stacks|docs|tests)/[\w/.]+\.\w+)`", text):
        assert (ROOT / path).exists(), path


def test_every_kill_point_is_reached_somewhere() -> None:
    code = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    for point in kill_points.POINTS:
        assert f'reach("{point}")' in code or f'reach, "{point}")' in code


def test_no_file_names_a_registry_or_this_machine() -> None:
    """Lock files bring hashes, not addresses; nothing depends on where it was written."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    forbidden = re.compile(
        "|".join(["pypi" + r"\.org", "python" + "hosted", "npm" + "js", "deb" + r"\.debian", "/work" + "/"])
    )
    for name in files:
        path = ROOT / name
        if path.is_file():
            assert not forbidden.search(path.read_text(errors="replace")), name
