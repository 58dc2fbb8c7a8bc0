"""Calls to the Docker engine. The SDK blocks, so each call has a thread of a pool of our own, and a time limit.

An engine that does not answer is asked once more, shortly, before each further call: so a frozen one costs a person
seconds, not the sum of all time limits, and one that came back is used at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from gateway.engine.docker import address
from gateway.errors import EngineDown, EngineError

if TYPE_CHECKING:
    from docker import APIClient

T = TypeVar("T")

#: Seconds that one request may take, and that a ping may.
REQUEST_S = 10.0
PING_S = 2.0
#: The same for one that is known to be slow: twenty containers that start at once take their time.
PATIENCE_S = 30.0
#: Seconds that a build may be silent: an installation of many packages says nothing for long.
_BUILD_SILENCE_S = 1800.0
_THREADS = 40


def answers() -> bool:
    """Whether an engine answers a ping. Blocks for up to PING_S seconds; needs no SDK, which is slow to import."""
    try:
        connection = _Connection(address.find().path, PING_S)
        with contextlib.closing(connection):
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
    except (OSError, EngineError, http.client.HTTPException):
        return False


def look(path: str) -> dict[str, Any] | None:
    """What the engine says at a path of its API; None where there is nothing. Blocks for up to REQUEST_S seconds.

    It needs no SDK: a gateway that starts is ready sooner. Raises EngineError.
    """
    try:
        with contextlib.closing(_Connection(address.find().path, REQUEST_S)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            said = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _down(error) from error
    if response.status == http.client.NOT_FOUND:
        return None
    if response.status != http.client.OK:
        raise EngineError(f"the Docker engine: {said.get('message') or response.reason}")
    return dict(said)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """The engine, asynchronously. `work` functions get the SDK's low-level client and run on the pool."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        # A thread of its own: all of the pool's may be waiting for the engine that is asked after.
        self._pinging = ThreadPoolExecutor(1, thread_name_prefix="docker-ping")
        self._ping: asyncio.Future[bool] | None = None
        self._api: APIClient | None = None
        self._patient: APIClient | None = None
        self._making = threading.Lock()
        #: What is wrong with the engine; empty while it answers.
        self.trouble = ""
        self._info: dict[str, Any] | None = None

    async def call(self, work: Callable[[APIClient], T], within_s: float = REQUEST_S) -> T:
        """Do `work` with the engine; a longer limit lets each of its requests take longer, too.

        Raises:
            EngineDown: it does not answer (in time).
            EngineError: it refused; the text is its own.
        """
        do = self._do_patiently if within_s > REQUEST_S else self._do
        return await self._in_time(partial(do, work), within_s)

    async def _in_time(self, work: Callable[[], T], within_s: float) -> T:
        if self.trouble and not await self._answers():
            raise EngineDown(self.trouble)
        loop = asyncio.get_running_loop()
        try:
            result = await asyncio.wait_for(loop.run_in_executor(self._pool, work), within_s)
        except TimeoutError:
            self.trouble = f"the Docker engine did not answer within {within_s:.0f} s. {start_it()}."
            self._info = None
            raise EngineDown(self.trouble) from None
        except EngineDown as error:
            self.trouble = str(error)
            self._info = None
            raise
        self.trouble = ""
        return result

    async def info(self, *, afresh: bool = False) -> dict[str, Any]:
        """What the engine says of itself. It is kept until the engine was away: another may have come back.

        Raises EngineError.
        """
        if afresh or self._info is None:
            self._info = await self._in_time(lambda: look("/info") or {}, REQUEST_S)
        return self._info

    async def image(self, tag: str) -> dict[str, Any] | None:
        """What the engine says of an image; None where there is none of that name. Raises EngineError."""
        path = f"/images/{quote(tag, safe='/:@')}/json"
        return await self._in_time(lambda: look(path), REQUEST_S)

    async def cpus(self) -> int:
        """How many CPUs the engine has; 0 when it does not say. Raises EngineError."""
        return int((await self.info()).get("NCPU") or 0)

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
            # One whose engine has not said a word yet cannot be cut, and is not waited for.
            with contextlib.suppress(EngineError, TimeoutError):
                await asyncio.wait_for(asyncio.shield(work), PING_S)
            raise

    def close(self) -> None:
        """Let the threads end; one that waits for a frozen engine is not waited for."""
        for pool in (self._pool, self._pinging):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _answers(self) -> bool:
        """Whether the engine answers a ping; whoever asks while one is under way gets its answer."""
        if self._ping is None or self._ping.done():
            self._ping = asyncio.get_running_loop().run_in_executor(self._pinging, answers)
        return await asyncio.shield(self._ping)

    def _do(self, work: Callable[[APIClient], T]) -> T:
        with translated():
            return work(self._api or self._make())

    def _do_patiently(self, work: Callable[[APIClient], T]) -> T:
        def with_patience(api: APIClient) -> T:
            with self._making:
                self._patient = self._patient or connect(PATIENCE_S, api.api_version)
            return work(self._patient)

        return self._do(with_patience)

    def _make(self) -> APIClient:
        """Connect, once. Those who wait for a frozen engine wait together, not one after the other."""
        if not self._making.acquire(timeout=REQUEST_S):
            raise TimeoutError("timed out")
        try:
            self._api = self._api or connect(REQUEST_S)
            return self._api
        finally:
            self._making.release()


