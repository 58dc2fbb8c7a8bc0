"""Containers: started, ended, looked at. What one is like is decided in `gateway.engine.container`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.engine.build_times import BuildTimes
from gateway.engine.container import (
    LABEL_INSTANCE,
    LABEL_PROJECT,
    STOP_S,
    Resources,
    container,
    container_name,
    labels,
    network,
    network_name,
)
from gateway.engine.docker.build_proxy import BuildProxy
from gateway.engine.docker.client import Client
from gateway.engine.docker.images import Images
from gateway.engine.engine import LogOf, Prepared
from gateway.engine.spec import SledSpec
from gateway.errors import EngineDown, EngineError
from stacks.images import ImagePlan

if TYPE_CHECKING:
    from docker import APIClient

log = logging.getLogger(__name__)

#: Seconds until a container is gone that somebody else is already removing.
REMOVE_S = 30
#: Seconds until a container has started, or ended: on a machine that starts twenty at once.
_START_S = 90.0
#: An engine counts a log's last lines before it picks those of one stream.
_LOG_LINES = 5000
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
#: What sshd calls the process of a connection that let somebody in; newer ones say `sshd-session`.
_SSH_SESSION = re.compile(r"sshd(-session)?: \S+@")


class DockerEngine:
    """See `gateway.engine.Engine`.

    `instance` tells this gateway's containers and images from another's; `proxy` is how builds get out, and
    `times` what is known of earlier ones.
    """

    kind = "docker"
    isolated = True

    def __init__(self, instance: str, limits: Resources, proxy: BuildProxy, times: BuildTimes | None = None) -> None:
        self._instance = instance
        self._limits = limits
        self._client = Client()
        self._networking = threading.Lock()
        self._images = Images(self._client, instance, limits, times or BuildTimes(None), proxy)

    async def check(self) -> str:
        info = await self._client.info(afresh=True)
        _refuse_other_users(info)
        return f"docker {info.get('ServerVersion', '')}, containers running: {info.get('ContainersRunning', 0)}"

    async def has_base(self, plan: ImagePlan) -> bool:
        return await self._client.image(plan.layers[0].tag) is not None

    async def has_image(self, tag: str) -> bool:
        return await self._client.image(tag) is not None

    async def prepare(self, spec: SledSpec, plan: ImagePlan, said: Callable[[str], None]) -> Prepared:
        # Perhaps nobody has asked for a check before; and what is made here could not write its own folders.
        _refuse_other_users(await self._client.info())
        return await self._images.ensure(spec, plan, said)

    async def start(self, spec: SledSpec) -> None:
        limits = self._limits.of(spec).within(await self._client.cpus())
        await self._client.call(lambda api: self._start(api, spec, limits), _START_S)

    async def stop(self, spec: SledSpec) -> None:
        await self._client.call(lambda api: self._stop(api, spec), _START_S)

    async def is_running(self, spec: SledSpec) -> bool:
        found = await self._client.call(lambda api: _inspect(api, self._name(spec)))
        return found is not None and self._is_ours(found, spec) and _runs(found)

    async def people_inside(self, spec: SledSpec) -> int:
        def read(api: APIClient) -> list[list[str]]:
            found = _inspect(api, self._name(spec))
            return list(api.top(self._name(spec), "-eo pid,args")["Processes"] or []) if found and _runs(found) else []

        # One per connection; what listens is called otherwise.
        return sum(_SSH_SESSION.match(args) is not None for _, args in await self._client.call(read))

    async def reaches(self, spec: SledSpec, address: str, port: int) -> bool:
        command = ["/opt/huskies/venv/bin/python", "-I", "-c", _CONNECT, address, str(port)]

        def look(api: APIClient) -> bool:
            found = _inspect(api, self._name(spec))
            if found is None or not _runs(found):
                return False
            tried = api.exec_create(self._name(spec), command)["Id"]
            api.exec_start(tried)  # until it has ended, as its output is awaited
            return bool(api.exec_inspect(tried)["ExitCode"] == 0)

        return await self._client.call(look)

    async def logs(self, spec: SledSpec, of: LogOf, lines: int) -> str:
        def read(api: APIClient) -> bytes:
            if _inspect(api, self._name(spec)) is None:
                return b""
            return api.logs(self._name(spec), stdout=of == "agent", stderr=of == "sled", tail=_LOG_LINES)

        text = (await self._client.call(read)).decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    async def reap(self, projects: Callable[[], Collection[str]], tags: Callable[[], Collection[str]]) -> list[str]:
        mine = {"label": f"{LABEL_INSTANCE}={self._instance}"}
        there = await self._client.call(lambda api: api.containers(all=True, filters=mine))
        living = set(projects())
        removed, failed = [], []
        for found in there:
            project = found["Labels"].get(LABEL_PROJECT)
            # One without a project is a check under way, or one that a killed gateway left.
            orphan = project not in living if project else not self._images.busy
            if not orphan:
                continue
            name = found["Names"][0].lstrip("/") if found["Names"] else found["Id"][:12]
            try:
                await self._client.call(partial(_remove, container_id=found["Id"]), _START_S)
            except EngineDown:
                raise
            except EngineError as error:
                log.info("the container %s stays: %s", name, error)
                failed.append(f"the container {name} could not be removed: {error}")
            else:
                removed.append(name)
        try:
            removed += await self._images.reap(tags)
        except EngineDown:
            raise
        except EngineError as error:
            failed.append(str(error))
        if not living and not projects():
            await self._client.call(self._remove_network)
        if failed:
            raise EngineError("; ".join(failed))
        return removed

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)

    def _name(self, spec: SledSpec) -> str:
        return container_name(self._instance, spec.project)

    def _is_ours(self, found: dict[str, Any], spec: SledSpec) -> bool:
        """Whether a container of the project's name is also of its making."""
        return labels(spec, self._instance).items() <= (found["Config"]["Labels"] or {}).items()

    def _start(self, api: APIClient, spec: SledSpec, limits: Resources) -> None:
        name = self._name(spec)
        found = _inspect(api, name)
        if found is not None and _runs(found) and self._is_ours(found, spec):
            return
        if found is not None:
            _remove(api, found["Id"])
        if not spec.source.is_dir():
            raise EngineError(f"the source {spec.source} does not exist")
        made = api.create_container_from_config(container(spec, self._instance, limits), name)["Id"]
        try:
            self._start_in_network(api, made)
        except BaseException as error:
            _remove(api, made)
            if "port is already allocated" in str(error) or "address already in use" in str(error):
                raise EngineError(
                    f"port {spec.ssh_port} of 127.0.0.1 is taken by another program; "
                    f"`ss -ltnp 'sport = :{spec.ssh_port}'` shows which. End it, then type `up {spec.project}`."
                ) from error
            raise

    def _start_in_network(self, api: APIClient, container_id: str) -> None:
        """Start a container; its network is made when it is missing, by whoever comes first."""
        from docker import errors

        try:
            api.start(container_id)
        except errors.NotFound as error:
            if "network" not in str(error):
                raise
            self._make_network(api)
            api.start(container_id)

    def _make_network(self, api: APIClient) -> None:
        """One at a time: an engine that is asked twice at once makes two networks of the same name."""
        with self._networking:
            if not api.networks(names=[network_name(self._instance)]):
                api.create_network(**network(self._instance))

    def _stop(self, api: APIClient, spec: SledSpec) -> None:
        found = _inspect(api, self._name(spec))
        if found is None:
            return
        if found["State"]["Running"]:
            if found["State"]["Paused"]:  # a paused one takes no signal
                api.unpause(found["Id"])
            api.stop(found["Id"], timeout=STOP_S)
        _remove(api, found["Id"])
        if _inspect(api, self._name(spec)) is not None:
            raise EngineError(f"the container of {spec.project} could not be removed")

    def _remove_network(self, api: APIClient) -> None:
        from docker import errors

        with contextlib.suppress(errors.APIError):  # not there, or in use again
            api.remove_network(network_name(self._instance))


def _refuse_other_users(info: dict[str, Any]) -> None:
    """Raises EngineError for an engine whose users are not this host's."""
    options = " ".join(info.get("SecurityOptions") or [])
    for mode in ("rootless", "userns"):
        if f"name={mode}" in options:
            raise EngineError(
                f"this Docker engine runs with {mode}: in its containers this host's folders belong to nobody. "
                "Point DOCKER_HOST at an engine without it, or set engine.kind to process"
            )


def _inspect(api: APIClient, name: str) -> dict[str, Any] | None:
    from docker import errors

    try:
        return dict(api.inspect_container(name))
    except errors.NotFound:
        return None


def _runs(found: dict[str, Any]) -> bool:
    return bool(found["State"]["Running"]) and not found["State"]["Restarting"]


def _remove(api: APIClient, container_id: str) -> None:
    from docker import errors

    with contextlib.suppress(errors.NotFound):
        try:
            api.remove_container(container_id, force=True, v=True)
        except errors.APIError as error:
            if error.status_code != 409 or "already in progress" not in str(error):
                raise
            api.wait(container_id, timeout=REMOVE_S, condition="removed")
