"""Calls to the Docker engine. The SDK blocks, so each call has a thread of a pool of our own, and a time limit.

An engine that does not answer is asked once more, shortly, before each further call: so a frozen one costs a person
seconds, not the sum of all time limits, and one that came back is used at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.errors import EngineDown, EngineError

if TYPE_CHECKING:
    from docker import APIClient

T = TypeVar("T")

#: Seconds that one request may take, and that a ping may.
REQUEST_S = 10.0
PING_S = 2.0
#: Seconds that a build may be silent: an installation of many packages says nothing for long.
_BUILD_SILENCE_S = 1800.0
_THREADS = 40
_DEFAULT = "unix:///var/run/docker.sock"

START_IT = "Start it (`systemctl start docker`) and try again"


def address() -> str:
    """The engine's address. Raises EngineError for one on another machine: it could not mount this one's folders."""
    found = os.environ.get("DOCKER_HOST", _DEFAULT)
    if not found.startswith("unix://"):
        raise EngineError(
            f"DOCKER_HOST is {found}, but huskies needs an engine of this host: unset DOCKER_HOST, "
            "or set engine.kind to process"
        )
    return found


def answers() -> bool:
    """Whether an engine answers a ping. Blocks for up to PING_S seconds; needs no SDK, which is slow to import."""
    try:
        connection = _Connection(address().removeprefix("unix://"))
        with contextlib.closing(connection):
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
    except (OSError, EngineError, http.client.HTTPException):
        return False


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PING_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PING_S)
        self.sock.connect(self._path)


class Client:
    """The engine, asynchronously. `work` functions get the SDK's low-level client and run on the pool."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._api: APIClient | None = None
        self._making = threading.Lock()
        #: What is wrong with the engine; empty while it answers.
        self.trouble = ""

    async def call(self, work: Callable[[APIClient], T], within_s: float = REQUEST_S) -> T:
        """Do `work` with the engine.

        Raises:
            EngineDown: it does not answer (in time).
            EngineError: it refused; the text is its own.
        """
        loop = asyncio.get_running_loop()
        if self.trouble and not await loop.run_in_executor(self._pool, answers):
            raise EngineDown(self.trouble)
        try:
            result = await asyncio.wait_for(loop.run_in_executor(self._pool, self._do, work), within_s)
        except TimeoutError:
            self.trouble = f"the Docker engine did not answer within {within_s:.0f} s. {START_IT}."
            raise EngineDown(self.trouble) from None
        except EngineDown as error:
            self.trouble = str(error)
            raise
        self.trouble = ""
        return result

    async def build(
        self, arguments: dict[str, Any], hear: Callable[[dict[str, Any]], None], within_s: float = _BUILD_SILENCE_S
    ) -> None:
        """Run a build; `hear` gets each of its messages, on the build's thread. Cancelling it ends the build.

        `within_s`: seconds that the build may be silent. Raises EngineError.
        """
        build = _Build(arguments, hear, within_s)
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._do, build.run)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            build.cancel()
            with contextlib.suppress(EngineError):
                await work
            raise

    def close(self) -> None:
        """Let the threads end; one that waits for a frozen engine is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _do(self, work: Callable[[APIClient], T]) -> T:
        with translated():
            with self._making:
                if self._api is None:
                    self._api = connect(REQUEST_S)
            return work(self._api)


class _Build:
    """One build, on a client of its own, so that its connection can be cut from another thread."""

    def __init__(self, arguments: dict[str, Any], hear: Callable[[dict[str, Any]], None], within_s: float) -> None:
        self._arguments = arguments
        self._hear = hear
        self._within_s = within_s
        self._response: Any = None
        self._cancelled = threading.Event()

    def run(self, _: APIClient) -> None:
        """Stream the build to its end. Raises EngineError when it was cancelled."""
        api = connect(self._within_s)
        api.hooks["response"] = [self._keep]
        with contextlib.closing(api):
            try:
                for message in api.build(**self._arguments, decode=True, use_config_proxy=False):
                    self._hear(message)
            except Exception:
                if not self._cancelled.is_set():
                    raise
        if self._cancelled.is_set():
            raise EngineError("the build was cancelled")

    def cancel(self) -> None:
        """Cut the connection; the engine ends a build that nobody listens to."""
        self._cancelled.set()
        if self._response is not None:
            with contextlib.suppress(OSError, ValueError):
                self._response.raw.shutdown()

    def _keep(self, response: Any, *_: object, **__: object) -> None:
        self._response = response
        if self._cancelled.is_set():
            self.cancel()


def connect(timeout_s: float) -> APIClient:
    """A client of the SDK's. Raises what the SDK raises."""
    from docker import APIClient

    return APIClient(base_url=address(), version="auto", timeout=int(timeout_s), max_pool_size=_THREADS)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the SDK and its HTTP library raise into errors of ours."""
    import requests
    from docker import errors

    try:
        yield
    except errors.APIError as error:
        raise EngineError(_sentence(error)) from error
    except (requests.exceptions.RequestException, errors.DockerException, OSError) as error:
        if isinstance(error, errors.DockerException) and not _is_connection(error):
            raise EngineError(f"the Docker engine: {error}") from error
        raise EngineDown(f"the Docker engine does not answer ({_reason(error)}). {START_IT}.") from error


def _is_connection(error: BaseException) -> bool:
    """Whether a general error of the SDK's is about the connection: it wraps the HTTP library's as text."""
    return "fetching server API version" in str(error)


def _reason(error: BaseException) -> str:
    """The innermost cause, in a few words."""
    text = str(error)
    for known in ("No such file or directory", "Connection refused", "Permission denied"):
        if known in text:
            return f"{known}: {address().removeprefix('unix://')}"
    return "it takes too long" if "timed out" in text.lower() else text[:200]


def _sentence(error: Any) -> str:
    explanation = error.explanation or str(error)
    return explanation if isinstance(explanation, str) else str(explanation)
