"""The page's libraries are as their packages had them, and come with their licences."""

from __future__ import annotations

import hashlib
from pathlib import Path

WEB = Path(__file__).parents[3] / "gateway" / "web"


def test_each_is_as_it_was_when_it_was_put_there() -> None:
    lines = (WEB / "licences" / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}
    ours = {"page.js", "chat.js", "logs.js", "palette.js"}
    assert {f"static/{file.name}" for file in (WEB / "static").glob("*.js") if file.name not in ours} == listed.keys()
    for name, digest in listed.items():
        assert hashlib.sha256((WEB / name).read_bytes()).hexdigest() == digest, "type: make vendored"
        assert (WEB / "licences" / f"{Path(name).stem}.txt").read_text()
