"""A gateway as people run it: a process of its own, which a test may kill at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil

from gateway import kill_points
from gateway.engine.process import find
from gateway.testing import patience
from sled.processes import MARK
from tests.support import databases

#: What people read does not depend on how busy the machine is.
CALM = {"HUSKIES_DISPATCHER__TOLD_AFTER_S": "3600"}


class GatewayProcess:
    """Starts `huskies run` on a state directory, again and again. Use as a context manager."""

    def __init__(self, folder: Path, config: dict[str, dict[str, Any]]) -> None:
        self.state = folder / "state"
        self.projects = folder / "projects"
        self.log = folder / "gateway.log"
        self._folder = folder
        self._file = folder / "config.toml"
        ours = {"state_dir": str(self.state), "listen": "127.0.0.1:0", **databases.settings(self.state)}
        values = {
            "projects": {"root": str(self.projects)},
            "git": {"user_name": "Test", "user_email": "test@example.org"},
            **config,
            "gateway": {**ours, **config.get("gateway", {})},
            "engine": {"kind": "process", "allow_unsandboxed": True, "reconcile_s": 0.2, **config.get("engine", {})},
        }
        self._values = values
        self.write_config()
        self.process: subprocess.Popen[bytes] | None = None
        self.cards: asyncio.Queue[str] = asyncio.Queue()
        #: Added to the environment of each process.
        self.environment: dict[str, str] = dict(CALM)

    def write_config(self) -> None:
        """Make the configuration file what this object was made with."""
        self._file.write_text(to_toml(self._values))
        self._file.chmod(0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for sled in self.sleds():
            family = [sled, *sled.children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, 5)
        left = self.leftovers()
        for process in left:
            process.kill()
        assert not left, f"left behind: {[p.cmdline() for p in left]}"

    def spawn(self, *, kill_at: str = "", **environment: str) -> None:
        """Start the process, without waiting for anything."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HUSKIES_", "ANTHROPIC", "CLAUDE"))}
        if kill_at:
            inherited[kill_points.VARIABLE] = kill_at
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "--config", str(self._file)],
                env={**inherited, **self.environment, **environment, "HOME": str(self._folder)},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    async def start(self, *, kill_at: str = "") -> None:
        """Start and wait until its socket answers."""
        self.spawn(kill_at=kill_at)
        deadline = time.monotonic() + 30 * patience()
        while True:
            try:
                await self.get("/doctor")
                return
            except (aiohttp.ClientError, OSError):
                assert self.process is not None
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def died(self, within_s: float = 30) -> None:
        """Wait until it killed itself at the point that it was started with."""
        assert self.process is not None
        code = await asyncio.to_thread(self.process.wait, within_s * patience())
        assert code == -signal.SIGKILL, self.log.read_text()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 20)

    async def get(self, path: str) -> Any:
        """Ask the command line's socket."""
        async with self._session() as web, web.get(f"http://gateway{path}") as answer:
            return await answer.json()

    async def send(self, text: str, external_id: str, conversation: str = "default") -> dict[str, Any]:
        """Send a message as `huskies send` does; the replies once it is settled. What is asked goes to `cards`."""
        body: dict[str, Any] = {"text": text, "conversation": conversation, "id": external_id}
        async with self._session() as web:
            while True:
                async with web.post("http://gateway/send", json=body) as answer:
                    found: dict[str, Any] = await answer.json()
                if "notices" not in found:
                    return found
                body["seen"] = found["seen"]
                for notice in found["notices"]:
                    self.cards.put_nowait(notice)

    async def secret(self, scope: str, key: str, value: str) -> None:
        """Set a secret as `huskies secrets` does."""
        body = {"scope": scope, "key": key, "value": value}
        async with self._session() as web, web.put("http://gateway/secrets", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def page_link(self) -> str:
        """A link to the page, as `huskies login` prints it."""
        async with self._session() as web, web.post("http://gateway/login", json={}) as answer:
            return str((await answer.json())["link"])

    async def card(self, within_s: float = 30) -> str:
        """The next thing that people are told while their message is at work: a question, or why it has to wait."""
        async with asyncio.timeout(within_s * patience()):
            while (told := await self.cards.get()).endswith(" …"):  # how a bootstrap gets on
                continue
        return told

    async def send_surely(self, text: str, external_id: str, conversation: str = "default") -> dict[str, Any]:
        """The same, again and again until a gateway answers: one id is one message."""
        while True:
            try:
                return await self.send(text, external_id, conversation)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)

    def sleds(self) -> list[psutil.Process]:
        """The living sleds of this state directory."""
        found = [find(folder / "home") for folder in self.state.glob("[a-z]*")]
        return [process for process in found if process is not None]

    def leftovers(self) -> list[psutil.Process]:
        """Whatever still runs that a sled of this state directory started."""
        homes = [str(folder / "home") for folder in self.state.glob("[a-z]*")]
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                if environment.get("HOME") in homes and (MARK in environment or "HUSKIES_WIRE" in environment):
                    left.append(process)
        return left

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(str(self.state / ".gateway" / "cli.sock"))
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))


def to_toml(sections: dict[str, Any], prefix: str = "") -> str:
    """A nested dict as TOML."""
    lines = []
    for name, section in sections.items():
        plain = {key: value for key, value in section.items() if not isinstance(value, dict)}
        nested = {key: value for key, value in section.items() if isinstance(value, dict)}
        quoted = name if re.fullmatch(r"[\w-]+", name) else json.dumps(name)
        lines.append(f"[{prefix}{quoted}]")
        lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items()]
        if nested:
            lines.append(to_toml(nested, f"{prefix}{quoted}."))
    return "\n".join(lines) + "\n"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
