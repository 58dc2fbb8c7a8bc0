"""A unified diff, side by side."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gateway.web import sides
from gateway.web.sides import Line, by_file

PATCH = """\
diff --git a/a.py b/a.py
index 111..222 100644
--- a/a.py
+++ b/a.py
@@ -1,4 +1,5 @@ def f():
 one
-two
-three
+2
 four
+--- five
+++ six
diff --git a/old name.txt b/new name.txt
similarity index 100%
rename from old name.txt
rename to new name.txt
diff --git a/picture.png b/picture.png
new file mode 100644
index 000..333
Binary files /dev/null and b/picture.png differ
"""


def test_lines_stand_beside_each_other() -> None:
    files, is_all = by_file(PATCH)
    assert is_all
    changed, renamed, picture = files
    assert (changed.name, changed.added, changed.removed) == ("a.py", 3, 2)
    assert changed.lines == [
        Line("hunk", was="def f():"),
        Line("same", 1, "one", 1, "one"),
        Line("changed", 2, "two", 2, "2"),
        Line("removed", was_at=3, was="three"),
        Line("same", 4, "four", 3, "four"),
        Line("added", is_at=4, now="--- five"),
        Line("added", is_at=5, now="++ six"),
    ]
    assert (renamed.name, renamed.lines) == ("new name.txt", [])
    assert picture.told == ["new file mode 100644", "Binary files /dev/null and b/picture.png differ"]


def test_both_sides_are_the_files_themselves(tmp_path: Path) -> None:
    """What git makes of two files says what is in each of them."""
    was = [f"line {n}" for n in range(60)]
    now = [*was[:7], "new", *was[7:20], *was[25:40], "other", *was[41:], "end"]
    (tmp_path / "was").write_text("\n".join(was) + "\n")
    (tmp_path / "now").write_text("\n".join(now) + "\n")
    made = subprocess.run(
        ["git", "diff", "--no-index", "--unified=3", "was", "now"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    (file,), _ = by_file(made.stdout)
    assert {(line.was_at, line.was) for line in file.lines if line.was_at} <= set(enumerate(was, 1))
    assert {(line.is_at, line.now) for line in file.lines if line.is_at} <= set(enumerate(now, 1))
    shown = {line.was_at for line in file.lines if line.was_at}
    assert {n for n, text in enumerate(was, 1) if text not in now} <= shown


def test_a_huge_one_is_cut_between_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "MOST", 4)
    files, is_all = by_file(PATCH)
    assert not is_all
    assert [file.name for file in files] == ["a.py"]


@pytest.mark.parametrize(
    "text", ["", "\n", "+++ a", "@@ -1 +1 @@\n+x", "diff --git a/x b/x", "diff --git \n@@ -1 +1 @@\n-"]
)
def test_what_is_no_patch_is_no_error(text: str) -> None:
    assert by_file(text)[1]
