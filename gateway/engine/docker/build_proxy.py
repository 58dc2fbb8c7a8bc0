"""What a build of layers gets of the operator's proxies: their addresses, or a relay's in their place."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.engine.container import RELAY_FOLDER, relay_container
from gateway.engine.docker import proxy_relay
from gateway.engine.docker.client import Client
from gateway.errors import BuildFailed, EngineError
from stacks.images import relay_program

if TYPE_CHECKING:
    from docker import APIClient

log = logging.getLogger(__name__)

#: The relay's first port, on the loopback of a build.
_FIRST_PORT = 3128
_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Way:
    """How a build gets out. `network`: the engine's name for its network; empty for the engine's own."""

    network: str = ""
    instead: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, given: Mapping[str, str]) -> dict[str, str]:
        """A layer's build arguments, with the relay's addresses where there is one."""
        return {**given, **{name: address for name, address in self.instead.items() if name in given}}


@dataclass(frozen=True, slots=True)
class BuildProxy:
    """The relays of one gateway. `folder`: where their sockets are; `image`: what they run in, the operator's base."""

    folder: Path
    image: str

    @contextlib.asynccontextmanager
    async def open(
        self,
        client: Client,
        instance: str,
        arguments: Mapping[str, str],
        owner: tuple[int, int],
        pull: Callable[[], Awaitable[None]],
    ) -> AsyncIterator[Way]:
        """A way out for builds with these arguments, for as long as the context lasts.

        `pull` fetches the image that relays run in. Raises BuildFailed, EngineError.
        """
        behind = proxy_relay.behind_relay(arguments)
        if not behind:
            yield Way()
            return
        await pull()
        proxies = list(dict.fromkeys(behind.values()))
        folder = self.folder / f"relay-{secrets.token_hex(2)}"
        async with contextlib.AsyncExitStack() as stack:
            try:
                folder.mkdir(mode=0o700)
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                if os.geteuid() == 0:
                    os.chown(folder, *owner)
                for number, proxy in enumerate(proxies):
                    await stack.enter_async_context(proxy_relay.serve(proxy, folder / str(number), owner))
            except OSError as error:
                raise BuildFailed(f"the relay to your proxy could not be made in {folder}: {error.strerror}") from error
            command = [relay_program(), RELAY_FOLDER, str(_FIRST_PORT), str(len(proxies))]
            config = relay_container(self.image, instance, owner, folder, command)
            made = await client.call(lambda api: str(api.create_container_from_config(config)["Id"]))
            stack.push_async_callback(_remove, client, made)
            said = await client.call(partial(_start, container_id=made), _START_S)
            if said != "listening":
                raise BuildFailed(f"the relay to your proxy did not start in {self.image}: {said or 'it said nothing'}")
            ports = {proxy: _FIRST_PORT + number for number, proxy in enumerate(proxies)}
            yield Way(f"container:{made}", {name: proxy.seen_at(ports[proxy]) for name, proxy in behind.items()})


def _start(api: APIClient, container_id: str) -> str:
    """Start a relay; its first line."""
    api.start(container_id)
    with contextlib.closing(api.logs(container_id, stream=True, follow=True)) as pieces:
        text = b""
        for piece in pieces:
            text += piece
            if b"\n" in text:
                break
    return text.partition(b"\n")[0].decode(errors="replace").strip()


async def _remove(client: Client, container_id: str) -> None:
    try:
        await client.call(lambda api: api.remove_container(container_id, force=True, v=True), _START_S)
    except EngineError as error:  # what is left is removed when leftovers are
        log.warning("the relay %s stays for now: %s", container_id[:12], error)
