"""Asking the running gateway, over the socket in its state directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp

from gateway.config import Settings, trust
from gateway.config.state_dir import cli_socket
from gateway.errors import UserError

#: Prints a line, or several.
Say = Callable[[str], None]


class NotRunning(UserError):
    """No gateway is running here."""


async def call(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the gateway. Raises NotRunning, UserError; StateError for a socket that is not this user's."""
    state_dir = settings.gateway.state_dir
    socket = cli_socket(state_dir)
    try:
        trust.check_socket(state_dir, socket)
    except (FileNotFoundError, NotADirectoryError):
        raise NotRunning(f"no gateway is running on {state_dir}; type: huskies run") from None
    timeout = aiohttp.ClientTimeout(total=None, connect=5)
    connector = aiohttp.UnixConnector(path=str(socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, f"http://gateway{path}", json=body) as response,
        ):
            answer = await response.json()
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NotRunning(f"no gateway is running on {state_dir}; type: huskies run") from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
        raise UserError(f"the gateway on {state_dir} ended before it answered; type: huskies run") from error
    except aiohttp.ContentTypeError as error:
        raise UserError(f"the gateway could not answer that ({error.status}); its log says why") from error
    if isinstance(answer, dict) and "error" in answer:
        raise UserError(answer["error"])
    return answer