class _Build:
    """One build, on a client of its own, so that its connection can be cut from another thread."""

    def __init__(self, arguments: dict[str, Any], hear: Callable[[dict[str, Any]], None], within_s: float) -> None:
        self._arguments = arguments
        self._hear = hear
        self._within_s = within_s
        self._response: Any = None
        self._cancelled = threading.Event()

    def run(self, connected: APIClient) -> None:
        """Stream the build to its end. Raises EngineError when it was cancelled."""
        api = connect(REQUEST_S, connected.api_version)
        api.hooks["response"] = [self._keep]
        with contextlib.closing(api):
            try:
                # Without a time limit of its own, the SDK waits for a build for ever.
                limit = int(self._within_s)
                for message in api.build(**self._arguments, decode=True, use_config_proxy=False, timeout=limit):
                    self._hear(message)
            except Exception:
                if not self._cancelled.is_set():
                    raise
            finally:
                # Also where it is ours that failed: the engine ends a build that nobody listens to.
                if self._response is not None:
                    self._response.close()
        if self._cancelled.is_set():
            raise EngineError("the build was cancelled")

    def cancel(self) -> None:
        """Let the thread that reads find its connection at an end."""
        self._cancelled.set()
        if self._response is not None:
            with contextlib.suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
                self._response.raw.shutdown()

    def _keep(self, response: Any, *_: object, **__: object) -> None:
        self._response = response
        if self._cancelled.is_set():
            self.cancel()


def connect(timeout_s: float, version: str = "auto") -> APIClient:
    """A client of the SDK's; "auto" asks the engine for its version. Raises what the SDK raises."""
    from docker import APIClient

    return APIClient(base_url=address.find().address, version=version, timeout=int(timeout_s), max_pool_size=_THREADS)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the SDK and its HTTP libraries raise into errors of ours."""
    import requests
    import urllib3
    from docker import errors

    of_sdk = (errors.DockerException, errors.StreamParseError)
    # What breaks while an answer is streamed, as that of a build is, comes from below the HTTP library.
    of_http = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)
    try:
        yield
    except errors.APIError as error:
        raise EngineError(_sentence(error)) from error
    except (*of_sdk, *of_http) as error:
        if isinstance(error, of_sdk) and not _is_connection(error):
            raise EngineError(f"the Docker engine: {error}") from error
        raise _down(error) from error


def _down(error: BaseException) -> EngineDown:
    return EngineDown(f"the Docker engine does not answer ({_reason(error)}). {start_it()}.")


def start_it() -> str:
    """What to type where the engine does not answer, or is none of this host's."""
    try:
        return f"{address.find().start} and try again"
    except EngineError as error:
        return str(error)


def _is_connection(error: BaseException) -> bool:
    """Whether a general error of the SDK's is about the connection: it wraps the HTTP library's as text."""
    return "fetching server API version" in str(error)


def _reason(error: BaseException) -> str:
    """The innermost cause, in a few words."""
    text = str(error)
    for known in ("No such file or directory", "Connection refused", "Permission denied"):
        if known in text:
            return f"{known}: {address.find().path}"
    return "it takes too long" if "timed out" in text.lower() else text[:200]


def _sentence(error: Any) -> str:
    explanation = error.explanation or str(error)
    return explanation if isinstance(explanation, str) else str(explanation)
