"""The door: where an agent, and whatever it starts, asks the gateway to do something, as a person does by a message.

A Unix socket in the project's home. Each connection is one call, a line of JSON each way::

    -> {"text": "remind 2h look at the build"}
    <- {"outcome": "done", "text": "..."}

Who calls is read from the kernel: the run is the one whose runner the caller descends from. The gateway decides what a
call may do, and believes the sled nothing but that it speaks for its project.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sled.inside import adding, ensure, folder
from sled.outbox import IGNORE
from sled.protocol import MAX_COMMAND, Command, Told

log = logging.getLogger(__name__)

#: Names the socket for an agent and its children.
VARIABLE = "HUSKIES_DOOR"
#: Bytes of an answer that are given at once; a longer one is put into a file.
MAX_ANSWER = 8192
#: Calls that wait at once, and bytes of one.
MAX_WAITING, _LINE = 32, 8 * MAX_COMMAND
#: Where an image has what is ours, this program too.
_OF_IMAGES = "/opt/huskies"
_PEER = struct.Struct("3i")
_FOREIGN = "This gateway takes no commands from agents; a newer one does."
_BUSY = f"{MAX_WAITING} calls already wait for an answer. Call again when one of them has it."


def socket_in(home: Path) -> Path:
    """The socket; clients outside of a run look for it there."""
    return home / ".huskies" / "door"


def commands_in(home: Path) -> Path:
    """The folder with the command `huskies`, for the PATH of agents."""
    return home / ".huskies" / "bin"


def more_path(home: Path) -> list[str]:
    """What the PATH of agents begins with: where the command is, unless it is in their image."""
    return [] if Path(sys.executable).is_relative_to(_OF_IMAGES) else [str(commands_in(home))]


class Reply(NamedTuple):
    """What a caller is told."""

    outcome: str
    text: str


class Door:
    """See the module. `send` takes a frame for the gateway; `run_of` says which run a process belongs to."""

    def __init__(
        self, home: Path, workspace: Path, send: Callable[[Command], None], run_of: Callable[[int], str]
    ) -> None:
        self._path, self._commands = socket_in(home), commands_in(home)
        self._workspace = workspace
        self._send = send
        self._run_of = run_of
        self._series = secrets.token_hex(6)
        self._number = 0
        self._waiting: dict[str, tuple[Command, asyncio.Future[Told]]] = {}
        self._server: asyncio.Server | None = None
        #: Whether this gateway takes commands; None while there has been none.
        self.serves: bool | None = None

    async def open(self) -> None:
        """Listen, and put the client where agents find it. Raises OSError."""
        self._commands.mkdir(exist_ok=True)
        client = self._commands / "huskies"
        client.unlink(missing_ok=True)
        # -I, -S: nothing of the project's is imported, and nothing is looked for that it does not need.
        client.write_text(f"#!{sys.executable} -IS\n{(Path(__file__).parent / 'client.py').read_text()}")
        client.chmod(0o755)
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        with _reachable(self._path) as name:
            listening.bind(name)
        self._path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=_LINE)

    async def close(self) -> None:
        """Stop listening; whoever waits is cut off."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    def waiting(self) -> list[Command]:
        """The calls that have no answer yet, oldest first: a gateway that connects may not have heard of them."""
        return [command for command, _ in self._waiting.values()] if self.serves else []

    def told(self, told: Told) -> None:
        """Take the gateway's answer; one that nobody waits for changes nothing."""
        _, answer = self._waiting.get(told.call, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(told)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            pid = _peer(writer.get_extra_info("socket"))
            # Now, while the caller is certainly there: its number is another's as soon as it has ended.
            run = self._run_of(pid)
            line = await reader.readline()
            reply = await self._answer(run, line) if line else None
            if reply is not None:
                writer.write(json.dumps(reply._asdict()).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as error:  # it went away, or said more than a command has
            log.info("a call at the door: %s", error)
        finally:
            writer.close()

    async def _answer(self, run: str, line: bytes) -> Reply:
        try:
            text = str(json.loads(line)["text"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return Reply("refused", 'A call is a line of JSON: {"text": "<command>"}.')
        if len(text) > MAX_COMMAND:
            return Reply("refused", f"A command has at most {MAX_COMMAND:,} characters.")
        if self.serves is False:
            return Reply("refused", _FOREIGN)
        if len(self._waiting) >= MAX_WAITING:
            return Reply("refused", _BUSY)
        self._number += 1
        command = Command(call=f"{self._series}-{self._number}", run=run, text=_sendable(text))
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting[command.call] = (command, answer)
        if self.serves:  # else it goes with the first welcome
            self._send(command)
        try:
            told = await answer
        finally:
            del self._waiting[command.call]
        raw = told.text.encode(errors="replace")
        if len(raw) <= MAX_ANSWER:
            return Reply(told.outcome, told.text)
        return Reply(told.outcome, await asyncio.to_thread(self._bounded, command.call, raw))

    def _bounded(self, call: str, raw: bytes) -> str:
        """An answer that fits, all of it in a file."""
        beginning = raw[:MAX_ANSWER].decode(errors="ignore")
        try:
            with folder(self._workspace, ".huskies", "inbox", create=True) as inbox:
                ensure(inbox, *IGNORE)
                with adding(inbox, f"answer-{call}.md") as (file, name):
                    file.write(raw)
        except OSError as error:
            log.warning("the answer to call %s: %s", call, error)
            return f"{beginning}\n\n(… The rest is too long to be shown, and could not be put into a file: {error})"
        return f"{beginning}\n\n(… The rest is too long to be shown: all of it is in .huskies/inbox/{name})"


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for a socket that the kernel takes, however deep its folder lies."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


async def call(text: str) -> Reply:
    """Call, as the command `huskies` does, without waiting on a thread. Raises OSError."""
    try:
        with _reachable(Path(os.environ[VARIABLE])) as name:
            reader, writer = await asyncio.open_unix_connection(name, limit=_LINE)
        try:
            writer.write(json.dumps({"text": text}).encode() + b"\n")
            told = json.loads(await reader.readline())
            return Reply(told["outcome"], told["text"])
        finally:
            writer.close()
    except (ValueError, KeyError) as error:
        raise ConnectionError("the sled ended before it had an answer") from error


def _peer(connection: socket.socket) -> int:
    pid, _, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(pid)


def _sendable(text: str) -> str:
    return text.encode(errors="replace").decode()
