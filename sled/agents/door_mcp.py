"""The tool `huskies` for agents that speak the Agent Client Protocol: an MCP server on standard streams.

    python -I -m sled.agents.door_mcp

The agent starts it, so that its calls descend from the agent's run. What the tool says of itself is in `TOLD`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool

from sled.door import call

#: The variable with the tool's description.
TOLD = "HUSKIES_DOOR_TOLD"
NAME = "huskies"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"command": {"type": "string", "minLength": 1, "maxLength": 100_000}},
    "required": ["command"],
}


async def _list(*_: object) -> ListToolsResult:
    return ListToolsResult(tools=[Tool(name=NAME, description=os.environ.get(TOLD, ""), input_schema=SCHEMA)])


async def _call(_: object, params: CallToolRequestParams) -> CallToolResult:
    command = (params.arguments or {}).get("command")
    if params.name != NAME or not isinstance(command, str):
        return _result(f"The tool is `{NAME}`, and takes a `command`.", failed=True)
    try:
        outcome, told = await call(command)
    except OSError as error:
        return _result(f"the gateway cannot be asked now: {error}", failed=True)
    return _result(told, failed=outcome != "done")


def _result(text: str, *, failed: bool) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=failed)


async def main() -> None:
    """Serve until the agent closes the streams."""
    server = Server(NAME, on_list_tools=_list, on_call_tool=_call)
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
