"""A process of its own that runs the Matrix transport, for tests that kill it.

It reads its orders as JSON from standard input, keeps what it accepted in a file, and kills itself where told.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import nio

from gateway.chat import Conversation, Incoming, Message
from transports.matrix import MatrixConfig, MatrixTransport


def die() -> None:
    """As if the power went."""
    os.kill(os.getpid(), signal.SIGKILL)


class FileReceiver:
    """A `Receiver` whose store is one file, replaced as a whole."""

    def __init__(self, path: Path, die_at: str) -> None:
        """`die_at`: `before` or `after` the next commit that has a message, or something else."""
        self._path = path
        self._die_at = die_at

    def _load(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {"cursor": None, "events": []}

    def typing(self, conversation: Conversation, senders: Collection[str]) -> None:
        """Who is typing is not looked at."""

    async def accept(self, incoming: Sequence[Incoming], cursor: str | None = None) -> None:
        """Commit."""
        state = self._load()
        known = {event_id for event_id, _ in state["events"]}
        messages = [item for item in incoming if isinstance(item, Message) and item.external_id not in known]
        if messages and self._die_at == "before":
            die()
        state["events"] += [(item.external_id, item.text or item.problem) for item in messages]
        state["cursor"] = cursor
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(state))
        draft.replace(self._path)
        if messages and self._die_at == "after":
            die()

    async def cursor(self, transport: str) -> str | None:
        """The last one committed."""
        assert transport == "matrix"
        found = self._load()["cursor"]
        return None if found is None else str(found)


def die_after_request(part: str) -> None:
    """Die when the homeserver has answered a request whose path has `part`, before anybody reads the answer."""
    send = nio.AsyncClient.send

    async def deadly(self: Any, method: str, path: str, *args: Any, **named: Any) -> Any:
        answer = await send(self, method, path, *args, **named)
        if part in path:
            die()
        return answer

    nio.AsyncClient.send = deadly


def main() -> None:
    """Run until killed, or until the test run is gone."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    orders = json.loads(sys.stdin.read())
    if orders["die_after_request"]:
        die_after_request(orders["die_after_request"])
    config = MatrixConfig(
        homeserver=orders["homeserver"],
        user_id=orders["user_id"],
        store=Path(orders["store"]),
        access_token=orders["access_token"],
    )
    transport = MatrixTransport(config, lambda _: True)
    asyncio.run(transport.run(FileReceiver(Path(orders["state"]), orders["die_at"])))


if __name__ == "__main__":
    main()
