"""What the homeserver, or a proxy in front of it, may answer to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.chat import Attachment, OutgoingFile
from gateway.errors import DeliveryRefused, TransportDown
from transports.matrix import media

PAGE = "<html><h1>413 Request Entity Too Large</h1></html>"
FORBIDDEN = '{"errcode": "M_FORBIDDEN", "error": "no"}'


class Server:
    """A client whose homeserver gives one answer."""

    access_token = "t"

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._text = text

    async def raw(self, *_: Any) -> tuple[int, Any, Any]:
        return 200, {"m.upload.size": 10**9}, None

    async def send(self, *_: Any) -> Any:
        return self

    async def json(self, **_: Any) -> Any:
        return json.loads(self._text)

    async def text(self, **_: Any) -> str:
        return self._text


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [(413, PAGE, DeliveryRefused), (502, PAGE, TransportDown), (403, FORBIDDEN, DeliveryRefused)],
)
async def test_a_file_that_a_proxy_refuses_is_not_tried_for_ever(
    tmp_path: Path, status: int, text: str, error: type[Exception]
) -> None:
    """What waits behind it in its conversation would wait for a day."""
    path = tmp_path / "a"
    path.write_bytes(b"x")
    server: Any = Server(status, text)
    with pytest.raises(error):
        await media.upload(server, OutgoingFile(path, "a", "text/plain", 1), "", encrypted=False)
    with pytest.raises(error):
        await media.download(server, Attachment("a", "x", 1, '{"url": "mxc://h/a"}'), tmp_path / "b", 10)
