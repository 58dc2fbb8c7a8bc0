"""A language client that is just able to say hello: what an editor does first with a server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.testing import patience


async def initialize(command: list[str], root: str, within_s: float = 60.0) -> dict[str, Any]:
    """Start a language server by a command, and have it initialize; its answer. It is ended again."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    said: list[bytes] = []
    listening = asyncio.create_task(_collect(process.stderr, said))
    params: dict[str, Any] = {"processId": None, "rootUri": f"file://{root}", "capabilities": {}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode()
    process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    try:
        async with asyncio.timeout(within_s * patience()):
            while (message := await _message(process.stdout)).get("id") != 1 or "method" in message:
                pass
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        raise AssertionError(f"{command[-1]} did not answer: {b''.join(said)!r}") from error
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await listening
    result: dict[str, Any] = message["result"]
    return result


async def _collect(stream: asyncio.StreamReader, said: list[bytes]) -> None:
    while data := await stream.read(4096):
        said.append(data)


async def _message(stream: asyncio.StreamReader) -> dict[str, Any]:
    length = 0
    while (line := (await stream.readuntil(b"\n")).strip()) or not length:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    found: dict[str, Any] = json.loads(await stream.readexactly(length))
    return found
