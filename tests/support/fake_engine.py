"""A Docker engine in threads of this process that knows a few requests, and can freeze: connect, and hear nothing."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any, Literal, Self


class FakeEngine(ThreadingUnixStreamServer):
    """Use as a context manager, and give `address` as DOCKER_HOST."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, socket: Path) -> None:
        super().__init__(str(socket), _Handler)
        self.address = f"unix://{socket}"
        #: Unset while the engine is frozen.
        self.flows = threading.Event()
        self.flows.set()
        #: The paths that were asked for, frozen or not.
        self.asked: list[str] = []
        #: What a build says, one message each; then it goes on for ever, but for its end (`None`) or the engine's.
        self.build_says: list[dict[str, Any] | Literal["die"] | None] = []
        #: Its `SecurityOptions`.
        self.security = ["name=seccomp,profile=default"]
        #: A build began to be silent; and its client went away.
        self.building = threading.Event()
        self.cut = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self.flows.set()

    def freeze(self) -> None:
        self.flows.clear()

    def thaw(self) -> None:
        self.flows.set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has given up is none."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEngine

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.flows.wait()
        if self.path == "/_ping":
            self._answer(200, b"OK")
        elif self.path == "/version":
            self._answer(200, b'{"ApiVersion": "1.41", "MinAPIVersion": "1.24"}')
        elif self.path in ("/info", "/v1.41/info"):
            info = {"ServerVersion": "20.10", "ContainersRunning": 3, "NCPU": 4}
            self._answer(200, json.dumps({**info, "SecurityOptions": self.server.security}).encode())
        else:
            self._answer(404, b'{"message": "No such thing"}')

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        if not self.server.flows.is_set():
            self._wait_for_the_end()
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for message in self.server.build_says:
            if message == "die":
                self.close_connection = True
                return
            text = b"" if message is None else json.dumps(message).encode()
            self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")
            if message is None:
                return
        self._wait_for_the_end()

    def _wait_for_the_end(self) -> None:
        self.close_connection = True
        self.server.building.set()
        with contextlib.suppress(OSError):
            self.rfile.read(1)
        self.server.cut.set()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)
