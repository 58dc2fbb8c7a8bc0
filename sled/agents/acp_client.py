"""One process that speaks the Agent Client Protocol, and its dialogue."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import psutil
from acp import PROTOCOL_VERSION, RequestError, text_block
from acp.client.connection import ClientSideConnection
from acp.interfaces import Client
from acp.schema import (
    AcpMcpServer,
    AgentCapabilities,
    ClientCapabilities,
    EnvVariable,
    HttpHeader,
    HttpMcpServer,
    Implementation,
    McpServerStdio,
    PermissionOption,
    PromptResponse,
    RequestPermissionResponse,
    SessionConfigOptionBoolean,
    SessionConfigOptionSelect,
    SseMcpServer,
    ToolCallUpdate,
)
from pydantic import ValidationError

from sled.agents import session_environment
from sled.agents.chosen import address, token
from sled.agents.telling import Telling
from sled.door import VARIABLE as DOOR
from sled.processes import is_alive
from sled.protocol import McpServer, Run

log = logging.getLogger(__name__)

#: The module of the tool `huskies`, and the variable with what it says of itself.
SERVER, TOLD = "sled.agents.door_mcp", "HUSKIES_DOOR_TOLD"
#: Seconds for the handshake, and for a dialogue to be opened; the first start of some agents fetches their packages.
OPEN_WITHIN_S = 120.0
#: Seconds that a process may take to end by itself, and again when it is told to.
_CLOSE_S = 0.5
#: Bytes of one line that are read at once.
_LIMIT = 2**25
_MAX_ID = 80
_BABBLE = "it does not speak the Agent Client Protocol correctly"
_ME = Implementation(name="huskies", version="1")

Heard = Callable[[object], Awaitable[None]]
Asked = Callable[[ToolCallUpdate, list[PermissionOption]], Awaitable[RequestPermissionResponse]]
_Servers = list[HttpMcpServer | SseMcpServer | AcpMcpServer | McpServerStdio]
_Settings = list[SessionConfigOptionSelect | SessionConfigOptionBoolean]


class Died(Exception):
    """The process ended, or does not speak the protocol."""


class Lost(Exception):
    """The dialogue that was asked for no longer exists, or this agent cannot continue one."""


class AcpConnection:
    """An agent's process; `heard` gets the updates of its dialogue, `asked` its requests for permission."""

    def __init__(self, command: list[str], workspace: Path, run: Run, heard: Heard, asked: Asked) -> None:
        self.telling = Telling()
        #: What the dialogue has cost by now, USD.
        self.cost = 0.0
        self.model = run.model
        self._environment = session_environment(run.session)
        self.door = run.door
        self.mcp = run.mcp
        self._servers: _Servers = [_door(run.door)] if run.door else []
        self._servers += [_stdio(server) for server in run.mcp if server.command]
        #: What people must know of the agent, once.
        self.notes: list[str] = []
        self._command = command
        self._workspace = workspace
        self._heard = heard
        self._asked = asked
        self._process: Process | None = None
        self._wire: ClientSideConnection | None = None
        self._session = ""
        self._settings: _Settings = []
        #: While an old dialogue is loaded, its updates are sent again.
        self._replaying = False
        self._stderr: deque[str] = deque(maxlen=5)
        self._errors: asyncio.Task[None] | None = None

    @property
    def session(self) -> str:
        """What the dialogue is called on the wire, where names are short; empty until it is open."""
        if len(self._session) <= _MAX_ID:
            return self._session
        return hashlib.sha256(self._session.encode(errors="replace")).hexdigest()

    def fits(self, run: Run) -> bool:
        """Whether a run can go on here."""
        on_it = bool(run.resume) and self.session == run.resume
        return on_it and (self.model, self.door, self.mcp) == (run.model, run.door, run.mcp)

    @property
    def pids(self) -> tuple[int, ...]:
        """Its process, once it was started."""
        return () if self._process is None else (self._process.pid,)

    @property
    def alive(self) -> bool:
        """Whether the process runs, as the kernel sees it: news of its end may not have arrived yet."""
        if self._process is None or self._process.returncode is not None:
            return False
        try:
            return is_alive(psutil.Process(self._process.pid))
        except psutil.NoSuchProcess:
            return False

    async def open(self, resume: str) -> None:
        """Start the process, and continue dialogue `resume`, or begin a new one if that is empty.

        Raises:
            Died, OSError: it did not start.
            Lost: there is no such dialogue.
            RequestError: it refused, for instance because it needs a login.
        """
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=self._workspace,
            env={**os.environ, **self._environment},
            limit=_LIMIT,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._errors = asyncio.create_task(self._listen(self._process))
        self._wire = ClientSideConnection(cast(Client, self), self._process.stdin, self._process.stdout)
        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                await self._open(self._wire, resume)
        except TimeoutError:
            raise Died(f"it did not answer within {OPEN_WITHIN_S:.0f} s") from None
        except ValidationError as error:
            raise Died(_BABBLE) from error
        except ConnectionError as error:
            raise await self._died(error) from error

    async def _open(self, wire: ClientSideConnection, resume: str) -> None:
        met = await wire.initialize(PROTOCOL_VERSION, client_capabilities=ClientCapabilities(), client_info=_ME)
        if met.protocol_version != PROTOCOL_VERSION:
            raise Died(f"it speaks version {met.protocol_version} of the protocol, not {PROTOCOL_VERSION}")
        self._add_relayed(met.agent_capabilities)
        if not resume:
            begun = await wire.new_session(cwd=str(self._workspace), mcp_servers=self._servers)
            self._session, self._settings = begun.session_id, list(begun.config_options or [])
            return
        can = met.agent_capabilities
        self._replaying = True
        try:
            if can and can.load_session:
                loaded = await wire.load_session(str(self._workspace), resume, mcp_servers=self._servers)
                settings = loaded.config_options
            elif can and can.session_capabilities and can.session_capabilities.resume is not None:
                resumed = await wire.resume_session(str(self._workspace), resume, mcp_servers=self._servers)
                settings = resumed.config_options
            else:
                raise Lost("this agent cannot continue an earlier dialogue")
        except RequestError as error:
            raise Lost(str(error)) from error
        finally:
            self._replaying = False
        self._session, self._settings = resume, list(settings or [])

    def _add_relayed(self, can: AgentCapabilities | None) -> None:
        """The servers that the relay reaches, if the agent can."""
        relayed = [server for server in self.mcp if not server.command]
        if can and can.mcp_capabilities and can.mcp_capabilities.http:
            self._servers += [_http(server) for server in relayed]
        elif relayed:
            names = ", ".join(server.name for server in relayed)
            self.notes.append(f"this agent takes no servers over HTTP, so it goes without {names}")

    async def choose_model(self) -> str:
        """Make the agent use the requested model; returns why it does not, or nothing. Raises Died."""
        setting = next((one for one in self._settings if getattr(one, "category", None) == "model"), None)
        if setting is None:
            return "this agent does not let you choose its model"
        assert self._wire is not None
        try:
            await self._wire.set_config_option(setting.id, self._session, self.model)
        except RequestError as error:
            return f"this agent does not accept the model {self.model}: {error}"
        except ConnectionError as error:
            raise await self._died(error) from error
        return ""

    async def prompt(self, texts: list[str]) -> PromptResponse:
        """One turn. Raises Died, RequestError."""
        assert self._wire is not None
        try:
            return await self._wire.prompt(self._session, [text_block(text) for text in texts])
        except ValidationError as error:
            raise Died(_BABBLE) from error
        except ConnectionError as error:
            raise await self._died(error) from error

    async def cancel(self) -> None:
        """Ask for the end of the turn; its response says when that has come."""
        if self._wire is not None and self._session:
            with contextlib.suppress(ConnectionError):
                await self._wire.cancel(self._session)

    async def close(self) -> None:
        """End the process."""
        if self._wire is not None:
            with contextlib.suppress(ConnectionError):
                await self._wire.close()
        if self._errors is not None:
            self._errors.cancel()
            await asyncio.wait({self._errors})
        if self._process is not None:
            await _end(self._process)

    # --- what the agent calls ----------------------------------------------------------------------------------------

    async def session_update(self, session_id: str, update: object, **_: Any) -> None:
        if session_id == self._session and not self._replaying:
            await self._heard(update)

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **_: Any
    ) -> RequestPermissionResponse:
        if session_id != self._session:
            raise RequestError.invalid_params({"details": "no such session"})
        return await self._asked(tool_call, options)

    async def _listen(self, process: Process) -> None:
        assert process.stderr is not None
        with contextlib.suppress(ValueError):  # a line without an end
            async for line in process.stderr:
                if text := line.decode(errors="replace").strip():
                    log.info("%s: %s", self._command[0], text[:500])
                    self._stderr.append(text)

    async def _died(self, cause: Exception) -> Died:
        """What the process said last; that comes through another pipe than its end."""
        if self._errors is not None:
            await asyncio.wait({self._errors}, timeout=_CLOSE_S)
        return Died(self._stderr[-1] if self._stderr else f"it closed the connection ({cause})")


def _door(told: str) -> McpServerStdio:
    """How the agent starts the server of its tool `huskies`."""
    here = {name: os.environ[name] for name in (DOOR, "HOME") if name in os.environ}
    variables = [EnvVariable(name=name, value=value) for name, value in {**here, TOLD: told}.items()]
    return McpServerStdio(name="huskies", command=sys.executable, args=["-I", "-m", SERVER], env=variables)


def _stdio(server: McpServer) -> McpServerStdio:
    program, *words = server.command
    variables = [EnvVariable(name=name, value=value) for name, value in server.env.items()]
    return McpServerStdio(name=server.name, command=program, args=words, env=variables)


def _http(server: McpServer) -> HttpMcpServer:
    bearer = HttpHeader(name="Authorization", value=f"Bearer {token()}")
    return HttpMcpServer(name=server.name, type="http", url=address(server.name), headers=[bearer])


async def _end(process: Process) -> None:
    """End a process, by force if need be, and read its pipes to their end, unless others hold them."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.close()
    for signal in (process.terminate, process.kill):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _CLOSE_S)
        if process.returncode is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            signal()
    await process.wait()
    for pipe in (process.stdout, process.stderr):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pipe.read(), _CLOSE_S)
