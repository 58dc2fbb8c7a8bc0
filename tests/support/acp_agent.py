"""A small real agent of the Agent Client Protocol, driven by its prompt. Run as a program.

    @@say TEXT         say it, word by word          @@tool KIND TITLE   use a tool, successfully
    @@ask COMMAND      ask to run a command          @@edit PATH         ask to edit a file; do it if allowed
    @@hang             until it is cancelled         @@deaf              for ever, cancelled or not
    @@crash            end at once                   @@recall            what it was told in this dialogue so far
    @@stop REASON      end with that stop reason     @@cost USD          so much in all
    @@model            the model in use              @@fail              a protocol error
    @@tools            its MCP servers' tools        @@call COMMAND      call the tool `huskies`
    @@servers          its MCP servers, as it got them

Dialogues are kept in `.acp/` of the folder that it works in. Options: `--no-load`, `--login`, `--babble`,
`--http` (it takes MCP servers over HTTP).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import acp
from acp import PROTOCOL_VERSION, RequestError, run_agent
from acp import helpers as say
from acp.schema import (
    AgentCapabilities,
    Cost,
    InitializeResponse,
    LoadSessionResponse,
    McpCapabilities,
    NewSessionResponse,
    PermissionOption,
    PromptResponse,
    SessionConfigOptionSelect,
    SessionConfigSelectOption,
    SetSessionConfigOptionResponse,
    ToolCallUpdate,
    ToolKind,
    Usage,
    UsageUpdate,
)

OPTIONS = [
    PermissionOption(option_id="always", name="Always", kind="allow_always"),
    PermissionOption(option_id="yes", name="Yes", kind="allow_once"),
    PermissionOption(option_id="no", name="No", kind="reject_once"),
]


class Agent:
    """See the module."""

    def __init__(self) -> None:
        self.client: Any = None
        self.model = "standard"
        self.cancelled = asyncio.Event()
        self.servers: list[Any] = []

    def on_connect(self, client: Any) -> None:
        self.client = client

    async def initialize(self, protocol_version: int, **_: Any) -> InitializeResponse:
        if "--babble" in sys.argv:
            print("this is no protocol", flush=True)
            os._exit(0)
        reaches = McpCapabilities(http="--http" in sys.argv)
        can = AgentCapabilities(load_session="--no-load" not in sys.argv, mcp_capabilities=reaches)
        return InitializeResponse(protocol_version=PROTOCOL_VERSION, agent_capabilities=can)

    async def new_session(self, cwd: str, mcp_servers: Any = None, **_: Any) -> NewSessionResponse:
        self.servers = list(mcp_servers or [])
        if "--login" in sys.argv:
            raise RequestError.auth_required()
        self.file = Path(cwd, ".acp", uuid.uuid4().hex)
        self.file.parent.mkdir(exist_ok=True)
        self.file.touch()
        return NewSessionResponse(session_id=self.file.name, config_options=self._settings())

    async def load_session(self, cwd: str, session_id: str, mcp_servers: Any = None, **_: Any) -> LoadSessionResponse:
        self.servers = list(mcp_servers or [])
        self.file = Path(cwd, ".acp", session_id)
        if not self.file.exists():
            raise RequestError.resource_not_found(session_id)
        for line in self.file.read_text().splitlines():
            await self.client.session_update(session_id, say.update_agent_message_text(f"replayed {line}"))
        return LoadSessionResponse(config_options=self._settings())

    async def set_config_option(self, config_id: str, session_id: str, value: Any, **_: Any) -> Any:
        if value not in ("standard", "large"):
            raise RequestError.invalid_params()
        self.model = value
        return SetSessionConfigOptionResponse(config_options=self._settings())

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> PromptResponse:
        self.cancelled.clear()
        texts = "\n".join(block.text for block in prompt)
        stop = "end_turn"
        for line in texts.splitlines():
            order, _space, rest = line.partition(" ")
            if order == "@@stop":
                stop = rest
            elif order.startswith("@@"):
                await getattr(self, f"_{order[2:]}")(session_id, rest)
            if self.cancelled.is_set():
                stop = "cancelled"
                break
        with self.file.open("a") as file:
            file.write(texts.replace("\n", " / ") + "\n")
        usage = Usage(total_tokens=15, input_tokens=10, output_tokens=5, cached_read_tokens=3)
        return PromptResponse(stop_reason=stop, usage=usage)

    async def cancel(self, session_id: str, **_: Any) -> None:
        self.cancelled.set()

    async def _say(self, session: str, text: str) -> None:
        for word in text.split(" "):
            await self.client.session_update(session, say.update_agent_message_text(f"{word} "))

    async def _tool(self, session: str, rest: str) -> None:
        word, _, title = rest.partition(" ")
        kind = cast(ToolKind, word)
        await self.client.session_update(session, say.start_tool_call("t-" + title, title, kind=kind))
        await self.client.session_update(session, say.update_tool_call("t-" + title, status="completed"))

    async def _permitted(self, session: str, call: str) -> bool:
        asked = await self.client.request_permission(session, ToolCallUpdate(tool_call_id=call), OPTIONS)
        outcome = asked.outcome
        chosen = outcome.option_id if outcome.outcome == "selected" else "cancelled"
        await self._say(session, f"[{chosen}]")
        return chosen == "yes"

    async def _ask(self, session: str, command: str) -> None:
        start = say.start_tool_call("c", f"Run {command}", kind="execute", raw_input={"command": command.split(" ")})
        await self.client.session_update(session, start)
        allowed = await self._permitted(session, "c")
        await self.client.session_update(
            session, say.update_tool_call("c", status="completed" if allowed else "failed")
        )

    async def _edit(self, session: str, path: str) -> None:
        await self.client.session_update(session, say.start_edit_tool_call("e", f"Edit {path}", path, "new text"))
        if await self._permitted(session, "e"):
            Path(path).write_text("new text")

    async def _hang(self, *_: str) -> None:
        await self.cancelled.wait()

    async def _deaf(self, *_: str) -> None:
        await asyncio.Event().wait()

    async def _crash(self, *_: str) -> None:
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)

    async def _recall(self, session: str, _: str) -> None:
        await self._say(session, self.file.read_text())

    async def _cost(self, session: str, amount: str) -> None:
        cost = Cost(amount=float(amount), currency="USD")
        await self.client.session_update(session, UsageUpdate(session_update="usage_update", used=1, size=2, cost=cost))

    async def _model(self, session: str, _: str) -> None:
        await self._say(session, self.model)

    async def _tools(self, session: str, _: str) -> None:
        async with self._served() as client:
            for tool in (await client.list_tools()).tools:
                await self._say(session, f"{tool.name}: {tool.description}")

    async def _servers(self, session: str, _: str) -> None:
        for server in self.servers:
            await self._say(session, f"{server.model_dump_json(exclude_none=True)}\n")

    async def _call(self, session: str, command: str) -> None:
        async with self._served() as client:
            result = await client.call_tool("huskies", {"command": command})
            await self._say(session, f"{'failed' if result.is_error else 'well'}: {result.content[0].text}")

    @contextlib.asynccontextmanager
    async def _served(self) -> AsyncIterator[Any]:
        """A client of the one MCP server that it was given."""
        from mcp import ClientSession, StdioServerParameters
        from mcp.client.stdio import stdio_client

        (one,) = self.servers
        environment = {variable.name: variable.value for variable in one.env}
        program = StdioServerParameters(command=one.command, args=one.args, env=environment)
        async with stdio_client(program) as (reader, writer), ClientSession(reader, writer) as client:
            await client.initialize()
            yield client

    async def _fail(self, *_: str) -> None:
        raise RequestError.internal_error()

    def _settings(self) -> list[Any]:
        options = [SessionConfigSelectOption(value=name, name=name) for name in ("standard", "large")]
        return [
            SessionConfigOptionSelect(
                type="select", id="m", name="Model", category="model", current_value=self.model, options=options
            )
        ]


if __name__ == "__main__":
    asyncio.run(run_agent(cast(acp.Agent, Agent())))  # it has no more than what is called
