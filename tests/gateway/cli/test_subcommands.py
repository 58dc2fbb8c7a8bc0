"""`huskies ssh` becomes the host's `ssh`: which arguments it gets."""

from __future__ import annotations

import argparse
import os
import subprocess
from typing import Any

import pytest

from gateway.cli import subcommands
from gateway.config import Settings
from gateway.engine import ProjectPaths, Way

OPTIONS = Way.to(ProjectPaths.of(Settings().gateway.state_dir, "demo"), "demo", 22200).options


class Became(Exception):
    """This process is another program now."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this process became, once it did."""
    found: list[str] = []

    async def call(*_: object) -> dict[str, Any]:
        return {"name": "demo", "state": "ready", "ssh": {"port": 22200}}

    def execvp(program: str, arguments: list[str]) -> None:
        assert program == arguments[0]
        found[:] = arguments
        raise Became

    monkeypatch.setattr(subcommands, "call", call)
    monkeypatch.setattr(os, "execvp", execvp)
    return found


@pytest.mark.parametrize("typed", [["--", "-oProxyCommand=x"], ["-oProxyCommand=x"], ["--", "--", "-oProxyCommand=x"]])
async def test_a_command_is_never_an_option_of_the_hosts_ssh(became: list[str], typed: list[str]) -> None:
    with pytest.raises(Became):
        await subcommands.ssh(Settings(), argparse.Namespace(name="demo", command=typed), print)
    assert became[: len(OPTIONS) + 2] == ["ssh", *OPTIONS, "--"]
    # What the real one makes of it: the configuration that it would use.
    shown = subprocess.run([*became[:1], "-G", "-F", "none", *became[1:]], capture_output=True, text=True, check=True)
    assert "hostname 127.0.0.1\n" in shown.stdout
    assert "proxycommand" not in shown.stdout


@pytest.mark.parametrize("typed", [[], ["--"], ["ls", "-l"], ["--", "ls", "-l"]])
async def test_shells_and_commands(became: list[str], typed: list[str]) -> None:
    with pytest.raises(Became):
        await subcommands.ssh(Settings(), argparse.Namespace(name="demo", command=typed), print)
    assert became == ["ssh", *OPTIONS, "--", *[word for word in typed if word != "--"]]
