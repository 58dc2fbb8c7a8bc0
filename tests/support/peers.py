"""The npm packages of `requirements/peers`: what others made to stand for Slack and Twilio."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MISSING = "install npm, and set HUSKIES_PEERS to a folder with the packages of requirements/peers (make test does)"


def peers() -> Path | None:
    """The folder with the packages, from the environment; None where they are missing, or cannot run."""
    folder = Path(os.environ.get("HUSKIES_PEERS") or "/nonexistent") / "node_modules"
    return folder if folder.is_dir() and shutil.which("node") else None
