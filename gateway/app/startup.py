"""What comes before a gateway: the configuration as a whole, and the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from gateway.config import Settings
from gateway.config.settings import host_environment
from gateway.config.state_dir import cli_socket, instance
from gateway.engine import Engine, docker
from gateway.engine.build_times import BuildTimes
from gateway.engine.container import Resources
from gateway.errors import ConfigError
from gateway.store import Store, conversations, projects
from gateway.wire import MAX_SOCKET_PATH

log = logging.getLogger(__name__)


async def tell_of_another_state(store: Store, address: Path | str, state_dir: Path) -> None:
    """Tell whoever named a new database of the state that they have in SQLite."""
    file = state_dir / ".gateway" / "huskies.db"
    if isinstance(address, Path) or not await asyncio.to_thread(file.exists):
        return
    if await store.read(conversations.are_none):
        log.warning(
            "gateway.database is new and empty, and the state in %s is not used; to copy it, end this gateway and "
            "type: huskies migrate",
            file,
        )


def check_senders(settings: Settings, transports: Collection[str]) -> None:
    """Refuse an entry whose platform does not exist: it could never match anybody. Raises ConfigError."""
    lists = {
        "access.operators": settings.access.operators,
        "access.members": settings.access.members,
        "people": list(settings.people),
    }
    for key, senders in lists.items():
        for sender in senders:
            platform = sender.partition(":")[0]
            if platform not in transports:
                import difflib  # only for a mistake in the lists

                near = difflib.get_close_matches(platform, transports, 1, 0.6)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(transports))}"
                raise ConfigError(f"{key}: there is no platform {platform} in “{sender}”; {hint}")


def check(settings: Settings) -> None:
    """What no single key shows. Raises ConfigError."""
    socket = cli_socket(settings.gateway.state_dir)
    if len(bytes(socket)) > MAX_SOCKET_PATH:
        raise ConfigError(
            f"gateway.state_dir is too long: the socket {socket} would have more than {MAX_SOCKET_PATH} bytes; "
            "choose a shorter folder"
        )
    if "whatsapp" in settings.remote_transports and not settings.gateway.public_url:
        raise ConfigError(
            "transports.whatsapp needs gateway.public_url: the https:// address at which Twilio reaches "
            f"{settings.gateway.listen}, e.g. https://bot.example.org"
        )


async def choose_engine(settings: Settings, store: Store) -> Engine:
    """The engine that runs sleds: Docker where one answers, is installed, or has projects already.

    One that is installed and does not answer is waited for: agents never run without isolation because of that.
    Raises ConfigError where there is no isolation at all for people elsewhere.
    """
    kind = settings.engine.kind
    if kind == "auto":
        kind = await _found(store)
    if kind == "docker":
        limits = Resources(settings.engine.memory, settings.engine.cpus, settings.engine.pids)
        folder = settings.gateway.state_dir / ".gateway"
        proxy = docker.BuildProxy(folder, settings.build.base_image)
        times = BuildTimes(folder / "build-times.json")
        return docker.DockerEngine(instance(settings.gateway.state_dir), limits, proxy, times)
    remote = settings.remote_transports
    if remote and not settings.engine.allow_unsandboxed:
        raise ConfigError(
            f"the process engine has no isolation, and {', '.join(remote)} lets people elsewhere use it. "
            "Start Docker (`systemctl start docker`), or set engine.allow_unsandboxed = true if that is what you want"
        )
    from gateway.engine.process import ProcessEngine  # where there is Docker, nobody needs it

    return ProcessEngine(host_environment())


async def _found(store: Store) -> Literal["docker", "process"]:
    """What is there to run sleds on."""
    if await asyncio.to_thread(docker.answers):
        return "docker"
    looked_at = docker.looked_at()
    if docker.is_wanted() or await store.read(projects.has_container):
        log.warning(
            "no Docker engine answers; looked at: %s. Projects wait for it; with engine.kind = process they run "
            "without isolation",
            looked_at,
        )
        return "docker"
    log.info("there is no Docker engine; looked at: %s", looked_at)
    return "process"


def agent_line(settings: Settings, chosen: str) -> str:
    """One line about the agent that answers, by its name."""
    if chosen == "claude":
        return f"Claude answers{f' ({settings.agent.model})' if settings.agent.model else ''}."
    return (
        "The scripted agent answers: it only repeats what you write. For Claude, type "
        "`huskies secrets set all api_key` in a terminal, or set agent.api_key in the configuration."
    )
